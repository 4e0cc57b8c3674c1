# Targets for people who have just cloned the project. Needs python3 (3.10 or newer) and make only.
#   make tune    install into .venv (once), then tune a ResNet on handwritten digits: 2 to 4 minutes
#   make test    the test suite           make lint    ruff and mypy
#   make slow    the tests that take minutes           make bench   the benchmarks
#   make bench-search   our search beside Ray, Optuna, Syne Tune, SMAC, DEHB and hpbandster (hours; ARGS=--quick: minutes)
#   make bench-driver, make bench-storage   ours beside stock Ray Tune: driver's time, disk (two hours; minutes)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt
BENCH := .venv-bench
BENCH_PIP := $(BENCH)/bin/pip --disable-pip-version-check install -q
ARGS ?=

.PHONY: tune test slow lint format bench bench-search bench-driver bench-storage clean

tune: $(VENV)/.installed
	$(BIN)/python scripts/tune_resnet.py $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench_searcher.py
	$(BIN)/python benchmarks/search/run.py

bench-search: $(BENCH)/.installed
	$(BENCH)/bin/python benchmarks/search/run.py --methods all --seeds 3 $(ARGS)

bench-driver: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench_driver.py $(ARGS)

bench-storage: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench_storage.py $(ARGS)

clean:
	rm -rf $(VENV) $(BENCH) build *.egg-info

# The stamp files make a second call do nothing; a changed pyproject.toml installs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "raytune_ahu needs Python 3.10 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (the default torch is several GB; this takes a minute or two)"
	$(PIP) -e .
	@$(PIP) -e ".[hpbandster]" >$(VENV)/hpbandster.log 2>&1 \
	  && $(BIN)/python -c 'import hpbandster' 2>/dev/null \
	  && echo "hpbandster is installed: --search-option engine=hpbandster can be used" \
	  || echo "hpbandster is not installed (it needs gcc and the Python headers; see $(VENV)/hpbandster.log): everything but engine=hpbandster works without it"
	@touch $@

# The peers have an environment of their own, as some of them need older versions than this project pins.
$(BENCH)/.installed: benchmarks/search/requirements.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH_PIP) -r benchmarks/search/requirements.txt
	$(BENCH_PIP) --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e ".[dev]"
	@touch $@
