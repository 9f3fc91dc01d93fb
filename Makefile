# Everything a newcomer runs. Needs Python 3.11 or later, Go and make; the rest is set up by itself.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
# Tests start hundreds of commands; without bytecode each would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test lint unit reference bench sweep clean

help:
	@echo "make demo       the lab's clusters, a deployment on them, and its proof (WORKERS=$(WORKERS))"
	@echo "make test       format, lint, types, layers and all tests"
	@echo "make unit       the tests that need no cluster"
	@echo "make reference  docs/configuration.md and its JSON Schema, from the settings"
	@echo "make bench      the program against the shell flow, as ratios"
	@echo "make sweep      kill -9 around every write of an up, then recover and up: takes hours (SWEEP='--every=10 --resume')"
	@echo "make clean      end the lab and delete what was set up here"

setup: .venv/ready

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: setup
	$(BIN)/python -m lab demo --workers $(WORKERS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-logo

unit: setup lint
	$(BIN)/python -m pytest tests/unit

reference: setup
	$(BIN)/python -m docs.reference

test: setup lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --instafail

bench: setup
	$(BIN)/python -m benchmarks

sweep: setup
	$(BIN)/python -m tests.engine.sweep $(SWEEP)

clean: setup
	$(BIN)/python -m lab down
	rm -rf .venv
