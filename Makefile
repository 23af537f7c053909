# Every target does its own set-up in $(VENV). TORCH_INDEX=URL takes torch from that index instead
# (https://download.pytorch.org/whl/cpu, .../cu130, ...); PYTHON=python3.12 another interpreter.
VENV ?= .venv
PYTHON ?= python3
TORCH_INDEX ?=
PEER ?= .venv-peer
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# --no-compile: Python compiles what it imports, a fifth of what is installed; pip would compile all of it
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# kept in the environment that is made here, whatever the shell says: without bytecode every start compiles anew
export PYTHONDONTWRITEBYTECODE :=
# what fits import is compiled side by side once it is installed, not one after the other by the first comparison
IMPORT := $(BIN)/python -c "import sys; from probe_or_tune import kinds; [*map(kinds.import_libraries, sys.argv[1:])]"
DATA ?= sms-spam
ENCODER ?= minilm
# the last two layers alone: about a third of the time of fine-tuning all six
CONTENDERS ?= majority,tfidf,lr,lr+smote,stack,fine-tune+last-2

.PHONY: demo test test-slow lint docs notebooks bench recipes clean help

help:
	@echo "make demo | test | test-slow | lint | docs | notebooks | bench | recipes DATA=folder | clean"

demo: $(VENV)/.ready
	$(BIN)/python cli.py compare $(DATA) --encoder $(ENCODER) --contenders $(CONTENDERS) --stop-hopeless

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m "slow or not slow"

lint: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.ready-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs build/site

notebooks: $(VENV)/.ready-docs
	$(BIN)/python docs/execute.py

bench: $(VENV)/.ready-bench $(PEER)/.ready
	$(BIN)/python benchmarks/extract.py --other $(PEER)/bin/python

recipes: $(VENV)/.ready
	$(BIN)/python recipes/run_all.py --data $(DATA) --encoder $(ENCODER)

clean:
	rm -rf $(VENV) $(PEER) .mypy_cache .ruff_cache .pytest_cache build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

# with an index of its own torch comes first and by itself, so that everything else comes from the package index
$(VENV)/.torch: $(CONSTRAINTS) | $(BIN)/python
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) --constraint $(CONSTRAINTS) torch)
	@touch $@

$(VENV)/.ready: setup.cfg $(CONSTRAINTS) $(VENV)/.torch
	$(PIP) --constraint $(CONSTRAINTS) --editable '.[offline]'
	@$(IMPORT) tfidf lr+smote & $(IMPORT) fine-tune & wait
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) --constraint $(CONSTRAINTS) --editable '.[offline,dev]'
	@touch $@

$(VENV)/.ready-bench: $(VENV)/.ready
	$(PIP) --constraint $(CONSTRAINTS) --editable '.[offline,bench,int8]'
	@touch $@

# another transformers than ours; optimum-intel by itself, because torchvision, which it names, is not needed
$(PEER)/.ready: benchmarks/peer-requirements.txt
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/python -m pip install --quiet --requirement benchmarks/peer-requirements.txt
	$(PEER)/bin/python -m pip install --quiet --no-deps optimum-intel==2.2.0
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	$(PIP) --constraint $(CONSTRAINTS) --editable '.[offline,docs]'
	@touch $@
