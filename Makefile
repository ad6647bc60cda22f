# Everything a fresh machine needs is Python 3.11 or newer with pip, and make.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test test-slow coverage check format clean

help:
	@echo "make demo       set up and show the toolkit on scikit-learn's digits (about a minute after the set-up)"
	@echo "make test       set up, check, and run the tests"
	@echo "make test-slow  the long sweeps"
	@echo "make coverage   try all architectures of timm and torchvision (hours; goes on where it was stopped)"
	@echo "make check      lint, formatting, types"
	@echo "make format     format the code"
	@echo "make clean      remove the set-up and what the demo wrote"

demo: $(VENV)/demo.stamp
	$(RUN) examples/digits/demo.py

test: check
	$(RUN) -m pytest --numprocesses 2 --dist loadfile $(TESTS)

test-slow: $(VENV)/dev.stamp
	$(RUN) -m pytest -m slow $(TESTS)

coverage: $(VENV)/dev.stamp
	$(RUN) benchmarks/coverage.py --all --jobs 2
	$(RUN) benchmarks/coverage.py --library torchvision --jobs 2 --docs

check: $(VENV)/dev.stamp
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/dev.stamp
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV) out build *.egg-info

# A machine whose Python has pip but not the module that puts pip into a new environment takes the second way.
$(VENV)/bin/python:
	@echo "setting up $(VENV)"
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --without-pip --clear $(VENV) && $(PYTHON) -m pip --python $(RUN) install pip; }

$(VENV)/demo.stamp: $(INPUTS) | $(VENV)/bin/python
	@echo "installing tsdistill and its dependencies (once; torch is large)"
	$(INSTALL) --editable ".[demo]"
	@touch $@

$(VENV)/dev.stamp: $(INPUTS) | $(VENV)/bin/python
	@echo "installing tsdistill, its dependencies and the development tools (once; torch is large)"
	$(INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/demo.stamp
