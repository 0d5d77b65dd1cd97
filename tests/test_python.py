"""What Python users call: ``bench.train``, ``plan`` and ``tables``; figures and statistics in one call."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import plotly
import pytest
import torch
import yaml

import bench
from bench import figures, grid, run, statistics
from bench.figures import Look
from bench.launching import pool
from bench.results import claims, styles
from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.tables.columns import TABLES, definitions
from methods import UserError
from tests import figure_data, toys  # noqa: F401  (registers the toys)

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "results" / "reference"
TOY = {"dataset": "toy_blobs", "network": "toy_network", "epochs": 1, "batch_size": 16}


def trained(results, method="ssvi", **settings):
    return bench.train(method, results=results, **{**TOY, **settings})


@pytest.fixture
def suite(tmp_path):
    """The path of a suite of four runs."""
    content = {
        "question": "Which?",
        "reference": {"method": "dense_vi"},
        "scales": {
            "demo": {
                "seeds": "0-1",
                "base": TOY,
                "grids": [
                    {"recipe": "default", "method": "dense_vi"},
                    {"recipe": "default", "method": "ssvi", "sparsity": 0.5},
                ],
            }
        },
    }
    path = tmp_path / "toys.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


# -- the package itself ----------------------------------------------------------------------


def test_importing_it_loads_nothing_heavy_and_all_names_are_there():
    code = (
        "import sys, bench; loaded = {'torch', 'numpy', 'pandas', 'methods'} & set(sys.modules); "
        "print(loaded or 'none'); assert set(bench.__all__) <= set(dir(bench)); "
        "print(*(type(getattr(bench, name)).__name__ for name in bench.__all__))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).splitlines()
    assert out[0] == "none"
    kinds = dict(zip(bench.__all__, out[1].split(), strict=True))
    assert {name for name, kind in kinds.items() if kind == "module"} == {"figures", "statistics"}
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        bench.trian  # noqa: B018


def test_tables_figures_and_statistics_need_no_torch():
    code = (
        "import sys, bench; runs = bench.tables('sparsity_sweep', 'results/reference')['runs']; "
        "bench.figures.Look.of(runs); bench.statistics.references_of(runs); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "False"


# -- one run ---------------------------------------------------------------------------------


def test_a_run_is_trained_once_and_is_the_one_of_the_command(tmp_path, capsys):
    first = trained(tmp_path, sparsity=0.5)
    written = (first.folder / "metrics.json").stat().st_mtime_ns
    for again in (
        trained(tmp_path, sparsity=0.5),
        bench.train(
            sparsity=0.5,
            dataset="toy_blobs",
            network="toy_network",
            results=tmp_path,
            training={"epochs": 1, "batch_size": 16},
        ),
        trained(tmp_path, **{"method.sparsity": 0.5}),
    ):
        assert again.id == first.id
    settings = ",".join(f"{key}={value}" for key, value in {**TOY, "sparsity": 0.5}.items())
    assert run.main(["--set", settings, "--results", str(tmp_path)]) == 0
    assert f"{first.id} is done already" in capsys.readouterr().out
    assert (first.folder / "metrics.json").stat().st_mtime_ns == written
    assert trained(tmp_path, sparsity=0.5, force=True).id == first.id
    assert (first.folder / "metrics.json").stat().st_mtime_ns > written


def test_the_handle_has_what_the_folder_has(tmp_path):
    threads = torch.get_num_threads()
    one = bench.train("ssvi", seed=3, results=tmp_path, threads=threads + 1, **TOY)
    assert torch.get_num_threads() == threads
    rows = json.loads((one.folder / "metrics.json").read_text())["metrics"]
    shown = {"stage": rows[-1]["stage"], "predictor": "samples", "split": "test"}
    scores = {row["metric"]: row["value"] for row in rows if shown.items() <= row.items()}
    assert one.metrics == {name: scores[name] for name in one.metrics} and "accuracy" in one.metrics
    assert one.folder == tmp_path / "runs" / one.id
    assert len(one.tables["metrics"]) == len(rows)
    assert {"epoch", "metric", "value", "split"} <= set(one.history) and len(one.history)
    assert one.costs["train_flops"] > 0
    assert one.tables["runs"].loc[0, "config_label"] == "ssvi epochs=1 batch_size=16"
    assert f"Run({one.id}: accuracy=" in repr(one)
    inputs = torch.randn(4, 8)
    assert torch.equal(one.model.predict(inputs), bench.load(one.id, tmp_path).predict(inputs))


def test_tables_of_runs_can_be_put_together_and_compared(tmp_path):
    every = [trained(tmp_path, method, seed=s) for method in ("ssvi", "dense_vi") for s in range(2)]
    runs = pd.concat(each.tables["runs"] for each in every)
    reference = runs.loc[runs["method"] == "dense_vi", "config_id"].iloc[0]
    (row,) = statistics.paired(runs, "nll", reference).to_dict("records")
    difference = [a.metrics["nll"] - b.metrics["nll"] for a, b in zip(every[:2], every[2:], strict=True)]
    assert row["difference"] == pytest.approx(sum(difference) / 2)
    assert {trace.name for trace in figures.coverage(runs).figure.data}
    assert Look.of(runs).name("ssvi") == "SSVI"  # what tables of a run know of methods


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bench.runner.execute.evaluate_stage", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "status.json").read_text())["status"] == "preempted"
    assert trained(tmp_path).id == folder.name
    assert json.loads((folder / "status.json").read_text())["attempt"] == 2


def test_a_run_that_fails_says_why_and_is_tried_again(tmp_path):
    for attempt in (1, 2):
        with pytest.raises(bench.RunFailed, match=r"failed: loss is \w+ at step") as caught:
            trained(tmp_path, lr=1e30, epochs=3)
        folder = Store(tmp_path).run(caught.value.run_id)
        assert caught.value.status == "failed" == folder.status()
        assert caught.value.reason == folder.read("status")["error"]
        assert folder.read("status")["attempt"] == attempt


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsty": 0.5}, "bench.train: unknown key 'sparsty'.*; valid: .*method: .*sparsity"),
        ({"method": "svi"}, "bench.train: unknown method 'svi'.*; valid: .*ssvi"),
        ({"sparsity": 2}, "bench.train: method: sparsity: .*2"),
        ({"threads": 0}, "threads: 0 is not a positive whole number"),
        ({"device": "cuda:99"}, "this machine has no device 'cuda:99'; valid: auto, cpu"),
        ({"execution": "fast"}, "unknown execution 'fast'.*; valid: auto, dense, sparse"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        trained(tmp_path / "results", **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_a_run_that_another_process_computes_is_left_alone(tmp_path):
    one = trained(tmp_path)
    claim = claims.acquire(Store(tmp_path).run(one.id))
    with pytest.raises(UserError, match=f"run {one.id}: process .* computes it already"):
        trained(tmp_path, force=True)
    claim.release()
    assert trained(tmp_path).id == one.id


# -- a suite ---------------------------------------------------------------------------------


def test_a_plan_has_a_row_a_cell_and_computes_what_is_left(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plan = bench.plan(suite, where="method=ssvi", seeds=[0, 1])
    assert list(plan.cells["method"]) == ["ssvi", "ssvi"] and list(plan.cells["seed"]) == [0, 1]
    assert {"run_id", "config_id", "label", "recipe", "sparsity", "omitted", "tuned"} <= set(plan.cells)
    assert repr(plan) == "SuitePlan(toys, demo: 2 runs to train)"
    found = plan.run("results", executor="inline")
    assert set(found) == set(TABLES) and set(found["runs"]["run_id"]) == set(plan.cells["run_id"])
    assert set(found["runs"]["status"]) == {"done"}
    everything = bench.plan(suite).run("results", executor="inline")
    assert len(everything["runs"]) == 4 and everything["runs"].attrs["references"]
    assert "2 done, 2 pending" in capsys.readouterr().out
    # what was asked for, as a command: it finds everything done
    assert len(plan.run("results", executor="inline")["runs"]) == 2
    (first, _) = Store("results").commands("toys", "demo")
    words = shlex.split(first)
    assert words[:3] == ["python", "-m", "bench.grid"]
    assert grid.main([*words[3:], "--executor", "inline"]) == 0
    assert "2 runs: 2 done" in capsys.readouterr().out


def test_numbers_of_numpy_are_numbers(tmp_path):
    plain = bench.train("ssvi", sparsity=0.9, epochs=1, seed=1, results=tmp_path)
    of_numpy = {"epochs": np.int64(1), "method": "ssvi", "seed": np.int64(1)}
    run = bench.train(sparsity=np.float64(0.9), results=tmp_path, **of_numpy)
    assert run.id == plain.id
    seeds = [bench.plan("sparsity_sweep", seeds=seeds).cells["seed"].unique().tolist() for seeds in
             (np.int64(3), np.arange(2), [4], 5)]  # fmt: skip
    assert seeds == [[3], [0, 1], [4], [5]]
    with pytest.raises(UserError, match=r"^seeds: none are given"):
        bench.plan("sparsity_sweep", seeds=[])


def test_what_runs_set_for_the_process_is_as_before(tmp_path):
    backends = torch.backends

    def state():
        return (
            torch.get_num_threads(),
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.deterministic,
        )

    backends.cudnn.deterministic = False
    before = state()
    bench.train("ssvi", sparsity=0.9, epochs=1, results=tmp_path)
    plan = bench.plan("sparsity_sweep", where="method=ssvi, sparsity=0.9", seeds=0, epochs=1)
    plan.run(tmp_path, executor="inline")
    assert state() == before
    with pytest.raises(UserError, match=r"^workers: 2: inline computes one run at a time; valid: 1$"):
        plan.run(tmp_path, executor="inline", workers=2)


def test_cells_that_mean_the_same_are_omitted_with_the_reason():
    cells = bench.plan("criteria_ablation", seeds=0).cells
    omitted = cells[cells["omitted"].notna()]
    assert set(omitted["criterion"]) == {"snr_abs"}
    assert set(omitted["alias_of"]) <= set(cells.loc[cells["omitted"].isna(), "run_id"])


def test_settings_make_other_runs_and_wrong_ones_are_one_line(suite):
    assert set(bench.plan(suite).cells["run_id"]).isdisjoint(bench.plan(suite, epochs=2).cells["run_id"])
    for arguments, message in (
        ({"suite": "nope"}, "unknown suite 'nope'.*; valid: "),
        ({"suite": suite, "scale": "huge"}, "unknown scale 'huge'.*; valid: demo"),
        ({"suite": suite, "where": "colour=red"}, "unknown column 'colour'"),
        ({"suite": suite, "epoch": 2}, "unknown key 'epoch'"),
    ):
        with pytest.raises(UserError, match=message):
            bench.plan(**arguments)
    with pytest.raises(UserError, match=r"unknown executor 'slurm'.*; valid: inline, local"):
        bench.plan(suite).run(executor="slurm")
    with pytest.raises(UserError, match="suite cost measures time, so its runs come one at a time; valid: 1"):
        bench.plan("cost", seeds=0).run(workers=2)


def test_a_failed_run_is_a_row(suite, tmp_path):
    found = bench.plan(suite, seeds=0, lr=1e30, epochs=3).run(tmp_path / "results", executor="inline")["runs"]
    assert set(found["status"]) == {"failed"} and found["error"].str.contains("loss is").all()


def test_it_runs_outside_the_main_thread_and_an_interrupt_leaves_signals_as_they_were(
    suite, tmp_path, monkeypatch
):
    found = []
    plan = bench.plan(suite, seeds=0)
    thread = threading.Thread(target=lambda: found.append(plan.run(tmp_path / "one", executor="inline")))
    thread.start()
    thread.join()
    assert set(found[0]["runs"]["status"]) == {"done"}
    before = signal.getsignal(signal.SIGINT)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "walk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plan.run(tmp_path / "two", executor="inline")
    assert signal.getsignal(signal.SIGINT) is before


# -- tables, figures, statistics -------------------------------------------------------------


def test_tables_are_those_of_the_store_and_know_what_their_columns_mean():
    found = bench.tables("sparsity_sweep", REFERENCE)
    stored = Store(REFERENCE).read_tables("sparsity_sweep")
    for name in TABLES:
        assert found[name].equals(stored[name])
        assert found[name].attrs["definitions"] == definitions()[name]
    assert found["metrics"].attrs["metrics"]["ece"]["unit"] == "fraction"
    assert found["history"].attrs["metrics"] == definitions()["history.metric"]
    assert found["runs"].attrs["styles"]["ssvi"]["label"] == "SSVI"
    found["runs"].attrs["definitions"]["nll"]["unit"] = "of the reader's own"
    assert definitions()["runs"]["nll"]["unit"] == "nats"
    small = bench.tables("sparsity_sweep", REFERENCE, scale="small")
    assert set(small["runs"]["scale"]) == {"small"} and len(small["runs"])
    assert set(small["metrics"]["run_id"]) <= set(small["runs"]["run_id"])
    assert small["runs"].attrs["references"] == Store(REFERENCE).references("sparsity_sweep", "small")
    for arguments, message in (
        (("nope", REFERENCE), "nope"),
        (("sparsity_sweep", REFERENCE, "paper"), "not launched at scale paper"),
        (("sparsity_sweep", REFERENCE / "nope"), "does not exist"),
    ):
        with pytest.raises(StoreError, match=message):
            bench.tables(*arguments)


def test_charts_take_looks_and_references_from_the_table(monkeypatch):
    runs = bench.tables("sparsity_sweep", REFERENCE, scale="demo")["runs"]
    store = Store(REFERENCE)
    look = Look(
        "light", store.read_styles("sparsity_sweep"), store.read_styles("sparsity_sweep", styles.CRITERIA)
    )
    references = store.references("sparsity_sweep", "demo")
    assert (
        figures.tradeoff(runs).figure
        == figures.tradeoff(runs, "compression_vs_dense_vi", "accuracy", look).figure
    )
    assert figures.forest(runs, score="nll").figure == figures.forest(runs, references, "nll", look).figure
    done = runs[runs["method"] == "ssvi"]
    assert Look.of(done, "dark") == Look(
        "dark", look.styles, look.criteria
    )  # filters keep what a table carries
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")  # as in a notebook
    assert figures.tradeoff(runs)._repr_mimebundle_().keys() == {"application/vnd.plotly.v1+json"}


def test_methods_of_a_table_without_looks_are_told_apart():
    runs = figure_data.runs({"method": "b"}, {"method": "a"}, nll=[0.1, 0.2])
    look = Look.of(runs)
    assert look.ordered(["b", "a"]) == ["a", "b"] and look.name("a") == "a"
    assert look.colour("a") != look.colour("b") and look.marker("a") != look.marker("b")
    assert Look.of(runs.drop(columns="method")) == Look()


def test_references_are_one_a_mapping_or_the_tables():
    runs = figure_data.runs({}, {"method": "dense_vi"}, {"method": "rigl"}, nll=[0.1, 0.2])
    one, two, three = runs["config_id"].unique()
    assert statistics.references_of(runs, two) == {one: two, three: two}
    assert statistics.references_of(runs, {one: three}) == {one: three}
    with pytest.raises(ValueError, match="give references, as one config_id"):
        statistics.paired(runs, "nll")
    runs.attrs["references"] = {one: two}
    assert list(statistics.paired(runs, "nll")["config_id"]) == [one]
    assert statistics.references_of(runs, {}) == {}


# -- what is written for readers -------------------------------------------------------------


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder where ``results/reference`` is what it is in a clone, and all else is new."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(REFERENCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXAMPLES = (
    "bench", "bench.api.plan", "bench.api.tables", "bench.api.train", "bench.figures.overview",
    "bench.figures.tradeoff", "bench.statistics.seeds",
)  # fmt: skip


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_in_docstrings_run(module, clone):
    failed, tried = doctest.testmod(importlib.import_module(module))
    assert tried and not failed


def test_the_page_about_python_runs(clone, capsys):
    text = (ROOT / "docs" / "python.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    out = capsys.readouterr().out
    assert "bench.train: method: sparsity: " in out and "4 runs: 4 done" in out
    assert "Compared with their reference in NLL: 5 differ, 0 are equivalent and 66 are undecided." in out
    assert (clone / "tradeoff.html").exists()
    rows = re.findall(r"^\| `bench\.(\w+)", text, re.MULTILINE)
    assert {*rows, "Run", "RunFailed", "SuitePlan"} == set(bench.__all__)


@pytest.mark.slow
def test_the_quick_start_trains_draws_and_tells(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "quickstart.py"), str(tmp_path / "results")]
    told = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110) for _ in range(2)
    ]
    assert [each.returncode for each in told] == [0, 0], told[0].stderr
    statement = r"NLL of SSVI less that of Static VI: [+-]0\.\d+ ± 0\.\d+ nats\nover 5 seeds, paired; p = "
    assert re.search(statement, told[0].stdout)
    assert "15 runs: 15 done" in told[1].stdout
    assert (tmp_path / "results" / "tradeoff.html").exists()
