# Two commands matter: `make run` (see it work) and `make test` (see it proved). Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST_WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup run test check optional-tools chaos lock clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cuadre needs Python 3.11 or newer; call: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.run: requirements/run.txt pyproject.toml $(VENV)/.python
	@echo "Installing what cuadre runs on (hash-checked, into $(VENV)) ..."
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.run
	@echo "Installing what tests and checks need ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.run ## Install cuadre into .venv

run: $(VENV)/.run ## See it work: embedded Postgres, a simulated Mercado Pago, a day of orders
	@exec $(BIN)/cuadre demo

test: $(VENV)/.dev ## Prove it
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal

check: $(VENV)/.dev ## Formatting, types, imports, dependencies, SQL, manifests
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh deploy/check.sh

optional-tools: ## promtool and PgBouncer for the tests that need them (Debian, as root)
	@sh deploy/optional-tools.sh

chaos: $(VENV)/.dev optional-tools ## The long attack: 3 seeds, 10,000 orders, every fault (about 20 minutes)
	@for seed in 1 2 3; do $(BIN)/python -m tests.chaos --seed $$seed --orders 10000 --seconds 1200 || exit 1; done
	@CHAOS_LONG=1 $(BIN)/python -m pytest tests/chaos/test_guarantees.py

lock: ## Renew requirements/*.txt from pyproject.toml (needs uv)
	@sh requirements/lock.sh

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
