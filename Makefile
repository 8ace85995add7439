PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/.peers
PYTEST := $(VENV)/bin/pytest -q --numprocesses 2 --dist worksteal --durations 10

# What the tests may take of the processors, with all that they start: about half as much again as they took when this
# was written, since processors differ: the fast ones took 330 on one and 500 on the slowest so far, the slow ones 3,000
# where another gave 2,000, those of ARM 600. A run that takes more fails.
FAST_CPU_SECONDS := 650
SLOW_CPU_SECONDS := 5400
ARM_CPU_SECONDS := $(if $(QFACE_ARM_ALL),4800,1000)

.PHONY: demo test lint types fast slow arm bench screenshot clean

demo: $(INSTALLED)  ## compress the embedded demo model and show what it gained and cost
	$(VENV)/bin/qface compress demo --out demo-out --force

test: $(INSTALLED)  ## the fast tests, the linter and the type checker, side by side
	@echo "Style, types and tests run side by side; each says what it found when it is done."
	@$(MAKE) --no-print-directory --keep-going --jobs=3 --output-sync=target lint types fast

lint: $(INSTALLED)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: $(INSTALLED)
	$(VENV)/bin/mypy

fast: $(INSTALLED)
	$(PYTEST) --cpu-budget $(FAST_CPU_SECONDS)

slow: $(INSTALLED)  ## the tests that take long or need ../shared
	$(PYTEST) --cpu-budget $(SLOW_CPU_SECONDS) -m "(slow or shared) and not alone"
	$(VENV)/bin/pytest -q -m alone

arm: $(INSTALLED)  ## the files for ARM on aarch64, under an emulator, in a root that is built in the user's cache folder
	$(VENV)/bin/python tests/arm/arm_root.py
	$(PYTEST) --cpu-budget $(ARM_CPU_SECONDS) -m arm tests/arm

bench: $(PEERS)  ## compare with what else there is; BENCH=--quick for the demo model in minutes
	OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python benchmarks/head_to_head.py $(BENCH)

screenshot: $(INSTALLED)  ## the picture of a report that README.md shows: docs/report.png
	$(VENV)/bin/python benchmarks/screenshot.py docs/report.png

clean:
	rm -rf $(VENV) bench-out demo-out demo-out.partial build *.egg-info

$(INSTALLED): pyproject.toml setup.cfg
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(PEERS): $(INSTALLED)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@
