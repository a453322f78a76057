# Two commands: `make reports` and `make test`. Everything they need goes into .venv in this folder; a browser for the
# tests is fetched where none is installed.
PYTHON ?= python3
BUDGET ?= seconds
# Two at once share the cores and start up side by side; what is timed for a page wants the machine for itself.
JOBS   ?= $(if $(filter seconds,$(BUDGET)),2,1)
TORCH  ?=
VENV   := .venv
BIN    := $(VENV)/bin
# Threads that wait go to sleep soon, so that a busy machine does not stall them: see mrl_lab/report/attend.py.
export GOMP_SPINCOUNT ?= 3000

.PHONY: help reports test lint lab readme fresh clean

help:
	@echo "make reports [BUDGET=seconds|minutes|hour|gpu] [JOBS=n]   run all notebooks, make their pages and an index"
	@echo "make test [TESTS='-k mrl']                       lint, unit tests, notebooks, pages in a browser"
	@echo "make lab                                         open JupyterLab on the notebooks"
	@echo "make readme                                      write what README.md says of the published runs"
	@echo "make fresh                                       both commands in a clone, as on a machine with nothing else"
	@echo "make clean                                       remove .venv and what tools left; runs and the cache stay"
	@echo "add TORCH='torch==X' for another CUDA or CPU build of torch, PYTHON=python3.12 for another Python"

reports: $(VENV)/.ready
	$(BIN)/mrl-lab run --all --budget $(BUDGET) --jobs $(JOBS)

test: $(VENV)/.ready-test lint
	$(if $(findstring not browser,$(TESTS)),,$(BIN)/python tests/chromium.py)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(VENV)/.ready
	$(BIN)/jupyter lab --notebook-dir=notebooks

readme: $(VENV)/.ready
	$(BIN)/python -m mrl_lab.report.readme

fresh:
	tests/fresh_machine.sh

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build *.egg-info

# The tested versions, with the torch that was asked for in the place of the pinned one.
$(VENV)/constraints.txt: constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH),grep -v '^torch==' constraints.txt > $@; echo '$(TORCH)' >> $@,cp constraints.txt $@)

$(VENV)/.ready: $(VENV)/constraints.txt pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint $(VENV)/constraints.txt --editable '.[test,databases]'
	@touch $@
