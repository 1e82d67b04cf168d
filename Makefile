# The menu of the repository. Every entry works from a fresh clone: what it needs first, it makes first, and a second
# call does only what changed. A stamp lies in the thing that it vouches for (.venv/.wheel), so deleting the thing
# deletes the stamp.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3# used once, to make the virtual environment
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
# A lock file that would have to change is an error where nobody could commit the change.
LOCKED := $(if $(CI),--locked)
ARGS ?=
TIER ?= ci

# $(call files,paths): what git tracks or would track there; without git, whatever lies there.
files = $(wildcard $(shell git ls-files -co --exclude-standard -- $(1) 2>/dev/null || find $(1) -type f 2>/dev/null))
WHEEL_FILES := $(call files,Cargo.toml Cargo.lock pyproject.toml LICENSE README.md crates python/Cargo.toml python/src python/trackside)
PAGE_FILES := $(call files,web/src web/public web/index.html web/package.json web/vite.config.ts web/tsconfig.json)

# $(call steps,targets): one after another, with what, which of how many, and how long; see .ci/steps.
steps = MAKE='$(MAKE)' .ci/steps $(1)

BUILD := tools venv page wheel
CHECK := tools dev page formatted python-lint python-types page-types tidy rust-lint
TEST := packages rust-test wheel docs page-test python-test faults-test

# --- the menu ---------------------------------------------------------------------------------------------------

.PHONY: help demo test check bench faults fmt clean
help: ## this menu
	@echo 'make TARGET [ARGS="…"]'; echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

demo: ## run on this machine's own sensors: page, models, tables; ARGS="--seconds 30 --json"
	+@$(call steps,$(BUILD)) >&2
	@$(BIN)/trackside demo $(ARGS)

test: ## everything: check, then the tests of Rust, page and Python, and the wheel from end to end
	+@$(call steps,$(CHECK) $(TEST))

check: ## formatting, lints, types and the repository's own rules; no tests
	+@$(call steps,$(CHECK))

bench: ## peers, ourselves and the ceiling on the same input; ARGS="clean --json"
	+@$(call steps,$(BUILD) bench-needs) >&2
	@$(BIN)/python bench $(ARGS)

faults: ## break it on purpose and count what is lost; ARGS="3 --json", TIER=release
	+@$(call steps,$(BUILD) dev faults-build) >&2
	@$(BIN)/python faults --tier $(TIER) $(ARGS)

wheel: $(VENV)/.wheel ## build the wheel (target/wheels) and install it into .venv

page: web/dist/index.html ## build the live page (web/dist); the wheel carries it

fmt: $(VENV)/.dev ## format Rust and Python, sort imports
	cargo fmt --all
	$(BIN)/ruff check --quiet --select I --fix . && $(BIN)/ruff format .

clean: ## delete what was built (.venv, target, the page); your data stays
	rm -rf $(VENV) target web/node_modules web/dist .mypy_cache .ruff_cache .pytest_cache

# --- what is built ----------------------------------------------------------------------------------------------

$(VENV)/.base:
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo 'error: this Python cannot make virtual environments; on Debian: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) 'pip>=25.1' 'maturin>=1.16,<2' 'numpy>=1.26'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.base
	@$(PIP) --group dev
	@touch $@

$(VENV)/.bench: $(wildcard bench/requirements.txt) $(VENV)/.base
	@$(if $(wildcard bench/requirements.txt),$(PIP) --requirement bench/requirements.txt,true)
	@touch $@

web/node_modules/.package-lock.json: web/package-lock.json
	@cd web && npm ci --no-fund --no-audit --loglevel=error
	@touch $@

web/dist/index.html: $(PAGE_FILES) web/node_modules/.package-lock.json
	@cd web && npm run --silent build
	@touch $@

# Its stamp is as old as the build's beginning: what is edited meanwhile is newer.
$(VENV)/.wheel: $(WHEEL_FILES) web/dist/index.html $(VENV)/.base
	@rm -f target/wheels/trackside-*.whl && touch $@.began
	@$(BIN)/maturin build $(LOCKED) --profile wheel --interpreter $(BIN)/python --compatibility linux --out target/wheels
	@$(PIP) --no-deps --no-index --force-reinstall target/wheels/trackside-*.whl
	@mv $@.began $@

# --- steps: each also runs alone -----------------------------------------------------------------------------------

.PHONY: tools venv dev formatted python-lint python-types page-types tidy rust-lint
.PHONY: packages rust-test docs page-test python-test bench-needs faults-build faults-test wheel page
tools: #: Rust, Python and Node are new enough
	@PYTHON='$(PYTHON)' .ci/tools
venv: $(VENV)/.base #: the virtual environment
dev: $(VENV)/.dev #: the virtual environment, with linters and test libraries
bench-needs: $(VENV)/.bench #: what the benchmarks compare with
wheel page venv dev bench-needs: ; @: # they only name a file; with nothing to do, nothing is said
formatted: #: Rust is formatted
	@cargo fmt --all --check
python-lint: $(VENV)/.dev #: Python is formatted and clean (ruff)
	@$(BIN)/ruff format --quiet --diff . && $(BIN)/ruff check --quiet --output-format concise .
python-types: $(VENV)/.dev #: Python's types hold (mypy --strict)
	@$(BIN)/mypy --strict
page-types: web/node_modules/.package-lock.json #: the page's types hold (tsc)
	@cd web && npm run --silent check
tidy: #: the repository's own rules (cargo xtask tidy)
	@cargo run $(LOCKED) --quiet --package xtask -- tidy
rust-lint: #: Rust is clean (clippy)
	@cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
packages: #: programs that tests talk to (curl, Mosquitto, Chromium)
	@.ci/packages
# Without the Python crate (no default member): it links in an interpreter only, and its tests are Python's.
rust-test: #: Rust's tests
	@cargo test $(LOCKED)
docs: $(VENV)/.wheel #: reference pages say what the components say (cargo xtask docs)
	@cargo run $(LOCKED) --quiet --package xtask -- docs --check
faults-build: web/dist/index.html #: simulator, load generator, and the product with bugs planted
	@cargo build $(LOCKED) --quiet --profile wheel --package trackside-faults
faults-test: faults-build $(VENV)/.wheel $(VENV)/.dev #: two minutes of faults (all of them: make faults)
	@cargo test $(LOCKED) --quiet --profile wheel --package trackside-faults
	@$(BIN)/python faults --no-build --tier test
page-test: web/dist/index.html #: the page's tests
	@cd web && npm run --silent test
python-test: $(VENV)/.wheel $(VENV)/.dev #: the package's tests, its examples, and all of it from end to end
	@$(BIN)/python -m pytest --doctest-modules --pyargs trackside $(wildcard python/tests tests)
