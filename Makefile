PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: demo test slow check clean

demo: $(INSTALLED)  ## compress the embedded demo model and show what it gained and cost
	$(VENV)/bin/qface compress demo --out demo-out --force

test: $(INSTALLED)  ## the fast tests, the linter and the type checker
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -q

slow: $(INSTALLED)  ## the tests that take long or need ../shared
	$(VENV)/bin/pytest -q -m "slow or shared"

clean:
	rm -rf $(VENV) demo-out demo-out.partial build *.egg-info

$(INSTALLED): pyproject.toml setup.cfg
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
