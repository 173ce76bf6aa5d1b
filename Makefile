# Every target does its own set-up: a clone and Python 3.11 or 3.12 are enough.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1 && { echo $$p; break; }; done)
BIN := .venv/bin
export HLINK_HOME ?= $(CURDIR)/.hlink
ifdef PIP_INDEX_URL
export UV_INDEX_URL ?= $(PIP_INDEX_URL)
endif

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.installed ## the environment in .venv and the Maven artifacts in HLINK_HOME
	@$(BIN)/hlink fetch

.venv/.installed: requirements-setup.lock requirements-dev.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or 3.12 is needed and was not found; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing Python packages into .venv"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-setup.lock
	@$(BIN)/uv pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes requirements-dev.lock requirements-setup.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

demo: .venv/.installed ## a year of real flights as a stream, live; ONCE=1 checks the result and ends; RATE= flights a second
	@$(BIN)/hlink demo $(if $(ONCE),--once) $(if $(RATE),--rate $(RATE))

test: setup ## all tests, on an embedded stack of their own (HLINK_TEST_STACK=containers: on containers)
	@$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.installed ## style, types, imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup ## measure against Flink's own tools (about 28 minutes); figures in benchmarks/latest.json
	@$(BIN)/hlink fetch bench
	@$(BIN)/python -m benchmarks

chaos: setup ## break things while jobs run (about 5 minutes, and a simulation before); FULL=1 at least 200 faults; SEED=
	@$(if $(SEED),SEED=$(SEED)) HLINK_STEPS=10000 $(BIN)/pytest -q -s tests/unit/test_state_machine.py
	@$(BIN)/python -m tests.chaos $(if $(FULL),--faults 200) $(if $(SEED),--seed $(SEED))

lock: ## the locks, from pyproject.toml (needs the environment)
	$(BIN)/uv pip compile $(LOCK) pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(LOCK) --extra dev pyproject.toml -o requirements-dev.lock
	echo 'uv==$(shell $(BIN)/uv --version | cut -d" " -f2)' | $(BIN)/uv pip compile $(LOCK) - -o requirements-setup.lock

# Hashes of every platform's files for both Pythons, and no address.
LOCK := -q --universal -p 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

# Modules are compiled once, and not by each of the processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test lint bench chaos lock
