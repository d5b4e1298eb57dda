# The tutorial from a clone: `make tutorial` and `make test` need Python 3.11 to 3.13, make and git.

SHELL := /bin/bash
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

ifneq ($(filter-out real,$(DATA)),)
$(error DATA is "real" or not set, found "$(DATA)"; LDF_DATA_DIR=DIR names a folder of your own)
endif

.DEFAULT_GOAL := help
.PHONY: help install tutorial notebooks lab test lint types lock clean distclean

help: ## say what the commands do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 chooses the Python for .venv; LDF_DATA_DIR=DIR names a folder of sets;"
	@echo "  DATA=real make tutorial fetches the small public sets first (about 43 MB)"

install: $(STAMP) ## create .venv and install (the others do it when needed)

tutorial: $(STAMP) ## run every notebook; pages, network, fused pictures, metrics in runs/tutorial
	$(RUN) -m tools.notebooks tutorial $(if $(DATA),--real-data)

notebooks: $(STAMP) ## execute the committed notebooks in place, on generated pairs
	$(RUN) -m tools.cells
	$(RUN) -m tools.notebooks refresh

lab: $(STAMP) ## open the notebooks in JupyterLab
	@for name in LDF_DATA_DIR LDF_WEIGHTS_DIR; do \
	  if [ -n "$${!name}" ]; then export "$$name=$$(cd "$${!name}" && pwd)" || exit 1; fi; \
	done; \
	$(RUN) -m jupyter lab --notebook-dir=notebooks

test: $(STAMP) ## run all tests, the notebooks included
	$(RUN) -m pytest

lint: $(STAMP) ## check style and format of code and notebooks
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(STAMP) ## check the types of the packages
	$(RUN) -m mypy

lock: ## write constraints.txt: a tested version of every package, for each Python and system
	$(RUN) -m pip install --quiet -c constraints.txt uv
	@{ sed '/^[^#]/,$$d' constraints.txt; $(RUN) -m uv pip compile --quiet pyproject.toml \
	  --all-extras --universal --python-version 3.11 --no-header --no-annotate \
	  -c constraints.txt; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove what runs and tools have left, but not .venv
	rm -rf runs build dist *.egg-info .pytest_cache .ruff_cache
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	  -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

# The stamp is written last: an installation that broke off is done again.
$(STAMP): pyproject.toml constraints.txt
	@rm -f $@
	@set -e; \
	check='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	if ! { [ -x $(RUN) ] && $(RUN) -c "$$check" && $(RUN) -m pip --version >/dev/null 2>&1; }; then \
	  chosen=; \
	  for name in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	    if command -v "$$name" >/dev/null && "$$name" -c "$$check" 2>/dev/null; then \
	      chosen="$$name"; break; \
	    fi; \
	  done; \
	  if [ -z "$$chosen" ]; then \
	    echo "error: Python 3.11, 3.12 or 3.13 is needed." >&2; \
	    for name in $(or $(PYTHON),python3 python); do \
	      if command -v "$$name" >/dev/null; then \
	        echo "  found: $$name, $$("$$name" --version 2>&1)" >&2; \
	      else echo "  found: no $$name" >&2; fi; \
	    done; \
	    echo "  Install one of them, or name it: make $(or $(MAKECMDGOALS),tutorial) PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  fi; \
	  echo "Creating $(VENV) with $$chosen ($$("$$chosen" --version))"; \
	  "$$chosen" -m venv --clear $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "error: $$chosen cannot create a virtual environment; on Debian and Ubuntu install" \
	      "the package python3-venv" >&2; \
	    exit 1; }; \
	fi
	@echo "Installing the tutorial into $(VENV): a few minutes and about 6 GB with the CUDA torch"
	$(RUN) -m pip install --quiet -c constraints.txt -e ".[notebooks,test]"
	@touch $@
