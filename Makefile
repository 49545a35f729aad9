# Everything a contributor or a newcomer runs. `make` alone lists it.
#
# Every target makes its own installation in .venv when there is none or when the dependencies have changed, and costs
# nothing when it is up to date. Paths are relative, so that a space in the name of the folder does no harm.

# The Python that .venv is made from: make PYTHON=python3.12 test
PYTHON ?= python3
# Test processes at a time.
JOBS ?= 2
# More arguments for pytest or `jtr demo`: make test ARGS="-k scenarios"
ARGS ?=

VENV := .venv
IN_VENV := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
LOWEST := .venv-lowest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test test-all test-lowest mutation lint format type-check notebooks docs docs-serve bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## install everything into .venv (the other targets do this by themselves)
	@echo "installed in $(VENV)"

demo: $(INSTALLED) ## train JTR on generated rooms for a few minutes; ends with a table and a picture
	@$(IN_VENV) -m jtr_lightning demo $(ARGS)

# One thread per test process: more of them fight over the cores and make the tests several times slower.
test: $(INSTALLED) ## the tests, without those marked slow
	@OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-all: $(INSTALLED) ## every test, with the slowest of them and the branches that they reach
	@OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -n $(JOBS) --cov --durations=25 --durations-min=5 $(ARGS)

test-lowest: $(LOWEST)/.installed ## the fast tests with the lowest versions that setup.cfg allows, in .venv-lowest
	@OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

mutation: $(INSTALLED) ## change the code in small ways and count what the tests notice; takes long, ARGS="--share 0.1" less
	@OMP_NUM_THREADS=1 $(IN_VENV) scripts/mutation --jobs $(JOBS) $(ARGS)

lint: $(INSTALLED) ## check style and formatting
	@$(IN_VENV) -m ruff check .
	@$(IN_VENV) -m ruff format --check .

format: $(INSTALLED) ## mend what can be mended of style and formatting
	@$(IN_VENV) -m ruff check --fix-only .
	@$(IN_VENV) -m ruff format .

type-check: $(INSTALLED) ## check the types of src
	@$(IN_VENV) -m mypy

notebooks: $(INSTALLED) ## run every notebook
	@OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -n $(JOBS) --nbmake notebooks $(ARGS)

# The theme announces its successor at every build.
docs docs-serve: export NO_MKDOCS_2_WARNING := 1
# The pages run `jtr` and show what it prints.
docs docs-serve: export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

docs: $(INSTALLED) ## build the documentation into site/; open site/index.html. A warning is an error
	@OMP_NUM_THREADS=1 $(IN_VENV) -m mkdocs build --strict --quiet $(ARGS)
	@echo "documentation is in site/index.html"

docs-serve: $(INSTALLED) ## show the documentation in a browser, built again whenever a page changes
	@$(IN_VENV) -m mkdocs serve $(ARGS)

bench: $(INSTALLED) ## run every short benchmark (benchmarks/bench_*.py)
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(IN_VENV) "$$file" || exit 1; done

clean: ## remove .venv, .venv-lowest, site and every cache; runs and datasets stay
	rm -rf $(VENV) $(LOWEST) build dist site src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov mutants.csv
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Read again only when the dependencies or their pins may have changed.
$(INSTALLED): setup.cfg pyproject.toml scripts/install.sh
	@PYTHON="$(PYTHON)" sh scripts/install.sh $(VENV)
	@touch $(INSTALLED)

$(LOWEST)/.installed: setup.cfg pyproject.toml scripts/install_lowest.sh
	@PYTHON="$(PYTHON)" sh scripts/install_lowest.sh $(LOWEST)
	@touch $@
