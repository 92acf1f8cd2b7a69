# Two commands for a fresh machine with Python 3.11 or newer: `make quickstart` and `make test`.
# All is installed into .venv; a second call repeats only what changed.

PYTHON ?= python3
# What .venv is made from; requirements.lock holds the exact versions that are tested.
REQUIREMENTS ?= requirements.txt

VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check
# Stamps have the name of the requirements, so that another choice is installed too.
STAMP := $(notdir $(REQUIREMENTS))
# The versions of a lock without its hashes. pip checks the hashes of all packages of a command or of none,
# so a command of its own installs the packages without hashes, with these versions as bounds.
PINS := $(VENV)/pins-$(STAMP)

.PHONY: help install quickstart quickstart-debug lint test test-long test-all package compare docs clean

help:
	@echo "make install           requirements.txt into .venv"
	@echo "make quickstart        train AdapLeR on review sentences and evaluate it"
	@echo "make quickstart-debug  the same path in small"
	@echo "make lint              layout, style and types of the code; installs requirements-dev.txt"
	@echo "make test              the tests"
	@echo "make test-long         the tests that take more than some seconds each, about 25 minutes"
	@echo "make package           build the package and use it in bare environments; installs requirements-dev.txt"
	@echo "make compare           the comparisons with PyTorch and others; installs requirements-baselines.txt"
	@echo "make docs              the documentation into docs/_build/html, its notebook in small; installs requirements-docs.txt"
	@echo "make test-all          lint and all tests, one after the other"
	@echo "make clean             remove .venv, .demo and the quickstart's runs"
	@echo "PYTHON=python3.12 picks the Python of .venv, REQUIREMENTS=requirements.lock the tested versions, by their hashes"

$(VENV)/created:
	@command -v $(PYTHON) >/dev/null 2>&1 \
		|| { echo "error: there is no $(PYTHON); install Python 3.11 or newer, or name one: make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is `$(PYTHON) --version 2>&1`; 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed-$(STAMP): $(VENV)/created requirements.txt $(REQUIREMENTS)
	@echo "installing $(REQUIREMENTS) into $(VENV): about a minute"
	@$(INSTALL) -r $(REQUIREMENTS)
	@$(INSTALL) --no-deps --editable .
	@touch $@

$(PINS): $(VENV)/created $(REQUIREMENTS)
	@sed -nE 's/^([A-Za-z0-9_.-]+==[^ ;\\]+).*/\1/p' $(REQUIREMENTS) > $@

$(VENV)/tests-installed-$(STAMP): $(VENV)/installed-$(STAMP) $(PINS) requirements-test.txt
	@echo "installing what the tests need into $(VENV)"
	@$(INSTALL) -c $(PINS) -r requirements-test.txt
	@touch $@

$(VENV)/dev-installed-$(STAMP): $(VENV)/tests-installed-$(STAMP) requirements-dev.txt
	@echo "installing requirements-dev.txt into $(VENV)"
	@$(INSTALL) -c $(PINS) -r requirements-dev.txt
	@touch $@

install: $(VENV)/installed-$(STAMP)

lint: $(VENV)/dev-installed-$(STAMP)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

quickstart: install
	$(RUN) scripts/fetch_demo.py
	$(RUN) train.py --config=configs/quickstart.py --workdir=runs/quickstart
	$(RUN) evaluate.py --workdir=runs/quickstart

quickstart-debug: install
	$(RUN) scripts/fetch_demo.py
	$(RUN) train.py --config=configs/quickstart.py:debug --workdir=runs/quickstart-debug
	$(RUN) evaluate.py --workdir=runs/quickstart-debug
	@echo "that was a dry run on 64 texts: its scores mean nothing; make quickstart trains in full"

# -rs lists what was skipped and why.
test: $(VENV)/tests-installed-$(STAMP)
	$(RUN) -m pytest -rs -m "not docs and not package and not long and not compare" -n 2 --dist=loadfile

# Files without tests of a kind are left out, since reading all of them takes long.
test-long: $(VENV)/tests-installed-$(STAMP)
	$(RUN) -m pytest -rs -m long -n 2 --dist=loadfile $$(grep -rlE "mark\.long|mostly_long" tests --include='*.py')

# The environments of the test have the versions of the lock too.
package: $(VENV)/dev-installed-$(STAMP)
	PIP_CONSTRAINT=$(CURDIR)/$(PINS) $(RUN) -m pytest -rs -m package tests/test_built_package.py

compare: $(VENV)/tests-installed-$(STAMP)
	@echo "installing requirements-baselines.txt into $(VENV)"
	@$(INSTALL) -c $(PINS) -r requirements.txt -r requirements-baselines.txt
	$(RUN) -m pytest -rs -m "compare and not long" -n 2 --dist=loadfile $$(grep -rlF mark.compare tests --include='*.py')

# A warning is an error. The notebook runs in small, the pictures are drawn of what it trained, and the commands of README.md
# run in small, as those of docs/*.md do in the long tests; nothing of it is kept.
docs: $(VENV)/tests-installed-$(STAMP)
	@echo "installing requirements-docs.txt into $(VENV)"
	@$(INSTALL) -c $(PINS) -r requirements.txt -r requirements-docs.txt
	$(RUN) scripts/fetch_demo.py
	rm -rf runs/notebook-debug
	mkdir -p runs
	ADAPLER_DEBUG=1 $(VENV)/bin/jupyter-execute docs/notebooks/quickstart.ipynb --output=$(CURDIR)/runs/notebook-debug.ipynb
	$(RUN) docs/pictures.py --workdir=runs/notebook-debug --out=runs/pictures-debug --texts=32 --text="A gripping, funny film."
	$(RUN) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	$(RUN) -m pytest -rs -m "docs and not long" -n 2 --dist=worksteal tests/docs

test-all: lint test package quickstart-debug compare test-long docs

clean:
	rm -rf $(VENV) .demo docs/_build runs/quickstart runs/quickstart-debug runs/notebook-debug* runs/pictures-debug .hypothesis .pytest_cache .ruff_cache .mypy_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
