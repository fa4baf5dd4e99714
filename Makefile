# RealCo Finance & Escrow. `make` prints what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON   ?= python3
DATA_DIR ?= .run
PORT     ?= 8080
VENV     := .venv
PY       := $(VENV)/bin/python
UV       := UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true $(VENV)/bin/uv
PROTOS   := $(shell find protos -name '*.proto')
# Twice the cores of a small machine: tests also wait, for processes that start and for what comes by itself.
WORKERS  ?= 4
# What an instance keeps in its DATA_DIR. Whatever else lies there is not ours to remove.
KEPT     := api_token_keys.json bank ca.pem certificates clock.json provisioned demo.json event_keys.json instance.json instance.lock issuers.json jwks.json logs nats postgres processes secrets service_keys.json

# An environment that was moved with its folder, or whose Python is gone, is made anew.
$(shell [ -x $(PY) ] && grep -qsxF "$(CURDIR)" $(VENV)/installed || rm -f $(VENV)/installed)

# Every service is a process of its own: each would compile its code, and its libraries', at each start.
unexport PYTHONDONTWRITEBYTECODE

# Handed on as they are, spaces and all.
run token stop clean: export DATA_DIR := $(DATA_DIR)
run: export PORT := $(PORT)
token: export ROLE := $(or $(ROLE),admin)
token: export SUB := $(SUB)
token: export PERSON := $(PERSON)
token: export ORG := $(ORG)

.PHONY: help setup run demo test check bench chaos contracts token stop clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

run: setup ## everything from nothing, on http://127.0.0.1:8080; Ctrl-C stops it (PORT=, DATA_DIR=)
	@exec $(PY) -m deploy.local run --demo-data

demo: setup ## the main job end to end, on a throw-away instance
	@$(PY) -m demo

test: setup ## the whole test suite on real PostgreSQL and NATS
	@$(PY) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

check: setup ## lint, types, contracts, dependency directions, migrations against tables
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m deploy.check.contracts
	@$(PY) -m deploy.check.drift

bench: setup ## benchmarks: a table, and bench.json with ratios against limits of the same run
	@$(PY) -m tests.performance.bench

chaos: setup ## long reliability runs (MINUTES=10, CREATIONS=10000, SEED=)
	@$(PY) -m tests.reliability.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(CREATIONS),--creations $(CREATIONS))

contracts: setup ## the contracts for other teams, in dist/contracts: a typed wheel, descriptors, OpenAPI, changelog
	@$(PY) -m deploy.contracts

token: setup ## a bearer token for the local instance (ROLE=admin, SUB=, PERSON=, ORG=)
	@$(PY) -m deploy.local.token --role "$$ROLE" --sub "$$SUB" --person "$$PERSON" --org "$$ORG"

stop: ## stop what `make run` left running
	@[ ! -e $(VENV)/installed ] || $(PY) -m deploy.local stop

clean: stop ## remove the instance, the environment and what was generated
	@[ ! -e "$$DATA_DIR/instance.lock" ] || (cd "$$DATA_DIR" && rm -rf $(KEPT))
	@rmdir "$$DATA_DIR" 2>/dev/null || true
	@rm -rf $(VENV) dist/contracts protos/buf protos/realco/descriptors.binpb bench.json .hypothesis .*_cache docs/node_modules tests/clients/typescript/{build,node_modules} tests/support/issuer/node_modules
	@find protos -name '*_pb2*' -delete -o -name py.typed -delete

# What requirements.lock pins, and stubs as new as the protos.
setup: $(VENV)/stubs ## the environment, and code from the protos: the other targets do it by themselves

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up the environment (once; a minute or less) ..." >&2
	@[ -e $@ ] || $(PYTHON) -m venv --clear $(VENV)
	@awk '/^uv==/ {p = 1} p {print} p && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock
	@$(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@$(UV) pip sync -q --compile-bytecode --python $(PY) --require-hashes requirements.lock || \
	  { echo "uv cannot; trying it with pip, which knows your pip.conf ..." >&2; \
	    $(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock; }
	@echo "$(CURDIR)" > $@

$(VENV)/stubs: $(VENV)/installed $(PROTOS) protos/hatch_build.py protos/pyproject.toml
	@$(UV) pip install -q --python $(PY) --no-deps --no-build-isolation --reinstall-package realco-contracts -e ./protos
	@touch $@
