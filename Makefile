# `make run` sets up and runs everything; `make test` sets up and runs the tests of every change. `make help` lists the rest.

PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
# Where PyTorch's CPU build is taken from if the index that pip is configured with has none.
TORCH_INDEX_URL ?= https://download.pytorch.org/whl/cpu

TEST_WORKERS ?= 3

BIN := .venv/bin
SETUP = TORCH_INDEX_URL="$(TORCH_INDEX_URL)" $(PYTHON) -m deploy.setup
define CHECK_PYTHON
test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found; install it, or name it: make PYTHON=/path/to/python3.11"; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
	{ echo "$(PYTHON) is not Python 3.11 or 3.12; name one that is: make PYTHON=/path/to/python3.11"; exit 1; }
endef
# A stamp's name follows what is installed: a setup that was interrupted, or is out of date, has no stamp.
RUNTIME := .venv/.installed-run-$(shell cat requirements.lock pyproject.toml | cksum | cut -d ' ' -f 1)
DEVELOPMENT := .venv/.installed-dev-$(shell cksum < requirements-dev.lock | cut -d ' ' -f 1)

.PHONY: help setup setup-dev run test test-slow lint format bench qdrant-suite lock clean clean-data
.DEFAULT_GOAL := help

help:
	@echo "make run        set up, and run everything in the foreground (Ctrl-C stops it)"
	@echo "make test       set up, and run the tests that a change may break (some minutes)"
	@echo "make test-slow  the other tests: kills, whole stacks, long races, each way for a backup to fail"
	@echo "make lint       ruff, pyright and import-linter"
	@echo "make format     let ruff format the code"
	@echo "make bench      all benchmarks; make bench BENCH=name runs one"
	@echo "make qdrant-suite SUITE=path   Qdrant's own API tests, of a checkout of its repository, on the embedded store"
	@echo "make setup      only set up .venv with what running needs"
	@echo "make setup-dev  and with the development tools, which test, lint, format and bench need"
	@echo "make lock       resolve pyproject.toml afresh into requirements.lock and requirements-dev.lock"
	@echo "make clean      remove .venv and caches; the data in .zhiyun stays (make clean-data removes that)"

setup: $(RUNTIME)

setup-dev: $(DEVELOPMENT)

$(RUNTIME):
	@$(CHECK_PYTHON)
	@$(SETUP) run --stamp $@

$(DEVELOPMENT): $(RUNTIME)
	@$(SETUP) development --stamp $@

run: setup
	@exec $(BIN)/zhiyun up

# Most tests wait for the services that they start. Each worker has services of its own, and takes files whole: the tests
# of some build on one another. Files come in the order of their folders: left to itself, the runner would keep those with
# few tests for the end, which are the longest, while the other workers have nothing left to do.
PYTEST := $(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

test: setup-dev
	$(PYTEST) -m "not slow"

test-slow: setup-dev
	$(PYTEST) -m slow

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup-dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: setup-dev
	$(BIN)/python -m bench $(BENCH)

qdrant-suite: setup-dev
	@test -n "$(SUITE)" || { echo "name a checkout of Qdrant's repository: make qdrant-suite SUITE=path"; exit 1; }
	$(BIN)/python -m tests.support.vectors.qdrant_openapi "$(SUITE)"

# Resolved by the oldest Python that may be used, so that it suits all: make lock PYTHON=/path/to/it
lock:
	@$(CHECK_PYTHON)
	@$(SETUP) lock

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.zhiyun/*' -prune -exec rm -rf '{}' +

clean-data:
	@if [ -x $(BIN)/zhiyun ]; then ZHIYUN_HOME=.zhiyun $(BIN)/zhiyun down; fi
	rm -rf .zhiyun
