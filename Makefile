# A machine needs Python 3.11 or newer and make; `make test` also uses Docker where it answers.
PYTHON ?= python3
UV ?= uv
SECONDS ?=
SHORT ?=
SEED ?=
RATE ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
LOCK := requirements
TOO_OLD := "Tickbridge needs Python 3.11 or newer, $(PYTHON) is %d.%d; say make PYTHON=python3.13"
COMPILE := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 \
           --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help demo test faults install lint types schemas docs lock clean
.DELETE_ON_ERROR:

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.demo  ## the whole bridge on embedded brokers; SECONDS=20 ends it by itself
	@$(BIN)/tickbridge demo $(if $(SECONDS),--seconds $(SECONDS))

test: $(VENV)/.dev  ## all tests but the faults; containers where Docker answers, else embedded brokers
	$(BIN)/pytest -m "not faults"

faults: $(VENV)/.dev  ## all that can break, broken under load; SHORT=1 takes minutes, SEED=1 repeats a run
	FAULTS_FORM=$(if $(SHORT),short,full) FAULTS_SEED=$(SEED) FAULTS_RATE=$(RATE) \
	$(BIN)/pytest -m faults --verbose

install: $(VENV)/.dev  ## the environment in .venv, as the other targets make it

lint: $(VENV)/.dev  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy

schemas: $(VENV)/.dev  ## write schemas/ anew from the events
	$(BIN)/tickbridge schemas write

docs: $(VENV)/.dev  ## write docs/settings.md and docs/metrics.md anew from the code
	$(BIN)/python docs/generate.py

lock:  ## resolve requirements/*.txt anew (needs uv)
	$(COMPILE) --upgrade --all-extras --group dev -o $(LOCK)/dev.txt
	$(COMPILE) --extra embedded --group build -c $(LOCK)/dev.txt -o $(LOCK)/demo.txt
	$(COMPILE) -c $(LOCK)/dev.txt -o $(LOCK)/run.txt

clean:  ## remove the environment and all caches
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# dev.txt holds all of demo.txt in the same versions: one environment serves both.
$(VENV)/.demo: $(LOCK)/demo.txt pyproject.toml | $(VENV)/.made
	$(call install,$(if $(wildcard $(VENV)/.dev),dev,demo))
	@touch $@

$(VENV)/.dev: $(LOCK)/dev.txt pyproject.toml | $(VENV)/.made
	$(call install,dev)
	@touch $@ $(VENV)/.demo

# Without build isolation: what builds the package is locked as well.
define install
@echo "installing $(LOCK)/$(1).txt into $(VENV)"
@$(PIP) --require-hashes -r $(LOCK)/$(1).txt
@$(PIP) --no-deps --no-build-isolation -e .
endef

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit($(TOO_OLD) % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV)
	@touch $@
