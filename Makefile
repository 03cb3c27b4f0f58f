# `make` shows the targets. Each makes the environment first where it is missing or out of date.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
COLLECTION ?= demo
SOURCE ?= python-packages
PYTEST := $(BIN)/python -m pytest
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: help install demo serve stop index test test-fast check format bench docs lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(INSTALLED) ## the environment in .venv, from requirements.lock

demo: install ## start the service, index the documentation of every installed Python package, search it
	@$(BIN)/python -m serve_app start
	@$(BIN)/python -m jobs.index --source python-packages --collection demo
	@$(BIN)/python -m serve_app search "show a progress bar" --collection demo

serve: install ## Ray + Serve in the foreground; Ctrl-C ends all of it
	@exec $(BIN)/python -m serve_app serve

stop: install ## end what an earlier demo or serve left
	@$(BIN)/python -m serve_app stop

index: install ## index SOURCE into COLLECTION: make index SOURCE=docs/ COLLECTION=handbook
	@$(BIN)/python -m jobs.index --source "$(SOURCE)" --collection "$(COLLECTION)"

test: install ## all tests; REQUIRE_SERVICES=1 makes a missing server a failure
	$(PYTEST)

test-fast: install ## the tests that take little time: no Ray, no server, no browser, no converted model
	$(PYTEST) --numprocesses 2 --dist loadfile -m "not slow"

check: install ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install ## mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## benchmarks against references measured in the same run; writes benchmarks.json and its tables
	$(BIN)/python -m tests.bench

docs: install ## docs/reference/ from the code
	@$(BIN)/python -m docs.generate

lock: install ## requirements.lock anew, from pyproject.toml
	$(BIN)/pip-compile --quiet --extra dev --strip-extras --no-emit-find-links --no-emit-index-url --no-emit-trusted-host \
		--no-annotate --output-file requirements.lock pyproject.toml
	sed -i 's/^\(torch==[0-9.]*\)+cpu/\1/' requirements.lock

clean: stop ## remove the environment
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache
