# Two commands do all set-up on a fresh machine: `make demo` runs the main job, `make test` the quick tests.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.complete
# without compiled files on disk, every process of tests and grids would compile the package anew
unexport PYTHONDONTWRITEBYTECODE
# a process a core; tests that share what is dear to make stay together (tests/conftest.py)
PYTEST := $(PYTHON) -m pytest -n auto --dist loadscope --no-loadscope-reorder --durations=30 --durations-min=5

.PHONY: help demo dashboard reference findings screenshots test test-rest test-all fuzz chaos lint format bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      the suite criteria_ablation on embedded data: a few minutes, no download of data"
	@echo "make dashboard a page in the browser, of results/ or else of the reference results"
	@echo "make test      the quick tests"
	@echo "make test-all  all tests: adds slow ones and those that bring up services (make test-rest: these alone)"
	@echo "make fuzz      the tests that draw at random, with 25 times as much: hours"
	@echo "make chaos     kill processes of a grid 100 times and cut files short, and compare its results: minutes"
	@echo "make reference compute the reference results of results/reference again: hours"
	@echo "make screenshots  the pictures of the README, anew"
	@echo "make lint      ruff, mypy and the import rules"
	@echo "make format    reformat the source"
	@echo "make bench     the performance benchmarks"
	@echo "make clean     remove the environment, caches and build products; results stay"

demo: $(STAMP)
	$(PYTHON) -m bench.grid --suite criteria_ablation

dashboard: $(STAMP)
	$(PYTHON) -m bench.dashboard

test: $(STAMP)
	$(PYTEST) -m "not slow and not slurm and not browser"

test-rest: $(STAMP)
	$(PYTEST) -m "slow or slurm or browser"

test-all: $(STAMP)
	$(PYTEST)

# The reference results: an hour or so of two cores at demo, and hours of the small grids on real images
# (bench.download fashion_mnist, cifar10). Stopped, it goes on; what is done is not repeated.
WORK := results/working
reference: $(STAMP)
	$(PYTHON) -m bench.grid --suite criteria_ablation --seeds 0-9 --results $(WORK)
	$(PYTHON) -m bench.grid --suite sparsity_sweep --results $(WORK)
	$(PYTHON) -m bench.grid --suite sparsity_sweep --where "sparsity=0|0.95|0.98" --seeds 0-9 --results $(WORK)
	$(PYTHON) -m bench.grid --suite baselines --results $(WORK)
	$(PYTHON) -m bench.grid --suite baselines --where "budget=epochs,sparsity=0|0.95" --seeds 0-9 --results $(WORK)
	$(PYTHON) -m bench.grid --suite baselines --scale small --where "budget=epochs,sparsity=0|0.95,method=dense_vi|deterministic|mc_dropout|sparse_vd|lbbnn|ssvi|static_vi|magnitude_vi|snr_vi|rigl" --results $(WORK)
	$(PYTHON) -m bench.grid --suite sparsity_sweep --scale small --where "dataset=fashion_mnist,sparsity=0|0.8|0.9|0.95|0.98,method=dense_vi|static_vi|ssvi" --results $(WORK)
	$(PYTHON) -m bench.grid --suite sparsity_sweep --scale small --where "dataset=cifar10,sparsity=0|0.9|0.98,method=dense_vi|static_vi|ssvi" --seeds 0-1 --results $(WORK)
	$(PYTHON) -m bench.grid --suite posterior --seeds 0-9 --results $(WORK)
	$(PYTHON) -m bench.grid --suite ood --results $(WORK)
	$(PYTHON) -m bench.grid --suite ood --where "sparsity=0|0.95" --seeds 0-9 --results $(WORK)
	$(PYTHON) -m bench.grid --suite adaptive --seeds 0-9 --results $(WORK)
	for suite in subspace_evolution hyperparameters kl_schedule initialisation architectures high_dimensional; do \
	    $(PYTHON) -m bench.grid --suite $$suite --results $(WORK) || exit; done
	$(PYTHON) -m bench.publish --suite all --results $(WORK) --to results/reference

# the sentences and tables of docs/findings.md, from the reference results
findings: $(STAMP)
	$(PYTHON) -m tests.claims

screenshots: $(STAMP)
	$(PYTHON) -m tests.screenshots

fuzz: $(STAMP)
	BENCH_FUZZ=25 $(PYTEST) -m "fuzz"

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
	@set -e; for script in tests/performance/[a-z]*.py; do echo "$$script"; $(PYTHON) $$script; done

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
	$$uv pip install --python $(PYTHON) --editable '.[dashboard,dev,onnx]'; \
	$(PYTHON) -c "import pandas, plotly.graph_objects, psutil, pyarrow.parquet, rich.live, scipy.stats, streamlit, submitit, torch._dynamo, yaml"; \
	printf '%s' '$(CURDIR)' > $@

.PHONY: .FORCE
.FORCE:
