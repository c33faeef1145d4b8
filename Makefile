# Every target sets up what it needs; `make help` lists them.
MAKEFLAGS += --no-print-directory
PYTHON_OF_VENV := .venv/bin/python
BOOTSTRAP := $(shell command -v $${PYTHON:-/usr/bin/python3} || command -v python3)
ARGS ?=
CASES ?= 100000
SUITE ?= requests
SEEDS ?= 1-5
SEED ?= 1
# pytest in a temporary folder of its own, which is gone afterwards: nothing stays outside this one.
PYTEST = folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT INT TERM && TMPDIR=$$folder $(PYTHON_OF_VENV) -m pytest
# Most tests wait for processes, so two run at a time, a file's in one worker; ARGS="-n 0 --pdb" for one by one.
SIDE_BY_SIDE = -n 2 --dist loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help
.PHONY: bench chaos check clean damaged demo demo-bare etcd fix fuzz help lambdas sandbox test test-etcd tools venv

chaos: venv etcd ## Faults put into the real agent; SUITE=requests|snapshots SEEDS=1-100 CASE="…" RESULTS=docs/results
	@$(PYTHON_OF_VENV) -m tests.chaos $(SUITE) --seeds $(SEEDS) --case "$(CASE)" --results "$(RESULTS)" $(ARGS)

bench: venv etcd ## Backups beside what people do today, as ratios; BENCH=small for a short run, SIZES="100 500" for some
	@$(BOOTSTRAP) tests/setup/bench_tools.py
	@$(PYTHON_OF_VENV) -m tests.bench.snapshots

check: venv ## Lint, format, types, layers, systemd units
	$(PYTHON_OF_VENV) -m ruff check
	$(PYTHON_OF_VENV) -m ruff format --check
	$(PYTHON_OF_VENV) -m mypy
	@$(PYTEST) -q tests/unit/test_layers.py tests/unit/test_systemd_files.py

clean: ## Remove what the other targets made, the cache of fetched programs too
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

damaged: CASES = 10000
damaged: venv etcd ## Damaged snapshots, none of which may be accepted; CASES=10000 SEED=1
	@$(PYTHON_OF_VENV) -m tests.damage --cases $(CASES) --seed $(SEED) $(ARGS)

demo: venv etcd lambdas ## A whole control plane here, one backup through it, and its trace
	@$(PYTHON_OF_VENV) -m tests.sandbox.demo $(ARGS)

demo-bare: ## The demo in a bare Debian tree, as root and as a normal user; needs root and debootstrap
	@$(BOOTSTRAP) tests/setup/bare.py $(ARGS)

etcd: ## Fetch the etcd versions that Debian has into the cache, without installing them
	@$(BOOTSTRAP) tests/setup/etcd.py

fix: venv ## Format, and mend what the linter can
	$(PYTHON_OF_VENV) -m ruff check --fix
	$(PYTHON_OF_VENV) -m ruff format

fuzz: venv ## Near-valid input of every kind, CASES=100000; ARGS="--seed 1 --target requests"
	@$(PYTHON_OF_VENV) -m tests.fuzz --cases $(CASES) $(ARGS)

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lambdas: venv ## Build dist/lambdas.zip, the same bytes every time
	@$(PYTHON_OF_VENV) lambdas/build.py

sandbox: venv etcd ## A control plane to play with, until Ctrl-C; ARGS="--size-mb 100 --members 5"
	@$(PYTHON_OF_VENV) -m tests.sandbox $(ARGS)

test: venv etcd ## All tests; ARGS="-k name" for some
	@$(PYTEST) $(SIDE_BY_SIDE) $(ARGS)

test-etcd: venv etcd ## What the agent needs of etcd, on each version that is here; 3.6 and 3.7 come by `make tools`
	@$(PYTEST) tests/etcd_versions --etcd others $(SIDE_BY_SIDE) $(ARGS)

tools: ## Build what only comes as source: the S3 server versitygw, etcd 3.6 and 3.7 (needs Go)
	@$(BOOTSTRAP) tests/setup/tools.py

venv: ## Make .venv with the exact versions of constraints.txt
	@$(BOOTSTRAP) tests/setup/venv.py
