# The tutorial from a clone: `make tutorial` and `make test` need Python 3.11 to 3.14, make and git.

SHELL := /bin/bash
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# Processes of tests and of notebooks; each notebook takes up to 2 GB, the last one 4 GB, alone.
JOBS ?= 2
PARALLEL := --numprocesses $(JOBS) --dist loadgroup --no-loadscope-reorder

PAIRS := $(or $(DATA),tour)
ifeq ($(filter tour real rendered,$(PAIRS)),)
$(error DATA must be tour, real or rendered, got "$(DATA)"; LDF_DATA_DIR=DIR names your own pairs)
endif

.DEFAULT_GOAL := help
.PHONY: help install tutorial notebooks lab test quick lint types lock clean distclean

help: ## say what the commands do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 chooses the Python for .venv; LDF_DATA_DIR=DIR names a folder of sets;"
	@echo "  JOBS=1 make test (or tutorial) takes less memory than the two processes of the default;"
	@echo "  DATA=rendered make tutorial fetches nothing; by default a few real pairs come first"
	@echo "  (at most 15 MB); DATA=real fetches the small public sets whole (about 43 MB)"

install: $(STAMP) ## create .venv and install (the others do it when needed)

tutorial: $(STAMP) ## run every notebook; pages, network, fused pictures, metrics in runs/tutorial
	$(RUN) -m tools.notebooks tutorial --data $(PAIRS) --jobs $(JOBS)

notebooks: $(STAMP) ## execute the committed notebooks in place, on rendered pairs
	$(RUN) -m tools.cells
	$(RUN) -m tools.notebooks refresh

lab: $(STAMP) ## open the notebooks in JupyterLab
	@for name in LDF_DATA_DIR LDF_WEIGHTS_DIR; do \
	  if [ -n "$${!name}" ]; then export "$$name=$$(cd "$${!name}" && pwd)" || exit 1; fi; \
	done; \
	root=; if [ "$$(id -u)" = 0 ]; then \
	  echo "You are root, which JupyterLab refuses by default: starting it with --allow-root"; \
	  root=--allow-root; \
	fi; \
	export LDF_RUN_DIR="$${LDF_RUN_DIR:-$(CURDIR)/runs/tutorial}"; \
	$(RUN) -m jupyter lab --notebook-dir=notebooks $$root

test: $(STAMP) ## run all tests, the notebooks included
	$(RUN) -m pytest $(PARALLEL)

quick: lint ## the loop while working: style, imports, and the tests that are fast
	$(RUN) -m pytest $(PARALLEL) -q -m "not notebook and not slow"

lint: $(STAMP) ## check style and format of code and notebooks, and that imports go one way
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-cache --no-logo

types: $(STAMP) ## check the types of the packages
	$(RUN) -m mypy

lock: ## write constraints.txt: a tested version of every package, for each Python and system
	$(RUN) -m pip install --quiet -c constraints.txt uv
	@{ sed '/^[^#]/,$$d' constraints.txt; $(RUN) -m uv pip compile --quiet pyproject.toml \
	  --all-extras --universal --python-version 3.11 --no-header --no-annotate \
	  -c constraints.txt; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove what runs and tools have left, but not .venv
	rm -rf runs build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	  -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

# The stamp is written last: an installation that broke off is done again.
$(STAMP): pyproject.toml constraints.txt tools/install.sh
	@PYTHON="$(PYTHON)" GOAL="$(MAKECMDGOALS)" bash tools/install.sh
