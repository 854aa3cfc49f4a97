# groundswell: `make run` trains, registers and traces a model on real data; `make test` checks everything.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := infra/requirements.lock
TORCH := torch==2.13.0
STAMP := $(VENV)/.installed
TEAM ?= .groundswell-team
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test lint types unit fuzz shipped-codec lock images base-image image-locks team-images team-secrets team-up team-down kubernetes clean

help:  ## Shows this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): $(LOCK) pyproject.toml
	@echo "==> setting up $(VENV) (a few minutes, once)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"error: Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}\nhint: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "==> torch"
	@$(BIN)/python -m pip install -q $(TORCH)
	@echo "==> the libraries of $(LOCK)"
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r $(LOCK)
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP)  ## Trains, evaluates, registers and traces a model on real data.
	@echo "==> the training pipeline (interrupt it and run it again as you like)"
	@$(BIN)/groundswell run training

test: $(STAMP) lint types unit  ## Lint, types, import contracts and all tests.

lint: $(STAMP)
	@echo "==> lint and import contracts"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || (cat $(VENV)/lint-imports.log; exit 1)
	@$(BIN)/deptry . 2> $(VENV)/deptry.log || (cat $(VENV)/deptry.log; exit 1)

types: $(STAMP)
	@echo "==> types"
	@$(BIN)/mypy

unit: $(STAMP)
	@echo "==> tests"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --cov --cov-report=term:skip-covered -n 2 --dist loadfile

fuzz: $(STAMP)  ## Looks for a change of the records that verification misses: 10,000 tampers and as many sound states (ten minutes).
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz_ledger --cases 10000

shipped-codec: $(STAMP)  ## Trains the shipped codec again, and writes it with its evidence to infra/codecs (half an hour).
	@$(BIN)/groundswell --home build/codec-home run codec -S data.size=64 -S data.categories=[]
	@$(BIN)/python -m pipelines.ship_codec build/codec-home

lock: $(STAMP)  ## Resolves the lock anew.
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o $(LOCK)

images: $(STAMP)  ## Builds the container images. ENGINE=podman, BASE=an image with Python, IMAGES="platform": as you like.
	@$(BIN)/python -m infra.images.build --engine "$(ENGINE)" --base "$(BASE)" $(IMAGES)

base-image: $(STAMP)  ## Makes a base image with debootstrap, where no registry is at hand (as root).
	@$(BIN)/python -m infra.images.build --engine "$(ENGINE)" --base-only

image-locks: $(STAMP)  ## Resolves the images' locks anew, within infra/requirements.lock.
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/python -m infra.images.locks

team-images: $(STAMP)  ## Builds the images of a team's server, PostgreSQL's too (as root).
	@$(BIN)/python -m infra.images.build --engine "$(ENGINE)" --base "$(BASE)" platform mlflow objects
	@$(BIN)/python -m infra.team.images --engine "$(ENGINE)"

team-secrets: $(STAMP)  ## Makes the secrets of a team's server in TEAM (.groundswell-team), once.
	@$(BIN)/python -m infra.team.secrets "$(TEAM)"

team-up:  ## Starts a team's server with podman: PostgreSQL, an object store, MLflow, and the platform.
	@podman secret inspect groundswell > /dev/null 2>&1 || podman secret create groundswell "$(TEAM)/podman.json"
	@podman kube play infra/team/team.yaml

team-down:  ## Stops it; its volumes stay.
	@podman kube down infra/team/team.yaml

kubernetes: $(STAMP)  ## Renders what is deployed on Kubernetes, and validates each resource. OVERLAYS="DIR ...": your own.
	@$(BIN)/python -m tests.infra.kubernetes.check $(OVERLAYS)

clean:  ## Removes what was built; keeps the home (.groundswell) and the environment.
	@rm -rf build .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*
