# One entry for everything: `make help`. CI calls the same targets.

PYTHON  ?= python3
PORT    ?= 3000
# Test processes: one more than two cores, since some tests wait for a browser, a daemon or a lock. The tests that start
# Dagster need about 400 MB each.
WORKERS ?= 3
# What the shares of the large proofs are drawn from; empty: the commit. A failure names it.
SEED    ?= $(HISTORICAL_ETL_TESTS_SEED)
# More arguments for pytest or the benchmarks: make test ARGS="-k merge -x", make bench ARGS="--quick".
ARGS    ?=

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
ifeq ($(filter oneshell,$(.FEATURES)),)
$(error GNU Make 4 or newer is needed; on macOS: brew install make, then gmake)
endif
MAKEFLAGS += --no-print-directory --no-builtin-rules

BIN   := .venv/bin
STAMP := .venv/.stamp
LOCK  := requirements/lock.txt
UV    := $(shell command -v uv 2>/dev/null)

# Coverage is measured of the tests that run in their own process, and those alone must reach the gate. The others look at
# the same code from further away, or at processes that are killed.
UNMEASURED := proofs/crash proofs/faults proofs/hostile orchestration ui cli docs
# The top floor is tested through Dagster and the command line; the gate is on what must not lose data.
TOP_FLOOR := */historical_etl/definitions.py,*/historical_etl/replay_definitions.py,*/historical_etl/markets.py
TOP_FLOOR := $(TOP_FLOOR),*/historical_etl/automation.py,*/historical_etl/resources.py
TOP_FLOOR := $(TOP_FLOOR),*/historical_etl/cli/*,*/historical_etl/assets/*
CORE_COVERAGE := 90

# Of the environments beside .venv: what brings uv where it is lacking, and `environment FOLDER`, which makes one.
LOWEST := .venv-lowest
AUDIT  := .venv-audit
define WITH_UV
uv="$(UV)"
if [ -z "$$uv" ]; then
  "$(PYTHON)" -m venv .uv
  .uv/bin/python -m pip install -qq --disable-pip-version-check uv
  uv=.uv/bin/uv
fi
environment() { "$$uv" venv --quiet --allow-existing --python "$(PYTHON)" "$$1"; }
endef

.PHONY: help setup run ui test coverage test-lowest torture mutate lint format audit bench bench-check bench-growth lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install everything into .venv, exactly as locked

# Brought up to date when the lock or pyproject.toml changes; `make clean setup` starts from nothing. Bytecode is
# compiled here, once: without it every run, sensor tick and test process spends seconds on importing Dagster.
$(STAMP): $(LOCK) pyproject.toml
	@started=$$SECONDS
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is not. Next: make setup PYTHON=/path/to/python3.11" >&2
	  exit 1
	}
	echo "Installing into .venv, about a minute"
	with_uv() {
	  uv="$(UV)"
	  if [ -z "$$uv" ]; then
	    "$(PYTHON)" -m venv .uv && .uv/bin/python -m pip install -qq --disable-pip-version-check uv || return
	    uv=.uv/bin/uv
	  fi
	  "$$uv" venv --quiet --allow-existing --python "$(PYTHON)" .venv &&
	    "$$uv" pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode $(LOCK) &&
	    "$$uv" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	}
	with_pip() {
	  "$(PYTHON)" -m venv .venv
	  # -qq, since -q still prints a warning for each package and each index that is configured but not there.
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-compile --require-hashes -r $(LOCK)
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	  $(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true
	}
	# uv takes half the time, but reads no settings of pip: an index that only those name is pip's.
	if ! with_uv; then
	  echo "uv could not install it; pip does, in two minutes"
	  with_pip
	fi
	touch $@
	echo "Ready in $$((SECONDS - started)) s"

# Dagster wants an absolute path that exists.
run ui: export DAGSTER_HOME := $(CURDIR)/dagster_home
# Warnings that pyproject.toml accepts for the tests, and says why.
run ui: export PYTHONWARNINGS := ignore:Function `asset_materialize_command`,ignore:Function `dev_command`

RUN_LOG := dagster_home/make-run.log

run: $(STAMP) ## fill the store from the embedded sample, 2000 to 2013, and show what is in it
	@started=$$SECONDS
	echo "Materializing daily_prices 2000...2013 and price_catalog (log: $(RUN_LOG))"
	$(BIN)/dagster asset materialize -m historical_etl.definitions --select "daily_prices*" \
	  --partition-range 2000...2013 >$(RUN_LOG) 2>&1 || {
	  tail -n 40 $(RUN_LOG) >&2
	  echo "The run failed; its whole log is $(RUN_LOG)" >&2
	  exit 1
	}
	echo "Done in $$((SECONDS - started)) s. Rows by year, from the view daily_prices:"
	$(BIN)/historical-etl query "$$ROWS_BY_YEAR"
	echo "Total return of each symbol:"
	$(BIN)/historical-etl query "$$TOTAL_RETURN"
	echo "Next, for instance:"
	echo "  $(BIN)/historical-etl explain AAPL 2012-11-07"
	echo "  $(BIN)/historical-etl --data-dir /tmp/replay replay"
	echo "  make ui"

define ROWS_BY_YEAR
SELECT year(date) AS year, count(*) AS rows, count(DISTINCT symbol) AS symbols,
       min(date) AS first_session, max(date) AS last_session
FROM daily_prices GROUP BY ALL ORDER BY year
endef
define TOTAL_RETURN
SELECT symbol, min(date) AS since, max(date) AS until, round(product(1 + coalesce(ret, 0)) - 1, 4) AS total_return
FROM daily_prices GROUP BY symbol ORDER BY total_return DESC
endef
run: export ROWS_BY_YEAR := $(ROWS_BY_YEAR)
run: export TOTAL_RETURN := $(TOTAL_RETURN)

ui: $(STAMP) ## Dagster's web UI and daemon at http://127.0.0.1:3000 (PORT=..., DEFINITIONS=a.module)
	@exec $(BIN)/dagster dev $(if $(DEFINITIONS),-m $(DEFINITIONS),-w workspace.yaml) -h 127.0.0.1 -p $(PORT)

# Without the caller's settings: a test must not find somebody's store. Bytecode is written, whatever the caller does:
# without it each test process compiles all tests, and each command that a test starts the whole package. One thread of
# Polars for each process, since there are as many processes as cores.
define TEST_ENVIRONMENT
unset DAGSTER_HOME PYTHONDONTWRITEBYTECODE $${!HISTORICAL_ETL_@}
export POLARS_MAX_THREADS=1
endef
PYTEST = -m pytest -n $(WORKERS) --dist worksteal $(SEED:%=--seed=%)

# First what the tests need beside Python: it is brought, or named together with the tests that are left out for it; with
# CI set its lack is a failure.
test: $(STAMP) ## all tests, of the large proofs a share (SEED=... for another one; ARGS="-k merge" for some tests)
	@$(TEST_ENVIRONMENT)
	$(if $(strip $(ARGS)),exec $(BIN)/python $(PYTEST) $(ARGS))
	lacking=$$($(BIN)/python -m historical_etl_tests.tools)
	failed=
	$(BIN)/python $(PYTEST) --share --durations=20 $$lacking || failed=1
	[ -z "$$lacking" ] || echo "Not all tests ran: $$lacking (see the first lines)"
	[ -z "$$failed" ]

# Apart from `make test`, since measuring costs half as much time again. Polars has all its threads here.
coverage: $(STAMP) ## the coverage gate on the core
	@$(TEST_ENVIRONMENT)
	unset POLARS_MAX_THREADS
	rm -f .coverage .coverage.*
	failed=
	$(BIN)/python $(PYTEST) --cov --cov-report= $(UNMEASURED:%=--ignore=historical_etl_tests/%) || failed=1
	echo "Coverage of the core, at least $(CORE_COVERAGE) % with branches:"
	$(BIN)/coverage report --omit="$(TOP_FLOOR)" --fail-under=$(CORE_COVERAGE) || failed=1
	[ -z "$$failed" ]

test-lowest: $(LOWEST)/.stamp ## the tests with the lowest versions that pyproject.toml allows (ARGS="..." for some)
	@$(TEST_ENVIRONMENT)
	$(if $(strip $(ARGS)),exec $(LOWEST)/bin/python $(PYTEST) $(ARGS))
	lacking=$$($(LOWEST)/bin/python -m historical_etl_tests.tools)
	$(LOWEST)/bin/python $(PYTEST) --share $$lacking

# Only of what we name ourselves; what that needs is the newest. An environment of its own, brought up to date as .venv.
$(LOWEST)/.stamp: pyproject.toml
	@$(WITH_UV)
	environment $(LOWEST)
	"$$uv" pip compile --quiet --resolution lowest-direct --python $(LOWEST)/bin/python --all-extras \
	  --group test --group build --no-header --no-annotate pyproject.toml --output-file $(LOWEST)/requirements.txt
	"$$uv" pip sync --quiet --python $(LOWEST)/bin/python --compile-bytecode $(LOWEST)/requirements.txt
	"$$uv" pip install --quiet --python $(LOWEST)/bin/python --no-deps --no-build-isolation --editable .
	touch $@

# All four, whatever the first ones say: one look shows everything there is to mend.
lint: $(STAMP) ## ruff, formatting, types, floors
	@failed=
	check() { echo "· $$1"; shift; "$$@" || failed=1; }
	check "ruff check" $(BIN)/ruff check --quiet --output-format concise .
	check "ruff format (make format mends it)" $(BIN)/ruff format --quiet --check --output-format concise .
	check "types" $(BIN)/basedpyright --warnings
	check "floors" $(BIN)/lint-imports --no-logo
	[ -z "$$failed" ]

format: $(STAMP) ## let ruff format and fix what it safely can
	@$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format --quiet .

# Not a part of lint: it needs an advisory service, and tomorrow's answer differs without a change here.
audit: $(STAMP) ## known weaknesses in what the lock installs (make says Error 1: some; Error 3: could not be asked)
	@$(WITH_UV)
	environment $(AUDIT)
	"$$uv" pip install --quiet --upgrade --python $(AUDIT)/bin/python pip-audit
	$(BIN)/python -m historical_etl_tests.audit $(AUDIT)/bin/pip-audit $(ARGS)

# The tests that are no proof by fault and have all their cases run in parallel; what watches and kills processes runs
# alone, so that it finds the machine as it expects it. Each part prints what it tried.
TORTURE := --torture --hypothesis-profile torture -o timeout=0 $(SEED:%=--seed=%)
torture: $(STAMP) ## all of every proof: each fault, 300 kills, 500 markets of faults and a large one (hours)
	@$(TEST_ENVIRONMENT)
	tests=historical_etl_tests
	$(BIN)/python -m pytest $$tests/proofs/crash $$tests/proofs/property $$tests/etl/maintenance $(TORTURE) --kills 300 --many-minutes 60 $(ARGS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TORTURE) $(ARGS) \
	  --ignore=$$tests/proofs/crash --ignore=$$tests/proofs/property --ignore=$$tests/etl/maintenance --ignore=$$tests/ui
	$(BIN)/python -m historical_etl_tests.proofs.adopt_run
	$(BIN)/python -m historical_etl_tests.proofs.simulation.run --seeds 500
	$(BIN)/python -m historical_etl_tests.proofs.simulation.run --seeds 1 --symbols 200 --sessions 2520 --filled 0.9 --rounds 5

# In a folder outside of the checkout, which keeps what is known of the tests and of each mutant.
MUTANTS ?= $(or $(TMPDIR),/tmp)/historical-etl-mutants

mutate: $(STAMP) ## change the store's code in 300 places, one at a time, and list what no test notices (MUTANTS=folder)
	@$(BIN)/python -m tools.mutation $(MUTANTS) $(or $(ARGS),--sample 300)

# Each has an environment of its own: they need other versions than we do, and what cannot be installed is left out alone.
PEERS     ?=
PEER_ENVS := .venv-peers

bench: $(STAMP) ## measure against the floor, and against DuckDB, Delta, ArcticDB and DuckLake with PEERS=1
	@$(if $(PEERS),$(WITH_UV))
	for peer in $(if $(PEERS),$(basename $(notdir $(wildcard requirements/peers/*.txt)))); do
	  rm -f "$(PEER_ENVS)/$$peer/.stamp"
	  environment "$(PEER_ENVS)/$$peer" &&
	    "$$uv" pip sync --quiet --python "$(PEER_ENVS)/$$peer/bin/python" --require-hashes "requirements/peers/$$peer.txt" &&
	    touch "$(PEER_ENVS)/$$peer/.stamp" || echo "$$peer cannot be installed, and is left out" >&2
	done
	$(BIN)/python -m benchmarks $(if $(PEERS),--peers $(PEER_ENVS)) $(ARGS)

bench-check: $(STAMP) ## fail when a case makes more queries, opens more files ... than benchmarks/budget.json (ACCEPT=1)
	@$(BIN)/python -m benchmarks.counts $(if $(ACCEPT),--accept) $(ARGS)

bench-growth: $(STAMP) ## measure with more years and more symbols, and draw docs/images/growth-*.png
	$(BIN)/python -m benchmarks.growth $(ARGS)

lock: ## resolve all dependencies anew into requirements/lock.txt (needs uv; UPGRADE=1 takes the newest)
	@$(WITH_UV)
	# All extras, so that the vendors' clients that a user gets are the ones tested here.
	"$$uv" pip compile --quiet $(if $(UPGRADE),--upgrade) --universal --generate-hashes --no-header \
	  --python-version 3.11 --all-extras --group dev pyproject.toml --output-file $(LOCK)
	# Beside the peers, Polars and DuckDB are those of the lock.
	for peer in requirements/peers/*.in; do
	  "$$uv" pip compile --quiet $(if $(UPGRADE),--upgrade) --universal --generate-hashes --no-header --no-annotate \
	    --python-version 3.11 --constraint <(sed -nE "s/^(($$(paste -sd'|' "$$peer"))==[^ ]+).*/\1/p" $(LOCK)) \
	    "$$peer" --output-file "$${peer%.in}.txt"
	done
	if grep -nE '^-|//' $(LOCK) requirements/peers/*.txt; then
	  echo "The lock names an address; it must install from whatever index the reader uses." >&2
	  exit 1
	fi
	echo "$(LOCK): $$(grep -c '^[a-z0-9].*==' $(LOCK)) packages"

clean: ## remove caches and .venv; never data/ or dagster_home/
	@rm -rf .venv $(LOWEST) $(AUDIT) $(PEER_ENVS) .uv .pytest_cache .ruff_cache .hypothesis .import_linter_cache htmlcov dist .coverage .coverage.*
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
