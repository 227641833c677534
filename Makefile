# README's two commands are `make demo` and `make test`; everything they need they set up themselves.
PYTHON ?= python3.11
# What pip is asked for as PyTorch. A GPU build: make demo TORCH="torch==2.13.0 --index-url <index of that build>"
TORCH ?= torch==2.13.0
BIN := .venv/bin
export HF_HUB_OFFLINE = 1
export GX_ANALYTICS_ENABLED = false

.PHONY: demo test check ui bench docs lock clean

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The whole pipeline of assets/ml_projects on real records: label every week, train, evaluate, predict, report.
demo: .venv/installed
	$(BIN)/annotation-pipelines run ml_projects

test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The Dagster UI (dagster dev -w workspace.yaml), with reports and Data Docs beside it.
ui: .venv/installed
	$(BIN)/annotation-pipelines ui

bench: .venv/installed
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

# Print the two references again: docs/declaration.md and docs/tables.md.
docs: .venv/installed
	$(BIN)/python -m annotation_pipelines.reference docs

# Resolve the dependencies anew and write requirements.lock: exact versions and hashes, no addresses; torch and the
# CUDA packages it brings are left out, since its builds differ by machine. LOCK_OPTIONS may hold constraints.
lock: .venv/installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --quiet --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-package torch $(LOCK_OPTIONS) > requirements.lock.new
	awk '/^[a-z]/ {keep = !/^(cuda-|nvidia-|triton==)/} keep' requirements.lock.new > requirements.lock
	rm requirements.lock.new

# The environment and the caches. What was labelled (storage/, .dagster/) stays: it was paid for.
clean:
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis dist
