# Everything a person needs, from a bare machine with Python 3.11 or 3.12. No root, no virtual
# environment to activate: each target calls the programs in .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := .uv/bin/uv
# KILOSORT=0 leaves out what stands under the GPL: kilosort, and ffmpeg for simulated video.
KILOSORT ?= 1
GPL    := kilosort|faiss-cpu|imageio-ffmpeg
KIND   := $(if $(filter 0,$(KILOSORT)),-without-gpl)
STAMP  := $(VENV)/.installed$(KIND)
LOCK   := $(VENV)/requirements$(KIND).lock
PORT   ?= 3000
# A file of tests goes to one worker; the longest begin (tests/conftest.py), not those of most tests.
XDIST  := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# Folder with lab.yaml: this one, or the demonstration's.
LAB    ?= $(if $(wildcard lab.yaml),.,demo_lab)

# The packages are on disk once; links instead of copies fail between file systems.
export UV_LINK_MODE ?= copy
# No package may call home.
export DAGSTER_DISABLE_TELEMETRY := yes

.PHONY: help setup demo up test test-fast lint format lock bench clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## install everything into .venv (the second call does nothing); KILOSORT=0: no GPL

$(UV):
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv uv

$(LOCK): requirements.lock
	@mkdir -p $(@D)
	@awk -v gpl='$(if $(KIND),^($(GPL))==,^$$)' '/^[^ #]/ {skip = $$0 ~ gpl} !skip' $< > $@

$(STAMP): $(LOCK) pyproject.toml | $(UV)
	@test -x $(BIN)/python || $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@rm -f $(VENV)/.installed* && touch $@

demo: setup  ## simulate a session, process it, print what came out
	$(BIN)/neuro-assets demo demo_lab

up: setup  ## the Dagster UI on 127.0.0.1:$(PORT), sensors on
	$(BIN)/neuro-assets --lab $(LAB) up --port $(PORT)

test: setup  ## all tests that this machine can run
	$(BIN)/python -m pytest $(XDIST)

test-fast: setup  ## the tests that take seconds
	$(BIN)/python -m pytest $(XDIST) -m "not slow and not browser and not real"

lint: setup  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy neuro_assets
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: | $(UV)  ## renew requirements.lock from pyproject.toml
	$(UV) pip compile --quiet pyproject.toml --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.lock

bench: setup  ## the benchmarks; JSON and tables in benchmarks/results
	$(BIN)/python -m benchmarks

clean:  ## remove what make made (not your data, not your store)
	rm -rf $(VENV) .uv build *.egg-info .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
