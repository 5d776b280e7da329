# Works on a fresh machine with Python 3.11 or later, git and make: whatever is missing is made first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ENVIRONMENT := .venv/.installed
# One thread per worker: the workers are what keeps the cores busy.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=8

.PHONY: help demo test test-slow check bench format clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(ENVIRONMENT)  ## segment a generated patient with two sequences missing, by the shipped weights
	$(BIN)/python examples/demo.py --out demo

test: $(ENVIRONMENT)  ## the test suite, without what is marked slow or gpu
	$(PYTEST)

test-slow: $(ENVIRONMENT)  ## the tests that are marked slow or gpu
	$(PYTEST) -m "slow or gpu" --timeout=1800

check: $(ENVIRONMENT)  ## lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(ENVIRONMENT)  ## what the speed claims rest on: all of benchmarks/, numbers and tables in bench/
	$(BIN)/python benchmarks/run.py --out bench

format: $(ENVIRONMENT)  ## bring the code into its common form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:  ## remove the environment and all that is generated
	rm -rf .venv demo bench build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# torch before all that needs it, so that a CPU build is kept where one is offered; setuptools is what builds the package.
$(ENVIRONMENT): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "anymri needs Python 3.11 or later; set PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $$(grep -E '^(setuptools|torch)==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@
