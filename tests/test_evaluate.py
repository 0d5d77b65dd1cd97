"""Evaluation on sets beside the test part: rows, later evaluation of finished runs, interruptions, faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
import torch

from bench import cancel, evaluate, grid, run
from bench.data.base import DATASETS
from bench.evaluation import beside as scoring
from bench.evaluation.detection import detection
from bench.experiment.execution import Execution
from bench.launching import asked
from bench.launching.pool import run_workers
from bench.launching.prepare import make_way
from bench.launching.worker import walk, work
from bench.results import beside, integrity
from bench.results.files import StoreError
from bench.results.store import Store
from bench.runner import beside as runner
from bench.runner.execute import execute
from bench.training import packed_model
from bench.training.trainer import Trainer
from methods.base import METHODS
from methods.core.errors import UserError
from tests.run_folders import cell, config, plan
from tests.test_beside import CLASSES, Surrounded, spec_of
from tests.workers import ForkedWorkers

SETS = {"evaluation.ood": ["far", "noise", "toy_neighbour"], "evaluation.shifts": "all"}
KEYS = ["ood.far", "ood.noise", "ood.toy_neighbour", "shift.added", "shift.scaled"]
NOT_TIMED = "evaluation_seconds"
BUILT_IN = [name for name in METHODS.names() if METHODS.get(name).__module__.startswith("methods.")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that had all sets from the start."""
    store = Store(tmp_path_factory.mktemp("whole"), create=True)
    assert execute(spec_of(**SETS), store, Execution()) == "done"
    return store.run(spec_of().run_id)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder with the same run without any set; copy it."""
    store = Store(tmp_path_factory.mktemp("plain"), create=True)
    assert execute(spec_of(), store, Execution()) == "done"
    return store


@pytest.fixture
def plain(trained, tmp_path):
    shutil.copytree(trained.root, tmp_path / "results")
    return Store(tmp_path / "results")


@pytest.fixture
def training_forbidden(monkeypatch):
    def forbidden(self):
        raise AssertionError("it trains")

    monkeypatch.setattr(Trainer, "run", forbidden)


def document(folder, key):
    return json.loads((folder.path / beside.document(key)).read_text())


def rows(folder, key):
    """What the document of a set says of scores, without times."""
    found = document(folder, key)
    return [row for row in found["metrics"] if row["metric"] != NOT_TIMED], found["selective"]


def value(folder, key, metric, predictor="samples", severity=None):
    (found,) = [
        row["value"]
        for row in rows(folder, key)[0]
        if (row["metric"], row["predictor"], row["severity"]) == (metric, predictor, severity)
    ]
    return found


def assert_as_whole(folder, whole, keys=KEYS):
    assert beside.evaluated(folder.read("status")) == sorted(keys)
    for key in keys:
        assert rows(folder, key) == rows(whole, key)
        if key.startswith("ood"):
            name = beside.scores(key)
            assert (folder.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert integrity.is_sealed(folder) and Store(folder.path.parents[1]).check(folder.run_id) is None


# -- rows --------------------------------------------------------------------------------


def test_a_run_is_scored_on_the_sets_that_it_asks_for(whole):
    assert beside.evaluated(whole.read("status")) == KEYS
    for key in KEYS[:3]:
        assert {row["n"] for row in document(whole, key)["metrics"]} == {
            30 if "neighbour" in key else 60 + 10 * ("noise" in key)
        }
    # inputs far away are recognised better than those that look the same
    assert value(whole, "ood.far", "auroc_energy", "mean") != 0.5
    spread = {row["predictor"] for row in rows(whole, "shift.added")[0]}
    assert spread == {"mean", "samples", "mean+temperature", "samples+temperature"}
    levels = {row["severity"] for row in rows(whole, "shift.added")[0]}
    assert levels == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("method", BUILT_IN)
def test_an_unshifted_shift_scores_as_the_test_part(tmp_path, monkeypatch, method):
    """All metrics of all predictors, with the temperature of the validation part, to the bit.

    What laplace stores of its curvature gives samples that differ from those of training by rounding.
    """
    monkeypatch.setattr(Surrounded, "shifts", lambda self: {"none": lambda batch, severity, splits: batch})
    store, spec = Store(tmp_path, create=True), spec_of(method=method, **{"evaluation.shifts": "none"})
    assert execute(spec, store, Execution()) == "done"
    folder = store.run(spec.run_id)
    stages = folder.read("metrics")["metrics"]
    own = [row for row in stages if row["split"] == "test" and row["stage"] == stages[-1]["stage"]]
    test = {(row["predictor"], row["metric"]): row["value"] for row in own}
    shifted = rows(folder, "shift.none")[0]
    assert len(shifted) == 5 * len(test)
    close = pytest.approx(test, rel=1e-5) if method == "laplace" else test
    assert {(row["predictor"], row["metric"]): row["value"] for row in shifted} == close
    assert {row["stage"] for row in shifted} == {stages[-1]["stage"]}


def test_the_test_part_as_a_set_of_inputs_of_no_class_is_detected_by_chance(tmp_path, monkeypatch):
    monkeypatch.setattr(Surrounded, "unknown", lambda self: {"own": lambda splits: splits.test.inputs})
    store, spec = Store(tmp_path, create=True), spec_of(**{"evaluation.ood": "own"})
    assert execute(spec, store, Execution()) == "done"
    folder = store.run(spec.run_id)
    found = rows(folder, "ood.own")[0]
    assert {row["value"] for row in found if row["metric"].startswith("auroc")} == {0.5}
    own = {
        (row["predictor"], row["metric"]): row["value"]
        for row in folder.read("metrics")["metrics"]
        if row["split"] == "test"
    }
    for row in found:
        if row["metric"] in ("entropy", "mutual_information", "confidence"):
            assert row["value"] == pytest.approx(own[row["predictor"], row["metric"]], rel=1e-12)


def test_stored_scores_of_inputs_give_the_stored_areas(whole):
    """For the entropy, against the entropies of the test part in predictions.npz (float32)."""
    with np.load(whole.path / "predictions.npz") as test, np.load(whole.path / "ood.far.npz") as far:
        assert set(far) == {
            "mean/max_probability", "mean/entropy", "mean/energy", "samples/max_probability",
            "samples/entropy", "samples/mutual_information", "samples/energy",
        }  # fmt: skip
        for detector in ("entropy", "mutual_information"):
            found = detection(test[f"samples/{detector}"], far[f"samples/{detector}"])
            for measure, expected in found.items():
                assert value(whole, "ood.far", f"{measure}_{detector}") == pytest.approx(expected, abs=1e-3)


def test_what_a_single_draw_or_a_scaled_prediction_lacks_has_no_rows(whole):
    found = {}
    for row in rows(whole, "ood.far")[0]:
        if row["metric"].startswith("fpr95_"):
            found.setdefault(row["predictor"], set()).add(row["metric"].removeprefix("fpr95_"))
    alone = {"max_probability", "entropy"}
    assert found == {
        "samples": {*alone, "mutual_information", "expected_entropy", "energy"},
        "mean": {*alone, "energy"},
        "samples+temperature": alone,
        "mean+temperature": alone,
    }


def test_every_prediction_on_a_set_of_no_class_is_an_error_of_the_rejection_curve(whole):
    test = {
        (row["predictor"], row["split"]): row["value"]
        for row in whole.read("metrics")["metrics"]
        if row["metric"] == "accuracy"
    }
    curve = [row for row in document(whole, "ood.far")["selective"] if row["predictor"] == "samples"]
    assert [row["coverage"] for row in curve] == pytest.approx(np.arange(1, 21) / 20)
    # 60 inputs of each: at full coverage those of no class are wrong, and of the others as many as ever
    assert curve[-1]["risk"] == pytest.approx(1 - test["samples", "test"] / 2)


def test_tables_have_the_rows_of_all_sets(whole):
    from bench.api.train import Run

    store = Store(whole.path.parents[1])
    tables = Run(spec_of(), store, "toy").tables
    metrics = tables["metrics"]
    assert set(metrics["split"]) == {"val", "test", "far", "noise", "toy_neighbour"}
    assert set(metrics["shift"].dropna()) == {"added", "scaled"}
    timed = metrics[metrics["metric"] == NOT_TIMED]
    assert len(timed) == 3 + 2 * 5 and timed["predictor"].isna().all() and (timed["value"] > 0).all()
    (accuracy,) = tables["runs"]["accuracy"]
    own = metrics[
        (metrics["split"] == "test") & metrics["shift"].isna() & (metrics["predictor"] == "samples")
    ]
    assert [accuracy] == list(own[own["metric"] == "accuracy"]["value"])
    assert set(tables["selective"]["split"]) == {"val", "test", "far", "noise", "toy_neighbour"}
    described = set(metrics.attrs["metrics"])
    assert set(metrics["metric"]) <= described


@pytest.mark.parametrize("rows_at_once", [1, 2, 5])
def test_rows_do_not_depend_on_how_many_inputs_are_scored_at_a_time(whole, plain, monkeypatch, rows_at_once):
    batch = 16
    monkeypatch.setattr("bench.experiment.problem.EVALUATION_BATCH", {"cpu": (batch, batch)})
    monkeypatch.setattr(scoring, "CHUNK_BYTES", rows_at_once * batch * 3 * CLASSES * 8)
    assert execute(spec_of(**SETS), plain, Execution()) == "done"
    folder = plain.run(whole.run_id)
    for key in KEYS:
        for here, there in zip(rows(folder, key)[0], rows(whole, key)[0], strict=True):
            assert here["metric"] == there["metric"]
            assert here["value"] == pytest.approx(there["value"], abs=1e-5, nan_ok=True)


def test_memory_holds_the_draws_of_a_few_inputs(plain, monkeypatch):
    """With many more inputs and draws, what is held at once stays far below all draws of a set."""
    count, draws = 20_000, 40
    monkeypatch.setattr(
        Surrounded,
        "unknown",
        lambda self: {"many": lambda splits: torch.zeros(count, splits.test.inputs.shape[1])},
    )
    spec = spec_of(**{"evaluation.samples": draws})
    store = Store(plain.root)
    execute(spec, store, Execution())
    monkeypatch.setattr(scoring, "CHUNK_BYTES", 2**19)
    tracemalloc.start()
    try:
        execute(spec_of(**{"evaluation.samples": draws, "evaluation.ood": "many"}), store, Execution())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert beside.evaluated(store.run(spec.run_id).read("status")) == ["ood.many"]
    assert peak < count * draws * CLASSES * 8 / 2


# -- later evaluation --------------------------------------------------------------------


@pytest.mark.parametrize("stored", [None, "bfloat16"])
def test_later_evaluation_equals_that_from_the_start_to_the_bit(tmp_path, stored, request):
    settings = {"evaluation.stored": stored}
    whole, later = (Store(tmp_path / name, create=True) for name in ("whole", "later"))
    execute(spec_of(**settings, **SETS), whole, Execution())
    execute(spec_of(**settings), later, Execution())
    folder = later.run(spec_of(**settings).run_id)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.name != "status.json"}
    for name in ("far", "noise"):  # one after the other, in another order
        execute(spec_of(**settings, **{"evaluation.ood": name}), later, Execution())
    request.getfixturevalue("training_forbidden")
    execute(spec_of(**settings, **SETS), later, Execution())
    assert_as_whole(folder, whole.run(folder.run_id))
    assert all((folder.path / name).read_bytes() == content for name, content in before.items())


def test_sparse_kernels_serve_the_sets(tmp_path):
    settings = {"method": "ssvi", "sparsity": 0.9, "network.hidden": [64, 64]}
    store = Store(tmp_path / "dense", create=True)
    assert execute(spec_of(**settings), store, Execution(mode="dense")) == "done"
    shutil.copytree(store.root, tmp_path / "sparse")
    found = {}
    for mode in ("dense", "sparse"):
        store = Store(tmp_path / mode)
        assert execute(spec_of(**settings, **SETS), store, Execution(mode=mode)) == "done"
        found[mode] = store.run(spec_of(**settings).run_id)
    for key in KEYS:
        assert document(found["sparse"], key)["mode"] == "sparse"
        for one, other in zip(rows(found["dense"], key)[0], rows(found["sparse"], key)[0], strict=True):
            if one["metric"] in ("entropy", "nll", "confidence"):
                assert one["value"] == pytest.approx(other["value"], rel=1e-4)


def test_an_interrupted_evaluation_goes_on_with_the_next_set(whole, plain, training_forbidden):
    asked = []

    def stop():
        asked.append(None)
        return len(beside.evaluated(plain.run(whole.run_id).read("status"))) == 2 and "enough"

    assert execute(spec_of(**SETS), plain, Execution(), stop) == "preempted"
    folder = plain.run(whole.run_id)
    assert folder.is_done() and beside.evaluated(folder.read("status")) == KEYS[:2]
    times = {key: (folder.path / beside.document(key)).stat().st_mtime_ns for key in KEYS[:2]}
    assert execute(spec_of(**SETS), plain, Execution()) == "done"
    assert_as_whole(folder, whole)
    assert times == {key: (folder.path / beside.document(key)).stat().st_mtime_ns for key in KEYS[:2]}


@pytest.mark.parametrize("where", ["write_bytes", "write_json", "integrity"])
def test_a_process_that_ends_while_it_adds_a_set_leaves_a_valid_run(whole, plain, monkeypatch, where):
    """Before the scores of inputs, before the rows, and before the status is renewed."""

    class Killed(BaseException):
        pass

    class Killer:
        def __call__(self, *arguments):
            raise Killed

        digest = __call__

    folder = plain.run(whole.run_id)
    before = folder.read("status")
    with monkeypatch.context() as patch:
        patch.setattr(runner, where, Killer())
        with pytest.raises(Killed):
            execute(spec_of(**SETS), plain, Execution())
    assert folder.read("status") == before
    assert integrity.is_sealed(folder) and plain.check(folder.run_id) is None
    assert execute(spec_of(**SETS), plain, Execution()) == "done"
    assert_as_whole(folder, whole)


# -- faults ------------------------------------------------------------------------------


def test_a_set_that_fails_leaves_the_others_and_can_be_tried_again(whole, plain, monkeypatch):
    own = Surrounded.unknown

    def broken(splits):
        raise ValueError("a bug of\nthe set")

    with monkeypatch.context() as patch:
        patch.setattr(Surrounded, "unknown", lambda self: {**own(self), "far": broken})
        assert execute(spec_of(**SETS), plain, Execution()) == "done"
    folder = plain.run(whole.run_id)
    assert beside.failed(folder.read("status")) == {"ood.far": "ValueError: a bug of the set"}
    assert beside.evaluated(folder.read("status")) == KEYS[1:]
    assert "Traceback" in (folder.path / "run.log").read_text()
    assert execute(spec_of(**SETS), plain, Execution()) == "done"  # not tried again unless asked for
    assert beside.evaluated(folder.read("status")) == KEYS[1:]
    beside.retried(folder)
    assert execute(spec_of(**SETS), plain, Execution()) == "done"
    assert_as_whole(folder, whole)


def test_predictions_that_are_not_finite_are_a_reason(plain, monkeypatch):
    nan = {"none": lambda splits: splits.test.inputs}
    monkeypatch.setattr(Surrounded, "unknown", lambda self: nan)
    monkeypatch.setattr(
        "bench.runner.beside.unknown_inputs", lambda spec, name: torch.full((4, 6), float("nan"))
    )
    spec = spec_of(**{"evaluation.ood": "none"})
    assert execute(spec, plain, Execution()) == "done"
    failed = beside.failed(plain.run(spec.run_id).read("status"))
    assert failed == {"ood.none": "the predictions are not finite"}


@pytest.mark.parametrize(
    ("name", "damage"),
    [("ood.far.json", "deleted"), ("ood.far.npz", "cut"), ("shift.added.json", "changed")],
)
def test_a_set_whose_files_are_damaged_is_evaluated_again_without_training(
    launched, training_forbidden, name, damage, capsys
):
    command, store = launched
    asked = [*command, "--set", "ood=far,shifts=added"]
    assert grid.main(asked) == 0
    before = all_rows(store)
    path = store.run(store.run_ids()[0]).path / name
    content = path.read_bytes()
    path.unlink()
    if damage != "deleted":
        path.write_bytes(content[:-9] if damage == "cut" else content[:-9] + b" " * 9)
    assert store.check(path.parent.name) is not None
    assert grid.main(asked) == 0
    assert "corrupted" not in capsys.readouterr().out
    assert integrity.is_sealed(store.run(path.parent.name)) and store.check(path.parent.name) is None
    assert path.exists()
    assert all_rows(store).equals(before)


def test_other_data_than_the_run_was_scored_on_are_refused(plain, monkeypatch):
    folder = plain.run(spec_of().run_id)
    costs = folder.read("costs")
    folder.write("costs", {**costs, "test_set": "0" * 12})
    execute(spec_of(**SETS), plain, Execution())
    (reason,) = set(beside.failed(folder.read("status")).values())
    assert reason.startswith("data set toy_surrounded: its test part is not the one that run")


def test_a_deleted_model_is_one_line(plain, capsys, monkeypatch):
    folder = plain.run(spec_of().run_id)
    (folder.path / packed_model.MODEL).unlink()
    cell = {"run_id": folder.run_id, "config_id": spec_of().config_id, "label": "toy"}
    plan = {"schema": 1, "suite": "toys", "scale": "demo", "question": "", "reference": {}, "command": ""}
    plan["cells"] = [{**cell, "labels": {}, "recipe": None}]
    plain.merge_plan(plan)
    with pytest.raises(StoreError, match="no run of suite toys is done"):
        evaluate.main(["--suite", "toys", "--ood", "far", "--results", str(plain.root)])
    said = capsys.readouterr().out
    assert f"run {folder.run_id} is not evaluated: model.pt: missing, although the run wrote it" in said


# -- workers -----------------------------------------------------------------------------


@DATASETS.register
class Deadly(Surrounded):
    """Ends its process whenever its set is made."""

    name = "toy_deadly"

    def unknown(self):
        return {**super().unknown(), "deadly": lambda splits: os.kill(os.getpid(), signal.SIGKILL)}


def work_here(order):
    """What a worker does whose process has the data sets of this module."""
    work(order)


def test_workers_evaluate_finished_runs(tmp_path):
    store = Store(tmp_path / "results", create=True)
    for seed in range(2):
        execute(spec_of(seed=seed), store, Execution())
    specs = [spec_of(seed=seed, **SETS) for seed in range(2)]
    run_workers(store, specs, ForkedWorkers(store.root, specs, 2, task=work_here))
    assert all(beside.evaluated(store.run(spec.run_id).read("status")) == KEYS for spec in specs)


def test_a_set_that_ends_its_worker_each_time_ends_no_grid(tmp_path):
    store, settings = Store(tmp_path / "results", create=True), {"dataset": "toy_deadly"}
    execute(spec_of(**settings), store, Execution())
    specs = [spec_of(**settings, **{"evaluation.ood": ["far", "deadly"]})]
    workers = ForkedWorkers(store.root, specs, 1, task=work_here)
    run_workers(store, specs, workers)
    assert len(workers.started) == 2
    folder = store.run(specs[0].run_id)
    assert folder.is_done() and store.check(folder.run_id) is None
    assert beside.evaluated(folder.read("status")) == ["ood.far"]
    assert beside.unevaluated(folder, ["ood.far", "ood.deadly"]) == {"ood.deadly": "its process ended"}


# -- commands ----------------------------------------------------------------------------

SUITE = """\
question: What is toy?
reference: {method: dense_vi}
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_surrounded, network: mlp, network.hidden: [8], epochs: 2, batch_size: 30}
    grids:
      - {method: dense_vi}
"""


@pytest.fixture
def launched(tmp_path, capsys):
    """A suite of two runs that were trained without any set: its file, results folder and command."""
    (tmp_path / "toysets.yaml").write_text(SUITE)
    results = tmp_path / "grid"
    command = ["--suite", str(tmp_path / "toysets.yaml"), "--executor", "inline", "--results", str(results)]
    assert grid.main(command) == 0
    capsys.readouterr()
    return command, Store(results)


def all_rows(store):
    metrics = store.read_tables("toysets", ["metrics"])["metrics"]
    return metrics[metrics["metric"] != NOT_TIMED].reset_index(drop=True)


@pytest.fixture
def from_the_start(launched, tmp_path):
    """The rows of the same suite that had all sets from the start."""
    command, _ = launched
    fresh = tmp_path / "fresh"
    assert grid.main([*command[:-1], str(fresh), "--set", "ood=all,shifts=all"]) == 0
    return all_rows(Store(fresh))


def test_a_grid_that_asks_for_more_sets_does_not_train(launched, from_the_start, training_forbidden, capsys):
    command, store = launched
    capsys.readouterr()
    asked = [*command, "--set", "ood=[noise,far],shifts=all"]
    for arguments in ([*asked, "--dry-run"], asked):
        assert grid.main(arguments) == 0
        said = capsys.readouterr().out
        assert "2 finished runs to evaluate, without training, on ood.noise, ood.far, shift.added" in said
    assert all_rows(store).equals(from_the_start)
    labels = set(store.read_tables("toysets", ["runs"])["runs"]["config_label"])
    assert labels == {"dense_vi"}
    assert grid.main(asked) == 0
    assert "to evaluate" not in capsys.readouterr().out  # nothing is left


def test_the_command_evaluates_finished_runs(launched, from_the_start, training_forbidden, capsys):
    _, store = launched
    to = ["--suite", "toysets", "--results", str(store.root), "--executor", "inline"]
    assert evaluate.main([*to, "--ood", "far,noise", "--shifts", "all"]) == 0
    assert all_rows(store).equals(from_the_start)
    plan = store.plan("toysets", "demo")
    assert plan["cells"][0]["sets"] == ["ood.far", "ood.noise", "shift.added", "shift.scaled"]
    # without names it evaluates what any launch asked for
    assert evaluate.main([*to, "--ood", "noise"]) == 0
    for run_id in store.run_ids():
        folder = store.run(run_id)
        status = folder.read("status")
        status["files"] = {name: entry for name, entry in status["files"].items() if name[:4] != "ood."}
        folder.write("status", status)
    assert evaluate.main(to) == 0
    assert all_rows(store).equals(from_the_start)


def test_the_command_names_runs_that_are_not_done(launched, capsys):
    _, store = launched
    first, second = store.run_ids()
    store.run(first).write("status", {**store.run(first).read("status"), "status": "failed"})
    to = ["--suite", "toysets", "--results", str(store.root), "--executor", "inline"]
    assert evaluate.main([*to, "--ood", "far"]) == 0
    assert f"run {first} is not evaluated: it is failed, not done" in capsys.readouterr().out
    assert beside.evaluated(store.run(second).read("status")) == ["ood.far"]
    assert store.run(first).status() == "failed"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--ood", "faar"], "evaluation.ood: unknown set 'faar' (did you mean 'far'?)"),
        (["--shifts", "fog"], "evaluation.shifts: unknown shift 'fog'; valid: added, all, scaled"),
        (["--shifts", "all"], "data set toy_surrounded declares none, for evaluation.shifts: all"),
        (["--scale", "paper", "--ood", "far"], "was not launched at scale paper"),
        (["--set", "epochs=3"], "--set: unknown key 'epochs'"),
    ],
)
def test_wrong_names_are_one_line(launched, given, line, monkeypatch):
    _, store = launched
    if "all" in given:
        monkeypatch.setattr(Surrounded, "shifts", lambda self: {})
    with pytest.raises((UserError, StoreError)) as refused:
        evaluate.main(["--suite", "toysets", "--results", str(store.root), *given])
    assert line in str(refused.value) and "\n" not in str(refused.value)


def test_missing_files_of_a_set_are_one_line_before_anything_is_computed(launched, monkeypatch, capsys):
    command, store = launched

    def gone(splits):
        raise UserError("unknown set far: no file far.bin in DATA; download it")

    monkeypatch.setattr(Surrounded, "unknown", lambda self: {"far": gone})
    with pytest.raises(UserError, match="no file far"):
        grid.main([*command, "--set", "ood=far"])
    with pytest.raises(UserError, match="no file far"):
        run.main(["--results", str(store.root), "--set", "dataset=toy_surrounded,ood=far,epochs=1"])
    assert all(beside.evaluated(store.run(run_id).read("status")) == [] for run_id in store.run_ids())
    assert {tuple(cell["sets"]) for cell in store.plan("toysets", "demo")["cells"]} == {()}


def test_a_single_run_that_is_stopped_in_its_evaluation_says_so(plain, monkeypatch, capsys):
    monkeypatch.setattr("bench.runner.execute.execute", lambda *_: "preempted")
    keys = "dataset=toy_surrounded,network=mlp,network.hidden=[8],method=dense_vi,epochs=2,batch_size=30"
    given = f"{keys},evaluation.samples=3,evaluation.ood=[far]"
    assert run.main(["--results", str(plain.root), "--set", given]) == 1
    assert "is trained; its evaluation was stopped; the same command goes on" in capsys.readouterr().out


def test_a_single_run_goes_on_with_sets_that_it_lacks(plain, training_forbidden, capsys):
    keys = "dataset=toy_surrounded,network=mlp,network.hidden=[8],method=dense_vi,epochs=2,batch_size=30"
    to = ["--results", str(plain.root), "--set", f"{keys},evaluation.samples=3"]
    assert run.main([*to, "--set", "evaluation.ood=[far]"]) == 0
    assert "evaluated beside the test part on ood.far" in capsys.readouterr().out
    assert run.main([*to, "--set", "evaluation.ood=[far]"]) == 0
    assert "is done already" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_again_and_again_the_run_stays_valid_and_is_completed(whole, plain):
    """kill -9 at moments spread over the evaluation."""
    folder = plain.run(whole.run_id)
    script = (
        "import sys; from tests.test_evaluate import *; "
        f"execute(spec_of(**SETS), Store({str(plain.root)!r}), Execution())"
    )
    seen = set()

    def latest():
        return max((path.stat().st_mtime_ns for path in folder.path.glob("[os]*.*.json")), default=0)

    for number in range(20):
        before = latest()
        process = subprocess.Popen([sys.executable, "-c", script])
        while process.poll() is None and latest() == before:
            time.sleep(0.001)
        time.sleep(0.002 * (number % 4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert plain.check(folder.run_id) is None and integrity.is_sealed(folder)
        found = beside.evaluated(folder.read("status"))
        seen.add(len(found))
        if len(found) == len(KEYS):
            break
    assert len(seen) > 1
    assert_as_whole(folder, whole)


# -- cancelling --------------------------------------------------------------------------


def cancelled(store, *arguments):
    return cancel.main([*(arguments or ["--suite", "criteria_ablation"]), "--results", str(store.root)])


def planned(store, sets):
    store.merge_plan(plan([cell(config(), run_id=spec_of().run_id, sets=sets)]))
    return store.run(spec_of().run_id)


def test_an_evaluation_that_waits_is_cancelled_until_it_is_asked_for_again(plain, whole, capsys):
    folder = planned(plain, KEYS)
    assert cancelled(plain) == 0
    said = "0 runs cancelled, and the evaluation of 1 finished run, 0 had ended before\n"
    assert capsys.readouterr().out == said
    assert beside.failed(folder.read("status")) == dict.fromkeys(KEYS, "cancelled by bench.cancel")
    walk(plain, [spec_of(**SETS)], Execution(), lambda: False)
    assert beside.evaluated(folder.read("status")) == []
    assert cancelled(plain) == 0 and "0 runs cancelled, 1 had ended before" in capsys.readouterr().out
    make_way(plain, [spec_of(**SETS)], asked.Asked(Execution()), lambda *_: None)
    assert execute(spec_of(**SETS), plain, Execution()) == "done"
    assert_as_whole(folder, whole)


def test_an_evaluation_at_work_is_cancelled_and_keeps_the_sets_that_it_finished(plain, whole, monkeypatch):
    """Also one on sets that no plan has, as ``bench.evaluate`` asks for."""
    folder, reached = planned(plain, []), threading.Event()
    scored = runner._scored

    def slow(spec, scorer, key):
        if key == KEYS[1]:
            reached.set()
            deadline = time.monotonic() + 20
            while not folder.is_cancel_asked():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.6)  # the request is looked for twice a second
        return scored(spec, scorer, key)

    monkeypatch.setattr(runner, "_scored", slow)
    order = (plain, [spec_of(**SETS)], Execution(), lambda: False)
    worker = threading.Thread(target=walk, args=order, daemon=True)
    worker.start()
    assert reached.wait(20) and cancelled(plain, folder.run_id) == 0
    worker.join(20)
    monkeypatch.setattr(runner, "_scored", scored)
    assert beside.evaluated(folder.read("status")) == KEYS[:1] and not folder.is_cancel_asked()
    assert beside.failed(folder.read("status")) == dict.fromkeys(KEYS[1:], "cancelled by bench.cancel")
    make_way(plain, [spec_of(**SETS)], asked.Asked(Execution()), lambda *_: None)
    assert execute(spec_of(**SETS), plain, Execution()) == "done"
    assert_as_whole(folder, whole)
