# Each target does its own set-up: a bare machine needs Python 3.11+, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test check bench clean setup

setup: $(READY)

# One stamp for all tools: what the extension and the metadata are made from decides its age.
$(READY): pyproject.toml setup.py $(wildcard hashring/*.pyx hashring/*.pxd hashring/compat/*.pyx)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group test --group check --group docs --group bench
	touch $@

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info hashring/_engine.c hashring/*.so
