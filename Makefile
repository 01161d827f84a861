# The two commands: `make reproduce` and `make test`. Both install first what they need.
#
# ARGS=...    more options for the command behind the target:
#             make reproduce ARGS="--seed 7 --out other", make test ARGS="tests/lens -x"
# WHEELS=...  one more wheel index (URL or folder) for pip, for machines whose index offers only
#             CUDA builds of PyTorch: make reproduce WHEELS=https://download.pytorch.org/whl/cpu

# Relative, so that a path with blanks does no harm.
PYTHON := .venv/bin/python
ARGS :=
WHEELS :=
export WHEELS

.PHONY: help install reproduce test lint bench docs

help:
	@echo "make install     make .venv with everything at the versions of constraints.txt"
	@echo "make reproduce   measure the papers' claims at scale quick and write report/index.html"
	@echo "make test        format, lint, types, layers, tests with strict docs"
	@echo "make lint        all of make test but the tests"
	@echo "make bench       install the peers and run every script of benchmarks/"
	@echo "make docs        build the documentation into site/"

install:
	@sh tools/install.sh

reproduce: install
	$(PYTHON) -m workingpapers reproduce --scale quick $(ARGS)

lint: install
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo

test: lint
	$(PYTHON) -m pytest -n 2 $(ARGS)

bench:
	@sh tools/install.sh bench
	set -e; for script in $(filter-out benchmarks/paired.py,$(wildcard benchmarks/*.py)); do \
		$(PYTHON) $$script $(ARGS); \
	done

docs: install
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
