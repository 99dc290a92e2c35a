# One line per target. `make demo` does the main job on a bare machine, `make test` proves it.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PY := .venv/bin/python
READY := .venv/.ready
SUITE := PYTHONPATH=tests $(PY) -m suite

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml requirements/dev.txt tools/bootstrap
	@tools/bootstrap

venv: $(READY) ## the virtual environment with everything that development needs

packages: ## Debian packages of the lab: installed as root, else named with the command to run
	@tools/packages

demo: $(READY) packages ## a real Kubernetes from nothing, the operator, a trained model, scores by gRPC and HTTP
	@$(PY) -m examples.demo

# What takes minutes once is made before the tests, whose own limits are for a warm machine.
test: verify binaries images ## everything: lint, types, unit, integration (real control plane), e2e (real nodes)
	@SERVAL_FORBID_SKIPS=1 $(SUITE)

test-all: verify binaries images ## the same with nothing sampled or left out: for the night
	@SERVAL_WHOLE=1 SERVAL_FORBID_SKIPS=1 $(SUITE)

test-lab: $(READY) packages ## the lab's own tests, which `make test` runs when the lab changed; needs root
	@$(SUITE) lab

verify: lint typecheck generated words ## what needs no cluster and no test

lint: $(READY) ## ruff and the layers
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/lint-imports --no-logo 2>&1 | tail -n 12

typecheck: $(READY) ## mypy, strict
	@.venv/bin/mypy

generate: $(READY) ## write what is generated: CRDs and their copies in the chart, descriptors, parts of documents
	@$(PY) tools/generate.py
	@$(PY) tools/descriptors.py

generated: $(READY) ## fail if something generated is out of date
	@$(PY) tools/generate.py --check
	@$(PY) tools/descriptors.py --check

words: $(READY) ## fail if the prose of documents or code has more unclear words than allowed
	@$(PY) tools/words.py

unit: $(READY) ## tables, goldens, properties; minutes, on two cores
	@$(SUITE) unit

integration: $(READY) packages ## against etcd, kube-apiserver, controller manager and scheduler
	@$(SUITE) integration

e2e: $(READY) packages ## on the real nodes; needs root
	@$(SUITE) e2e

bench: $(READY) packages ## measures the operator and the server; prints tables
	@$(PY) -m benchmarks

binaries: $(READY) packages ## Kubernetes, etcd, containerd, ... from their published Go modules, cached
	@$(PY) -m serval_lab binaries

images: $(READY) packages ## both container images, cached by content
	@$(PY) -m serval_lab.images build

lab-up: $(READY) packages ## start (or find) the lab
	@$(PY) -m serval_lab up

lab-down: $(READY) ## end the lab and list what is left of it: nothing
	@$(PY) -m serval_lab down && $(PY) -m serval_lab leftovers --name serval

lab-kubeconfig: $(READY) ## path of the running lab's kubeconfig
	@$(PY) -m serval_lab kubeconfig

clean: ## remove what was made in the checkout
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

.PHONY: help venv packages demo test test-all test-lab verify lint typecheck generate generated words unit integration e2e bench binaries images lab-up lab-down lab-kubeconfig clean
