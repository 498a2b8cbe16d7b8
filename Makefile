# Needs Python 3.11 or newer and make. `make test` also uses Docker if it answers.
PYTHON ?= python3
UV ?= uv
SECONDS ?=
SCHEDULES ?= 2000
MINUTES ?= 3
TARGET ?=
SHORT ?=
SEED ?=
RATE ?=
WORKERS ?= 3
VALUES ?=
QUICK ?=
CAPTURES ?= $(wildcard ../shared/data/spot/*_20240808.gz)
SBOM ?= dist/tickbridge.cdx.json
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
LOCK := requirements
TOO_OLD := "Tickbridge needs Python 3.11 or newer, $(PYTHON) is %d.%d; run make PYTHON=python3.13"
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 \
           --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'
IMAGE ?= tickbridge
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git describe --always --exclude='*' --abbrev=40 --dirty 2>/dev/null || echo unknown)

.DEFAULT_GOAL := help
.PHONY: help demo test faults bench simulate fuzz deploy install lint types contracts schemas docs pictures chart cluster image lock sbom advisories clean
.DELETE_ON_ERROR:

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.demo  ## run the whole bridge on embedded brokers; SECONDS=20 stops it after that time
	@$(BIN)/tickbridge demo $(if $(SECONDS),--seconds $(SECONDS))

test: $(VENV)/.dev  ## run all tests except faults, deploy and cluster, on containers or embedded brokers; WORKERS=3 processes
	$(BIN)/pytest --numprocesses $(WORKERS) -m "not faults and not deploy and not cluster"

# The short form checks the promises and measures nothing, so three scenarios run at a time, and a
# process that is done takes the next one. The folder of the scenarios comes first so that its
# conftest.py, which prints the table, is always read.
faults: $(VENV)/.dev  ## inject every failure under load (85 minutes); SHORT=1 takes minutes, SEED=1 repeats a run
	FAULTS_FORM=$(if $(SHORT),short,full) FAULTS_SEED=$(SEED) FAULTS_RATE=$(RATE) \
	$(BIN)/pytest -m faults --verbose $(if $(SHORT),--numprocesses 3 --maxschedchunk 1) tests/faults tests

simulate: $(VENV)/.dev  ## run the service under SCHEDULES=2000 random fault schedules; SEED=17 replays one
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--schedules $(SCHEDULES))

fuzz: $(VENV)/.dev  ## try damaged input on all that reads input from outside, for MINUTES=3; TARGET=frames SEED=17 replays a round
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(TARGET:%=--target %) $(SEED:%=--seed %)

bench: $(VENV)/.dev  ## measure this machine (50 minutes) and write docs/explanation/performance.md; QUICK=1 only tries the benchmarks
	$(BIN)/tickbridge bench $(CAPTURES:%=--capture %) $(if $(QUICK),--quick,--docs docs/explanation/performance.md)

install: $(VENV)/.dev  ## make the environment in .venv that the other targets use

lint: $(VENV)/.dev  ## check rules and format with ruff
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev  ## check types with mypy --strict
	$(BIN)/mypy

contracts: $(VENV)/.dev  ## check which folder may import which (ARCHITECTURE.md)
	$(BIN)/lint-imports --no-logo --no-cache

schemas: $(VENV)/.dev  ## write schemas/ from the events
	$(BIN)/tickbridge schemas write

docs: $(VENV)/.dev  ## write the pages that are made from the code, and build the site in dist/docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d dist/.doctrees . dist/docs

image:  ## build the container image, named IMAGE, and print the size of its layers
	docker build --tag $(IMAGE):$(VERSION) --tag $(IMAGE) --build-arg PIP_INDEX_URL \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) .
	@docker history --format 'table {{.Size}}\t{{.CreatedBy}}' $(IMAGE)

pictures: $(VENV)/.dev  ## take the pictures of docs/pictures again (12 minutes; needs Chromium)
	$(BIN)/python -m tests.pictures

chart: $(VENV)/.dev  ## write the chart's schema and README from the settings and values
	$(BIN)/python charts/generate.py

deploy: $(VENV)/.dev  ## test the image, the compose file and the chart's container; deploys nothing
	$(BIN)/pytest -m deploy

cluster: $(VENV)/.dev  ## try the chart on the cluster of the current kubeconfig; VALUES=yours.yaml also installs and upgrades it
	TEST_TOOLS=required CLUSTER_VALUES=$(VALUES) $(BIN)/pytest -m cluster -rs tests/cluster

lock:  ## resolve requirements/*.txt again (needs uv)
	$(COMPILE) pyproject.toml --upgrade --all-extras --group dev -o $(LOCK)/dev.txt
	$(COMPILE) pyproject.toml --extra embedded --group build -c $(LOCK)/dev.txt -o $(LOCK)/demo.txt
	$(COMPILE) pyproject.toml --extra fast -c $(LOCK)/dev.txt -o $(LOCK)/run.txt
	$(COMPILE) --group build -c $(LOCK)/dev.txt -o $(LOCK)/build.txt

sbom: $(VENV)/.dev  ## write the image's bill of materials (CycloneDX) to SBOM
	@mkdir -p $(dir $(SBOM))
	$(BIN)/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml \
	  --output-reproducible --output-file $(SBOM) $(LOCK)/run.txt

advisories: $(VENV)/.dev  ## ask OSV for known vulnerabilities of the image's packages
	@.ci/advisories $(BIN)/pip-audit $(LOCK)/run.txt

clean:  ## remove the environment and all caches
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# dev.txt has everything in demo.txt, in the same versions, so one environment serves both.
$(VENV)/.demo: $(LOCK)/demo.txt pyproject.toml | $(VENV)/.made
	$(call install,$(if $(wildcard $(VENV)/.dev),dev,demo))
	@touch $@

$(VENV)/.dev: $(LOCK)/dev.txt pyproject.toml | $(VENV)/.made
	$(call install,dev)
	@touch $@ $(VENV)/.demo

# No build isolation, because the build tools are locked as well.
define install
@echo "installing $(LOCK)/$(1).txt into $(VENV)"
@$(PIP) --require-hashes -r $(LOCK)/$(1).txt
@$(PIP) --no-deps --no-build-isolation -e .
endef

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit($(TOO_OLD) % sys.version_info[:2])'
	@$(PYTHON) -m venv $(VENV)
	@touch $@
