# Everything runs in an environment of its own: $(VENV), made on first use.
VENV ?= .venv
WORKERS ?= 4
SECONDS ?= 600
BIN := $(VENV)/bin
NATIVE := wsockets/bridge/_native.abi3.so
# What the compiler may not let pass; -fanalyzer is gcc's.
STRICT := -Wall -Wextra -Werror $(shell $(CC) -fanalyzer -E - </dev/null >/dev/null 2>&1 && echo -fanalyzer)
PYTEST := $(BIN)/python -m pytest
# One more try where a program or the machine was slow, shown with its traceback at the
# end; not for a crash, and not for more than five. `make stress` gives none.
PATIENTLY := --reruns 1 --max-suite-reruns 5 --rerun-show-tracebacks

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help demo test check native sanitize fuzz test-all stress coverage lint format typecheck docs \
	bench conformance implementations soak debian clean

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(MAKEFILE_LIST) | \
		while read -r target text; do printf '  make %-12s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.demo ## connect, TLS, STARTTLS, a tunnel, errors, against embedded peers; no root
	$(BIN)/python -m wsockets demo

test: debian implementations lint typecheck check sanitize ## every check; may install Debian packages
check: $(VENV)/.dev native ## the tests alone, with the coverage gate
	$(PYTEST) $(PATIENTLY) -n $(WORKERS) --dist loadgroup --cov --cov-report=term-missing

native: $(NATIVE) ## the native engine of bridges, for this source tree

$(NATIVE): setup.py $(wildcard wsockets/bridge/native/*) | $(VENV)/.dev
	CFLAGS="$(STRICT)" WSOCKETS_NATIVE=required \
		$(BIN)/python setup.py -q build_ext --inplace --force

# Minutes of the tests in which the engine's threads are busiest.
ADDRESS := packets segments stop tls endings sink_errors damage connection_errors shared_files
THREAD := stop time endings

sanitize: $(NATIVE) ## the native engine under sanitizers, and a little fuzzing
	tools/sanitize.sh $(BIN)/python address $(PATIENTLY) -n $(WORKERS) -k native \
		$(ADDRESS:%=tests/bridge/test_%.py)
	tools/sanitize.sh $(BIN)/python thread $(PATIENTLY) -n $(WORKERS) -k native \
		$(THREAD:%=tests/bridge/test_%.py)
	tools/sanitize.sh $(BIN)/python fuzz 20

fuzz: $(NATIVE) ## fuzz the native engine for SECONDS; SEED=… repeats a run
	tools/sanitize.sh $(BIN)/python fuzz $(or $(SECONDS),600) $(SEED)

lint: $(VENV)/.dev ## ruff, and the layers that imports must keep
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/.dev native ## mypy --strict
	$(BIN)/mypy

docs: $(VENV)/.dev ## the documentation, in build/docs; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

coverage: $(VENV)/.dev ## what each module's own test file covers by itself
	$(BIN)/python -m tools.module_coverage

stress: $(VENV)/.dev ## the asynchronous tests, 20 times over
	$(PYTEST) -n $(WORKERS) -m 'trio or asyncio or uvloop' --count 20 -q --hypothesis-profile stress

test-all: $(VENV)/.dev debian ## the tests on every other Python found (3.11 to 3.13)
	tools/others.sh $(BIN)/python $(WORKERS)

bench: $(VENV)/.dev ## measure beside trio, asyncio, uvloop, node, haproxy and others
	$(BIN)/python -m bench setup
	$(BIN)/python -m bench
	$(BIN)/python -m bench bridge
	$(BIN)/python -m bench server

conformance: $(VENV)/.dev implementations ## this library and others against the specification
	$(BIN)/python -m conformance run --all --html build/conformance/index.html \
		--json build/conformance --junit build/conformance || \
		echo "Some implementations fail what the specification asks for; see above."

implementations: ## the other implementations of the API, from npm
	@if ! command -v npm >/dev/null; then \
		echo "== no npm: this library alone is held against the specification"; \
	elif ! cmp -s conformance/package.json conformance/node_modules/installed; then \
		echo "== installing other implementations of the API into conformance/node_modules"; \
		cd conformance && npm install --ignore-scripts --no-package-lock --no-audit \
			--no-fund --loglevel=error && cp package.json node_modules/installed; \
	fi

soak: $(VENV)/.dev native ## ten minutes of bridges under load, or SECONDS=…
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

debian: ## the Debian packages of the tests' peers and of clang, those missing
	@tools/debian.sh

clean: ## remove what was made, the environments included
	rm -rf .venv .venv-* build dist .coverage .coverage.* .mypy_cache .ruff_cache \
		.pytest_cache .hypothesis *.egg-info

$(VENV)/.%: pyproject.toml tools/venv.sh
	tools/venv.sh $(VENV) $*
	@touch $@
