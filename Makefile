# Two commands do all the set-up: `make apply` and `make test`.
# uv makes the environments; where it is missing, pip fetches it into a folder of this checkout.

UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help

help:  ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

venv: $(BIN)/.calm  ## Install calm into .venv

$(BIN)/.calm: requirements.lock pyproject.toml $(UV)
	@$(UV) venv --quiet --allow-existing --python '>=3.11' .venv
	@$(UV) pip install --quiet --compile-bytecode --python .venv --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $@

.uv/bin/uv:
	@$(PYTHON) -m venv .uv 2>/dev/null || $(PYTHON) -m pip install --quiet --target .uv/lib uv
	@if [ -x .uv/bin/pip ]; then .uv/bin/pip install --quiet uv; \
	 else mkdir -p .uv/bin && ln -sf ../lib/bin/uv .uv/bin/uv; fi

apply: venv  ## Converge this machine: shows the plan, asks on a terminal
	@if [ -t 0 ]; then $(BIN)/calm apply; else $(BIN)/calm apply --yes; fi

plan: venv  ## Show what apply would change
	@$(BIN)/calm plan

test: venv  ## Run the tests in a lab of their own; never touches your engine, stack or home
	@$(BIN)/pytest

test-full: venv  ## Run them with the whole counts, for hours
	@CALM_FULL=1 CALM_PLAIN=1 $(BIN)/pytest

lint: venv  ## Check style, types, imports, spelling and the generated docs
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/python -m calm.settings.reference --check
	@$(BIN)/python -m calm.cli.reference --check

bench: venv  ## Measure; see bench/README.md
	@$(BIN)/python -m bench

lock:  ## Pin the dependencies anew
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --all-extras --group dev pyproject.toml -o requirements.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header pyproject.toml -o requirements-agent.lock

.PHONY: help venv apply plan test test-full lint bench lock
