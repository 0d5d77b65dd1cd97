# Two commands do all set-up on a fresh machine: `make demo` runs the main job, `make test` the quick tests.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.complete

.PHONY: help demo test test-rest test-all chaos lint format bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      the suite criteria_ablation on embedded data: a few minutes, no download of data"
	@echo "make test      the quick tests"
	@echo "make test-all  all tests: adds slow ones and those that bring up services (make test-rest: these alone)"
	@echo "make chaos     kill processes of a grid 100 times and cut files short, and compare its results: minutes"
	@echo "make lint      ruff, mypy and the import rules"
	@echo "make format    reformat the source"
	@echo "make bench     the performance benchmarks"
	@echo "make clean     remove the environment, caches and build products; results stay"

demo: $(STAMP)
	$(PYTHON) -m bench.grid --suite criteria_ablation

test: $(STAMP)
	$(PYTHON) -m pytest -m "not slow and not slurm and not browser"

test-rest: $(STAMP)
	$(PYTHON) -m pytest -m "slow or slurm or browser"

test-all: $(STAMP)
	$(PYTHON) -m pytest

chaos: $(STAMP)
	$(PYTHON) -m tests.chaos --kills 100 --runs 120

lint: $(STAMP)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

format: $(STAMP)
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench: $(STAMP)
	@set -e; for script in tests/performance/*.py; do echo "$$script"; $(PYTHON) $$script; done

clean:
	rm -rf $(VENV) .uv build dist methods/kernels/compiled *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is rebuilt when pyproject.toml or the source of the kernels is newer, when the tree has moved (its scripts hold full paths), or when kernels were removed.
# uv comes from PATH, else from pip, else from a private environment where pip must not touch the system's.
# The imports at the end have what every process loads byte-compiled, which halves the start of each worker.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): .FORCE
else ifeq ($(wildcard methods/kernels/compiled/*),)
$(STAMP): .FORCE
endif
$(STAMP): pyproject.toml setup.py $(wildcard methods/kernels/source/*)
	@set -e; \
	if uv --version >/dev/null 2>&1; then uv=uv; \
	elif python3 -m uv --version >/dev/null 2>&1 || python3 -m pip install --quiet uv 2>/dev/null; then uv="python3 -m uv"; \
	else python3 -m venv .uv; .uv/bin/python -m pip install --quiet uv; uv=.uv/bin/uv; fi; \
	$$uv venv --clear $(VENV); \
	$$uv pip install --python $(PYTHON) --editable '.[dev]'; \
	env -u PYTHONDONTWRITEBYTECODE $(PYTHON) -c "import pandas, psutil, pyarrow.parquet, rich.live, scipy.stats, submitit, torch._dynamo, yaml"; \
	printf '%s' '$(CURDIR)' > $@

.PHONY: .FORCE
.FORCE:
