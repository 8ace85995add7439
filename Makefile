PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/.peers

.PHONY: demo test slow bench screenshot check clean

demo: $(INSTALLED)  ## compress the embedded demo model and show what it gained and cost
	$(VENV)/bin/qface compress demo --out demo-out --force

test: $(INSTALLED)  ## the fast tests, the linter and the type checker
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -q

slow: $(INSTALLED)  ## the tests that take long or need ../shared
	$(VENV)/bin/pytest -q -m "slow or shared"

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
