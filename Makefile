# Everything that one does with rtsep from a clone. `make help` lists the targets from the comments behind their names.
# Needs Python 3.11 or newer and the network on the first call; installs into $(VENV) only.

VENV ?= .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
            $(shell $(p) -c 'import sys; print("$(p)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
# Extras for the tests; CI adds `train` (torch) and `eval`, without which their tests are skipped.
TEST_EXTRAS ?= cpu,jack,dev
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run demo devices test lint format bench bench-guard wheel clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  ARGS="..." goes to the program, as in: make run ARGS="--input mic --output speakers --karaoke"'

run: $(VENV)/.run  ## install what is needed and separate live: mic to speakers, or the demo song where there is no sound device
	@$(BIN)/rtsep $(ARGS)

demo: $(VENV)/.run  ## separate the built-in song in real time and record its parts to demo/
	@$(BIN)/rtsep --input demo --output null --record demo --overwrite $(ARGS)

devices: $(VENV)/.run  ## list the sound devices and check the machine
	@$(BIN)/rtsep devices; $(BIN)/rtsep doctor

test: $(VENV)/.dev  ## run the tests (ARGS="tests/dsp -k ring" for some of them)
	@tools/run-tests $(BIN)/python $(ARGS)

lint: $(VENV)/.dev  ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev  ## put the code into the project's format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

bench: $(VENV)/.dev  ## measure everything and write Markdown and JSON to build/bench/
	@$(BIN)/rtsep bench all $(ARGS)

bench-guard: $(VENV)/.dev  ## fail if the hot path is slower than the committed baseline
	@$(BIN)/rtsep bench guard $(ARGS)

wheel: $(VENV)/.dev  ## build the wheel, models included, into dist/
	@$(PIP) build && $(BIN)/python -m build --wheel --outdir dist

clean:  ## remove the environment and all that was built
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find rtsep tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the local environment -------------------------------------------------------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "rtsep needs Python 3.11 or newer (try: sudo apt install python3)"; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@tools/make-venv $(PYTHON) $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing rtsep and what it needs into $(VENV) (once)"
	@$(PIP) --editable '.[cpu,jack]'
	@echo "compiling the audio path (once)"
	@$(BIN)/rtsep --input test:sine --output null --duration 0.5 --quiet
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing rtsep and its tests into $(VENV) (once)"
	@$(PIP) --editable '.[$(TEST_EXTRAS)]'
	@touch $@
