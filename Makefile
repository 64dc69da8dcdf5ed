# The project's commands. `make` alone lists them; none needs root.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# pip's output, as a count a person can watch.
COUNT := awk '/^Collecting/ {n++; if (n % 20 == 0) print "[setup] " n " packages found"} \
  /^Installing collected/ {print "[setup] installing them"} {fflush()}'
PIP := $(BIN)/pip install --disable-pip-version-check --progress-bar off

LOCKED := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
  --custom-compile-command "make lock"
LOCK := $(BIN)/uv pip compile -q pyproject.toml $(LOCKED)

.PHONY: help up test check format control-plane ollama tools node images e2e chart docs release \
  bench faults scale soak pictures lock clean

help: ## List these commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

up: .venv/.standalone ## Run everything on this machine, without a cluster
	@$(BIN)/llmb up $(UP)

test: .venv/.dev control-plane ollama tools check ## Install, build the real servers once, check, run every test
	@$(BIN)/pytest $(PYTEST)

check: .venv/.dev ## Style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo > .venv/imports.log || { cat .venv/imports.log; exit 1; }

format: .venv/.dev ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

control-plane: ## Build kube-apiserver, kubectl and etcd once, outside the repository
	@$(PYTHON) tests/parts/build.py control-plane

ollama: ## Build Ollama once, outside the repository
	@$(PYTHON) tests/parts/build.py ollama

tools: ## Build helm and kube-score and fetch promtool once, outside the repository
	@$(PYTHON) tests/parts/build.py tools

node: ## Build kubelet and the other programs of a real node once, outside the repository
	@$(PYTHON) tests/parts/build.py node

images: ## Build both images into dist/images (buildah, docker or podman)
	@$(PYTHON) images/build.py --out dist/images

e2e: .venv/.dev control-plane ollama tools node ## Stories on a real node: KUBECONFIG's, or one started here (root; 20 minutes)
	@$(BIN)/pytest tests/stories $(PYTEST)

chart: ## Copy what kustomize applies into the Helm chart, after a change of crds/ or manifests/
	@$(PYTHON) manifests/helm/files.py

docs: .venv/.dev ## Build the documentation's site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q -d build/site
	@echo "build/site/index.html"

release: .venv/.dev control-plane tools ## Wheel, images, chart, install.yaml, SBOM and checksums of a tag, into dist/release
	@$(BIN)/python -m release $(RELEASE)

bench: .venv/.dev ## Measure the router beside nginx and its peers, one report (ten minutes)
	@$(BIN)/python -m bench $(BENCH)

faults: .venv/.dev control-plane ## The numbered checks of docs/checks.md: everything the control plane stands on breaks
	@$(BIN)/pytest -m check $(PYTEST)

scale: .venv/.dev control-plane ## A thousand and two thousand resources: time, writes, latency, memory (fifteen minutes)
	@PYTHONPATH=tests $(BIN)/python -m bench.scale $(SCALE)

soak: .venv/.dev ## Chaos, swaps under load and a million requests against one router (half an hour)
	@LLMB_SOAK=1 $(BIN)/pytest tests/soak --timeout 2400 $(PYTEST)

pictures: .venv/.dev ## Take the pictures of docs/page.md anew (half a minute; needs Chromium)
	@PYTHONPATH=tests $(BIN)/python -m browser.pictures docs/images

lock: .venv/.dev ## Pin every dependency again, with hashes and without a registry's address
	@$(LOCK) --extra standalone -o locks/standalone.txt
	@$(LOCK) --extra admin -c locks/standalone.txt -o locks/operator.txt
	@$(LOCK) --extra router -c locks/standalone.txt -o locks/router.txt
	@$(LOCK) --extra dev -c locks/standalone.txt -o locks/dev.txt
	@echo 'setuptools>=80' | $(BIN)/uv pip compile -q - $(LOCKED) -o locks/build.txt

clean: ## Remove what was installed and run here; built servers stay in their cache
	@rm -rf .venv build dist llmb-data .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; }
	@echo "[setup] a virtual environment in .venv"
	@$(PYTHON) -m venv .venv

.venv/.standalone: .venv/bin/python locks/standalone.txt pyproject.toml
	@test -e .venv/.dev || { echo "[setup] installing what locks/standalone.txt pins"; \
	  $(PIP) --require-hashes -r locks/standalone.txt | $(COUNT); \
	  $(PIP) -q --no-deps -e .; }
	@touch $@

.venv/.dev: .venv/bin/python locks/dev.txt pyproject.toml
	@echo "[setup] installing what locks/dev.txt pins (two minutes the first time)"
	@$(PIP) --no-compile --require-hashes -r locks/dev.txt | $(COUNT)
	@$(PIP) -q --no-deps -e .
	@touch $@
