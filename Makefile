# Thin lines over `hearth` and pytest. Needs make and Python 3.11 or newer (with venv).

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A process for each core; what is in one file stays in one process.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile \
	--no-loadscope-reorder
ARGS ?=

# The first Python that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	echo $$p; break; fi; done)

.DEFAULT_GOAL := help
.PHONY: help serve demo test check interop soak bench sample endpoints venv clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
	while IFS='|' read -r target text; do printf '%-18s %s\n' "$$target" "$$text"; done

serve: $(STAMP) ## start a server for localhost with a database of its own under ./data
	$(BIN)/hearth serve $(ARGS)

demo: $(STAMP) ## two servers on this machine talk with each other over TLS
	$(BIN)/hearth demo $(ARGS)

test: $(STAMP) ## all tests that need Python packages only
	$(PYTEST) tests --ignore=tests/interop --ignore=tests/bench $(ARGS)
	@if ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then \
	echo "The same for the database layer, on the system's PostgreSQL:"; \
	HEARTH_TEST_POSTGRES=system $(PYTEST) tests/store; fi

check: $(STAMP) ## lint, types, import order and the pure tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	HEARTH_TESTS=quick $(PYTEST) tests/pure $(ARGS)

interop: $(STAMP) ## federate with a real Synapse, installed beside us from PyPI
	HEARTH_INTEROP=1 $(BIN)/python -m pytest tests/interop $(ARGS)

soak: $(STAMP) ## hours of trouble in minutes: HEARTH_SOAK says how many
	HEARTH_SOAK=$${HEARTH_SOAK:-10} HEARTH_KILL_ROUNDS=$${HEARTH_KILL_ROUNDS:-20} \
	$(BIN)/python -m pytest -s tests/faults $(ARGS)
	HEARTH_INTEROP=1 HEARTH_SOAK_MESSAGES=$${HEARTH_SOAK_MESSAGES:-2000} \
	$(BIN)/python -m pytest -s tests/interop/test_soak.py $(ARGS)

bench: $(STAMP) ## measure speed, against Synapse in the same run
	$(BIN)/python -m tests.bench $(ARGS)

sample: $(STAMP) ## write config/hearth.sample.toml anew
	$(BIN)/hearth config sample > config/hearth.sample.toml

endpoints: $(STAMP) ## write docs/endpoints.md anew
	$(BIN)/hearth endpoints > docs/endpoints.md

venv: $(STAMP) ## make the environment

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed." >&2; exit 1; }
	@echo "Making $(VENV) and installing into it; this takes a minute the first time."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

clean: ## remove environments and caches; ./data stays
	rm -rf $(VENV) .venv-synapse .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
