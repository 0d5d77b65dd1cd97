"""``examples/plugin``, a package of others: installed, listed, trained, checked, in suites and tables."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
import torch

from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.reporting.collecting import collect
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import METHODS
from methods.core.streams import Streams
from tests import toys  # noqa: F401  (registers the toys)
from tests.packages import install

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "examples" / "plugin"
README = (PLUGIN / "README.md").read_text()
NAME = "magnitude_pruning"
DOC = "Deterministic dense training in which the smallest weights are removed step by step."
#: What is added to a command of the README so that it takes seconds.
SMALLER = {
    "bench.run": "--set epochs=5,network.hidden=[32],every=7 --results results",
    "bench.check": "--network mlp",
    "bench.grid": "--seeds 0 --set epochs=4,network.hidden=[16] --workers 2 --results grid",
    "bench.collect": "--results grid",
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Run a command of the README as one who has installed the package, in a copy of its folder."""
    folder = tmp_path_factory.mktemp("plugin")
    source, site = folder / "plugin", folder / "site-packages"
    copytree(PLUGIN, source, ignore=ignore_patterns("build", "dist", "*.egg-info", "__pycache__"))
    install(source, site)
    (source / f"{NAME}.py").unlink()  # it is the installed one that is found
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(site)]), "COLUMNS": "200"}

    def command(module):
        (line,) = re.findall(rf"^    python -m ({module}\b.*)$", README, re.MULTILINE)
        words = [sys.executable, "-m", *shlex.split(f"{line} {SMALLER.get(module, '')}")]
        done = subprocess.run(words, env=environment, cwd=source, capture_output=True, text=True, timeout=110)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    command.folder = source
    return command


def left(shapes, sparsity):
    """Of each kernel, what is left when floor(sparsity * n) of its n weights go."""
    return sum(rows * columns - math.floor(sparsity * rows * columns) for rows, columns in shapes)


def test_it_is_one_short_file():
    assert [path.name for path in PLUGIN.rglob("*.py")] == [f"{NAME}.py"]
    assert len((PLUGIN / f"{NAME}.py").read_text().splitlines()) < 60
    assert NAME not in METHODS.names()


def test_it_is_listed_with_its_first_line_and_options(command):
    lines = [line.strip() for line in command("bench.list").splitlines()]
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{NAME} "))
    assert lines[at] == f"{NAME}  {DOC}"
    options = [line for line in lines[at + 1 :] if re.match(r"\w+: ", line)]
    assert options[0] == "sparsity: number, default 0.9, valid: [0, 1)"
    assert {"begin", "end", "every"} <= {line.partition(":")[0] for line in options}


def test_a_run_prunes_as_much_as_was_asked(command):
    command("bench.run")
    store = Store(command.folder / "results")
    (run_id,) = store.run_ids()
    run = store.run(run_id)
    costs, method = run.read("costs"), run.read("spec")["config"]["method"]
    assert (method["name"], method["sparsity"], method["every"]) == (NAME, 0.95, 7)
    shapes = [(32, 64), (10, 32)]
    active, dense = left(shapes, 0.95), left(shapes, 0)
    assert costs["density"] == active / dense
    assert costs["params_active"] == active + 32 + 10  # and biases
    # a dense step costs as much as dense VI's without its second contraction, and most steps are cheaper
    assert 0.05 < costs["train_flops"] / costs["deterministic_train_flops"] < 0.7
    stored = torch.load(run.path / "model.pt", weights_only=True)
    values = {key: value for key, value in stored.items() if key.endswith("posterior.mean")}
    assert sum(value.numel() for value in values.values()) == active
    metrics = run.read("metrics")["metrics"]
    (accuracy,) = {
        row["value"] for row in metrics
        if (row["predictor"], row["split"], row["metric"]) == ("samples", "test", "accuracy")
    }  # fmt: skip
    assert accuracy > 0.5


@pytest.mark.parametrize(
    "options", [{"every": 3}, {"end": 0.1}, {"every": 5, "allocation": "global"}], ids=str
)
def test_under_a_budget_of_flops_it_trains_as_long_as_these_allow(tmp_path, monkeypatch, options):
    loaded = importlib.util.spec_from_file_location(NAME, PLUGIN / f"{NAME}.py")
    module = importlib.util.module_from_spec(loaded)
    monkeypatch.setitem(sys.modules, NAME, module)
    loaded.loader.exec_module(module)
    monkeypatch.setitem(METHODS._registered, NAME, module.MagnitudePruning)
    toy = {"dataset": "toy_blobs", "network": "toy_network", "batch_size": 16, "epochs": 4, "budget": "flops"}
    spec = parse_spec(nest(toy | {"method": NAME, "sparsity": 0.8} | options))
    store = Store(tmp_path, create=True)
    assert execute(spec, store, Execution()) == "done"
    costs, problem = store.run(spec.run_id).read("costs"), make_problem(spec)
    counted = problem.method.training_flops(problem.build(Streams(0)), problem.budget) * problem.task.examples
    # ranked together, layers shrink otherwise than alike, which is known only when it is done
    exact = 1e-12 if options.get("allocation") != "global" else 0.1
    assert costs["train_flops"] == pytest.approx(counted, rel=exact)
    assert costs["epochs_total"] > 8  # a step costs half of dense VI's before anything is pruned
    assert costs["train_flops"] < costs["dense_vi_train_flops"] * (1 + exact)


@pytest.mark.slow
def test_it_keeps_the_promises_of_a_method(command):
    assert "0 FAIL" in command("bench.check")


@pytest.mark.slow
def test_workers_train_it_in_a_suite_and_it_is_in_the_tables(command):
    assert "Magnitude pruning" in command("bench.grid")  # by its label
    assert "methods.json" in command("bench.collect")
    store = Store(command.folder / "grid")
    runs = store.read_tables("pruning")["runs"]
    assert (runs["status"] == "done").all()
    assert {store.run(run_id).read("provenance")["executor"] for run_id in runs["run_id"]} == {"local"}
    mine = runs[runs["method"] == NAME]
    for row in runs.itertuples():
        package = {"ssvi-bench-magnitude-pruning": "1.0"} if row.method == NAME else {}
        assert store.run(row.run_id).read("provenance")["packages"] == package
    shapes = [(16, 64), (10, 16)]
    found = [(row.sparsity, row.density) for row in mine.itertuples()]
    assert sorted(found) == sorted(
        (s, left(shapes, s) / left(shapes, 0)) for s in (0.9, 0.98) for _ in range(2)
    )
    assert set(mine["method_version"]) == {1} and len(set(mine["config_label"])) == 4
    reference = runs[runs["method"] == "deterministic"].iloc[0]
    assert (mine["checkpoint_bytes"] < reference["checkpoint_bytes"]).all()
    assert (mine["train_flops"] < reference["train_flops"]).all()

    # its style got there, and stays when whoever has not installed it makes the tables again
    style = {"label": "Magnitude pruning", "hue": "#8A6D00", "marker": "hexagon", "order": 65, "doc": DOC}
    assert NAME not in METHODS.names()
    for _ in range(2):
        assert style.items() <= store.read_styles("pruning")[NAME].items()
        collect(store, "pruning", lambda run, found: found)
    assert json.dumps(style["label"]) in (store.root / "pruning" / "methods.json").read_text()
