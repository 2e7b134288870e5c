# make demo    run a function through a real stack of hops, printed hop by hop
# make test    everything: sets up the test world (Debian packages, images), then the whole pytest
# make check   the quick round: lint, format, types, unit tests; needs no test world
# make fuzz    each fuzz target for a minute; ARGS='value --seconds 600' for one of them, for longer
# make world   only the set-up of the test world
# make soak    a million calls, ten thousand openings and as many sandboxed jobs, and nothing may grow
# make bench   measures us against peers and the floor, into bench/results.*; bench-quick: under two minutes, only shown
#
# A fresh Debian with Python, git and make is enough; sudo is used where not root.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)
CACHE  := $(or $(OUTRIDER_TEST_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/outrider-tests)
ARGS   ?=

.PHONY: bench bench-quick soak demo test check fuzz world clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@$(BIN)/outrider demo

# The test world switches users and starts servers, so its tests run as root. As root we leave no cache
# files behind in a checkout that belongs to somebody else. Thousands of tests wait for real servers on a busy machine:
# a few that fail are run once more, and told of with what they said (CONTRIBUTING.md).
RERUNS := --reruns 1 --max-suite-reruns 10 --rerun-show-tracebacks

test: $(VENV)/dev world
	@$(SUDO) env OUTRIDER_TEST_CACHE='$(CACHE)' PYTHONDONTWRITEBYTECODE=1 \
	    $(BIN)/python -m pytest -p no:cacheprovider $(RERUNS) $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not slow" tests/unit $(ARGS)

fuzz: $(VENV)/dev
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet atheris || true
	@$(BIN)/python -m tests.fuzz.run $(ARGS)

# Servers as for the tests, so as root, too. The peers' packages are kept in OUTRIDER_BENCH_CACHE.
BENCH := env OUTRIDER_TEST_CACHE='$(CACHE)' OUTRIDER_BENCH_CACHE='$(OUTRIDER_BENCH_CACHE)' PYTHONDONTWRITEBYTECODE=1 \
    $(BIN)/python -m bench.run

bench: $(VENV)/dev world
	@$(SUDO) $(BENCH) --write bench $(ARGS)

soak: $(VENV)/dev world
	@$(SUDO) $(BENCH) --only soak --targets local --calls 1000000 --opens 10000 $(ARGS)
	@$(SUDO) env OUTRIDER_TEST_CACHE='$(CACHE)' TEST_WORLD_SANDBOX_RUNS=10000 PYTHONDONTWRITEBYTECODE=1 \
	    $(BIN)/python -m pytest -p no:cacheprovider --timeout 3600 tests/sandbox/test_leaks.py

bench-quick: $(VENV)/dev world
	@$(SUDO) $(BENCH) --quick $(ARGS)

world:
	@$(SUDO) env OUTRIDER_TEST_CACHE='$(CACHE)' tests/world/install.sh

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Debian splits ensurepip out of Python: without it `venv` fails half-way.
$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { $(SUDO) apt-get -q update; $(SUDO) apt-get -q -y install --no-install-recommends python3-venv; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/installed
