"""The contract and the loop, by toy methods: stages, rewinding, members, failures, resumption."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import struct
import zipfile

import numpy as np
import pytest
import torch

from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints as checkpoint
from bench.training.checkpoints import CHECKPOINT, PREVIOUS
from bench.training.loss_watch import LossWatch
from bench.training.optimisers import make_optimiser, schedule_factor
from methods.base import METHODS, Stage
from methods.core.errors import UserError
from methods.core.streams import Streams
from tests import toys  # noqa: F401  (registers the toys)

EVERY_EPOCH = Execution(checkpoint_seconds=0.0)
#: A checkpoint where the run is stopped, and no other.
SELDOM = Execution(checkpoint_seconds=1e9)
#: What must be the same, to the byte, in two runs of one specification.
RESULTS = ("metrics.json", "history", "layers", "criteria_pairs")


def spec(method="toy_two_stage", **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method}
    return parse_spec(nest({**chosen, "epochs": 4, "batch_size": 16, "lr": 0.05, **options}))


def results(store, run):
    """Everything a run found, without its clock readings."""
    folder = store.run(run.run_id)
    history = [r for r in folder.rows("history") if r["metric"] != "seconds"]
    with np.load(folder.path / "predictions.npz") as arrays:
        stored = {name: arrays[name].tobytes() for name in arrays.files}
    model = {k: v.numpy().tobytes() for k, v in checkpoint.load(folder.path / "model.pt").items()}
    found = (
        folder.read("metrics"),
        history,
        folder.rows("layers"),
        folder.rows("criteria_pairs"),
        stored,
        model,
    )
    costs = folder.read("costs")
    return found, {k: costs[k] for k in ("train_flops", "epochs_total", "steps_total", "events")}


RUNS = {
    "two stages and a rewind": {"method": "toy_two_stage"},
    "two members": {"method": "ensemble", "members": 2, "weight_decay": 0.01},
    "dropout by masks": {"method": "mc_dropout", "rate": 0.3},
    "ssvi": {"method": "ssvi", "sparsity": 0.5, "replace_every": 3, "addition": "grad_averaged"},
    "ssvi with a window": {
        "method": "ssvi",
        "sparsity": 0.5,
        "replace_every": 5,
        "addition": "grad_accumulated",
        "removed_gradient": "likelihood_and_kl",
    },
    "ssvi with one sample a minibatch": {
        "method": "ssvi",
        "sparsity": 0.5,
        "replace_every": 4,
        "addition": "grad_averaged",
        "same_noise": True,
    },
    "ssvi with adam": {
        "method": "ssvi",
        "sparsity": 0.5,
        "replace_every": 2,
        "added_state": "mean",
        "optimiser": "adam",
        "lr": 0.01,
    },
    "ssvi with one budget": {
        "method": "ssvi",
        "sparsity": 0.5,
        "replace_every": 3,
        "allocation": "global",
        "optimiser": "adamw",
        "lr": 0.01,
    },
    "dense_vi": {"method": "dense_vi", "precision": "float64", "clip_norm": 1.0},
    "static_vi": {"method": "static_vi", "optimiser": "rmsprop", "lr": 0.001},
    "ssvi with dropout": {"method": "ssvi", "dropout": 0.3, "replace_every": 3, "addition": "grad_mean"},
    "bfloat16": {"method": "ssvi", "precision": "bfloat16", "replace_every": 3, "addition": "grad_mean"},
    "cut short": {"method": "toy_two_stage", "max_steps": 19},
    "augmented": {"method": "ssvi", "sparsity": 0.5, "replace_every": 3, "dataset": "toy_noisy_blobs"},
}


@pytest.mark.parametrize("name", RUNS)
def test_two_equal_runs_have_the_same_bits(name, tmp_path):
    run = spec(**RUNS[name])
    stores = [Store(tmp_path / part, create=True) for part in "ab"]
    for store in stores:
        assert execute(run, store, EVERY_EPOCH) == "done"
    assert results(stores[0], run) == results(stores[1], run)


@pytest.mark.parametrize("name", RUNS)
def test_stopped_and_resumed_equals_uninterrupted(name, tmp_path):
    """Stopped again and again, within epochs of six minibatches and between them, and in between stages."""
    run = spec(**RUNS[name])
    whole, sliced = Store(tmp_path / "whole", create=True), Store(tmp_path / "sliced", create=True)
    assert execute(run, whole, EVERY_EPOCH) == "done"
    attempts = 0
    for patience in [0, 1, 3, 2, 4, 2, 1, 5, 1000]:
        asked = iter(range(patience))
        outcome = execute(run, sliced, EVERY_EPOCH, stop=lambda asked=asked: next(asked, None) is None)
        attempts += 1
        if outcome == "done":
            break
        assert outcome == "preempted"
        assert sliced.run(run.run_id).status() == "preempted"
    assert attempts > 7
    assert sliced.run(run.run_id).status() == "done"
    assert not (sliced.run(run.run_id).path / CHECKPOINT).exists()
    assert results(whole, run) == results(sliced, run)


class Unknown:
    """Nothing that is read without executing something."""


def cut(data):
    return data[: len(data) // 2]


def cut_at_once(data):
    return data[:100]


def emptied(data):
    return b""


def flipped(data):
    """A bit of a parameter, of which torch would not know."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("/data/0"))
    name = entry.header_offset + 26  # lengths of what lies before the bytes
    start = name + 4 + sum(struct.unpack("<HH", data[name : name + 4]))
    return data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :]


def foreign(data):
    content = io.BytesIO()
    torch.save({"memory": Unknown()}, content)
    return content.getvalue()


@pytest.mark.parametrize("both", [False, True], ids=["the last", "both"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (cut, "cut short"),
        (cut_at_once, "cut short"),
        (emptied, "cut short"),
        (flipped, "checksum of archive/data/0 differs"),
        (foreign, r"it holds a \S*Unknown$"),
    ],
)
def test_the_checkpoint_before_stands_in_for_one_that_cannot_be_read(both, change, why, tmp_path):
    run = spec("ssvi", sparsity=0.5, replace_every=3)
    whole, sliced = Store(tmp_path / "whole", create=True), Store(tmp_path / "sliced", create=True)
    assert execute(run, whole, EVERY_EPOCH) == "done"
    assert execute(run, sliced, SELDOM, stop=_after(8)) == "preempted"
    assert execute(run, sliced, SELDOM, stop=_after(5)) == "preempted"
    folder = sliced.run(run.run_id).path
    assert [checkpoint.load(folder / n)["counters"]["steps"] for n in (CHECKPOINT, PREVIOUS)] == [13, 8]
    for name in (CHECKPOINT, PREVIOUS) if both else (CHECKPOINT,):
        (folder / name).write_bytes(change((folder / name).read_bytes()))
    asked = _Counted()
    assert execute(run, sliced, SELDOM, stop=asked) == "done"
    assert asked.times == 24 - (0 if both else 8)
    assert results(whole, run) == results(sliced, run)
    assert not list(folder.glob("checkpoint*"))
    lines = [line.partition(" ")[2] for line in (folder / "run.log").read_text().splitlines()]
    expected = [
        f"{CHECKPOINT} cannot be read, {PREVIOUS} is tried: ",
        f"{PREVIOUS} cannot be read, the run starts anew: ",
    ]
    assert len(lines) == 1 + both
    for line, start in zip(lines, expected, strict=False):
        assert line.startswith(start) and re.search(why, line.removeprefix(start))


def test_a_kill_between_the_two_renames_leaves_a_checkpoint(tmp_path):
    run = spec()
    whole, sliced = Store(tmp_path / "whole", create=True), Store(tmp_path / "sliced", create=True)
    assert execute(run, whole, EVERY_EPOCH) == "done"
    assert execute(run, sliced, SELDOM, stop=_after(8)) == "preempted"
    folder = sliced.run(run.run_id).path
    (folder / CHECKPOINT).rename(folder / PREVIOUS)
    asked = _Counted()
    assert execute(run, sliced, SELDOM, stop=asked) == "done"
    assert asked.times == 24 - 8
    assert results(whole, run) == results(sliced, run)


def test_writing_checkpoints_takes_a_small_part_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])

    def slow(state, file):
        now[0] += 3.0

    monkeypatch.setattr(checkpoint.torch, "save", slow)
    checkpoints = checkpoint.Checkpoints(tmp_path, seconds=10.0)
    times = []
    for _ in range(200):
        now[0] += 1.0
        if checkpoints.is_due:
            times.append(now[0])
            checkpoints.save({})
    assert times[0] == 10.0
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [63.0] * 3  # 3 in 63 are 5 %


def test_rewinding_restores_all_parameters_and_buffers(tmp_path):
    """The second stage starts from the weights after one epoch of the first, with a fresh optimiser."""
    run, store = spec(epochs=6), Store(tmp_path, create=True)
    folder = store.run(run.run_id)
    assert execute(run, store, EVERY_EPOCH, stop=_after(3 * 6 - 1)) == "preempted"  # in the first stage
    state = checkpoint.load(folder.path / CHECKPOINT)
    points = state["rewind_points"]
    assert points.keys() == {"1"}
    assert execute(run, store, EVERY_EPOCH, stop=_after(8)) == "preempted"
    state = checkpoint.load(folder.path / CHECKPOINT)
    assert (state["stage_index"], state["step"]) == (1, 7)
    start = state["memory"]["start of final"]
    assert state["rewind_points"] == {}  # nothing rewinds any more
    for name, value in points["1"].items():
        assert torch.equal(start[name], value), name
    assert start["norm.num_batches_tracked"] == 6  # one epoch of 90 examples in batches of 16
    assert state["memory"]["entered"] == ["search", "final"]


def _after(n):
    asked = iter(range(n))
    return lambda: next(asked, None) is None


class _Counted:
    """Asked once a minibatch."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return False


def test_every_stage_has_its_rows(tmp_path):
    store = Store(tmp_path, create=True)
    for run, stages, predictors in (
        (spec(), ["search", "final"], {"mean", "samples"}),
        (spec("ensemble", members=2), ["train", "member 2"], {"samples"}),
    ):
        assert execute(run, store, EVERY_EPOCH) == "done"
        rows = store.run(run.run_id).read("metrics")["metrics"]
        assert list(dict.fromkeys(r["stage"] for r in rows)) == stages
        assert {r["predictor"] for r in rows} == predictors | {f"{p}+temperature" for p in predictors}
        assert {r["split"] for r in rows} == {"val", "test"}
        history = store.run(run.run_id).rows("history")
        assert all(r["split"] in ("train", "val") for r in history)
        assert store.run(run.run_id).read("costs")["epochs_total"] == len(
            {(r["stage"], r["epoch"]) for r in history}
        )


@pytest.mark.parametrize(
    ("lr", "epochs", "words"),
    [
        (1e300, 4, "parameters are not finite after step 1"),  # seen by the subspace update, before any loss
        (1e300, 1, "parameters are not finite after step 1"),  # in the last step
        (1e38, 1, "the predictions are not finite"),
    ],
)
def test_divergence_is_told_from_an_error_of_the_code(lr, epochs, words, tmp_path):
    options = {"sparsity": 0.5, "replace_every": 1, "batch_size": 10**4}  # a step is an epoch
    run = spec("ssvi", lr=lr, lr_scale=lr, epochs=epochs, **options)
    store = Store(tmp_path, create=True)
    assert execute(run, store, EVERY_EPOCH) == "failed"
    status = store.run(run.run_id).read("status")
    assert status["error_kind"] == "nan", status["error"]
    assert words in status["error"]


def test_a_loss_on_a_device_is_looked_at_when_its_copy_has_come(monkeypatch):
    """Without waiting for it; here the device is made up."""
    come, now = [], [0.0]

    class Event:
        def record(self):
            come.append(False)

        def query(self):
            return come[-1]

    zeros = torch.zeros
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "zeros", lambda *size, pin_memory=False, **how: zeros(*size, **how))
    monkeypatch.setattr("bench.training.loss_watch.time.monotonic", lambda: now[0])
    watch, total, loss = LossWatch(torch.device("cuda")), torch.tensor(float("nan")).double(), torch.ones(())
    assert watch.not_finite(loss, total) is None and come == []  # not in each step
    now[0] = 0.5
    assert watch.not_finite(loss, total) is None and come == [False]  # asked for
    assert watch.not_finite(loss, total) is None  # on its way
    come[-1] = True
    assert math.isnan(watch.not_finite(loss, total))


def test_dense_vi_is_compressed_once_against_itself(tmp_path):
    run, store = spec("dense_vi", epochs=1), Store(tmp_path, create=True)
    assert execute(run, store, EVERY_EPOCH) == "done"
    costs = store.run(run.run_id).read("costs")
    assert costs["checkpoint_bytes"] == costs["dense_vi_bytes"]
    assert costs["train_flops_rigl_ratio"] is None


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [("raise", "exception", "RuntimeError: told to fail in two lines"), ("nan", "nan", "step 3")],
)
def test_a_failing_run_is_a_row_with_a_reason(how, kind, words, tmp_path):
    run, store = spec("toy_failing", how=how), Store(tmp_path, create=True)
    assert execute(run, store, EVERY_EPOCH) == "failed"
    folder = store.run(run.run_id)
    status = folder.read("status")
    assert status["status"] == "failed"
    assert status["error_kind"] == kind
    assert words in status["error"]
    assert "\n" not in status["error"]
    assert not (folder.path / "metrics.json").exists()
    assert words.split(":")[-1].split()[0] in (folder.path / "run.log").read_text()


def test_keyboard_interrupt_is_recorded_and_raised(tmp_path):
    run, store = spec(), Store(tmp_path, create=True)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, store, EVERY_EPOCH, stop=interrupt)
    assert store.run(run.run_id).status() == "preempted"


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_packed_model_predicts_as_the_trained_one(allocation, tmp_path):
    run = spec("ssvi", sparsity=0.5, replace_every=3, allocation=allocation)
    store = Store(tmp_path, create=True)
    assert execute(run, store, EVERY_EPOCH) == "done"
    folder = store.run(run.run_id)
    problem = make_problem(run)
    module = problem.build(Streams(run.seed))
    problem.method.unpack(module, checkpoint.load(folder.path / "model.pt"))
    module.eval()
    with torch.no_grad():
        logits = problem.method.mean(module)(problem.splits.test.inputs)
    with np.load(folder.path / "predictions.npz") as arrays:
        np.testing.assert_allclose(arrays["mean/probabilities"], logits.softmax(-1).numpy(), atol=1e-6)


def test_flops_are_those_of_the_steps_really_taken(tmp_path):
    """An MLP of 8 x 16 and 16 x 3: 176 weights, half of them active; an update adds the dense gradient."""
    run, store = spec("ssvi", sparsity=0.5, replace_every=3), Store(tmp_path, create=True)
    assert execute(run, store, EVERY_EPOCH) == "done"
    costs = store.run(run.run_id).read("costs")
    steps, updates = 4 * 6, costs["events"]["dense_gradient"]
    assert costs["events"]["step"] == costs["steps_total"] == steps
    assert updates == len(range(3, 18, 3))
    # the update steps fall on full batches here or on the last one of 90 - 5 * 16 = 10
    images = sum(10 if t % 6 == 0 else 16 for t in range(3, 18, 3))
    assert costs["train_flops"] == 2 * (6 * 88 * 4 * 90 + 88 * images)
    assert costs["dense_vi_train_flops"] == 2 * 6 * 176 * 4 * 90
    assert costs["deterministic_train_flops"] == 2 * 3 * 176 * 4 * 90
    assert costs["inference_flops"] == 2 * 88
    assert costs["train_flops_rigl_ratio"] == pytest.approx((3 * 3 * 88 + 2 * 88 + 176) / (4 * 3 * 176))
    assert costs["density"] == 0.5


def test_learning_rates_by_group_and_schedule():
    run = spec("ssvi", lr=0.1, lr_scale=0.5, weight_decay=0.01)
    problem = make_problem(run)
    module = problem.build(Streams(0))
    groups = make_optimiser(problem, module).param_groups
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [(0.1, 0.01, 6), (0.5, 0.0, 2)]
    assert schedule_factor(run.training, 1, 10) == 1.0
    assert schedule_factor(run.training, 6, 10) == pytest.approx(0.5)
    assert schedule_factor(run.training, 10, 10) == pytest.approx(0.0245, abs=1e-4)


def test_data_order_is_shared_by_the_methods_of_a_seed():
    orders = []
    for method in ("toy_two_stage", "ssvi", "dense_vi"):
        problem = make_problem(spec(method))
        streams = Streams(problem.spec.seed)
        problem.build(streams)
        orders.append([labels.tolist() for _, labels in problem.training_batches(streams)])
    assert orders[0] == orders[1] == orders[2]


def test_evaluation_draws_are_fixed_and_leave_training_noise_alone(tmp_path):
    run = spec("ssvi", sparsity=0.5)
    problem = make_problem(run)
    streams = Streams(run.seed)
    module = problem.build(streams)
    before = {k: v.clone() for k, v in streams.state_dict().items()}
    inputs = problem.splits.test.inputs
    draws = list(problem.method.draws(module, 3, streams.fresh("evaluation")))
    module.eval()
    with torch.no_grad():
        first = [d(inputs) for d in draws]
        again = [d(inputs) for d in draws]
        alone = [d(inputs[7:8]) for d in draws]
    for a, b, c in zip(first, again, alone, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a[7:8], c)
    assert not torch.equal(first[0], first[1])
    assert all(torch.equal(before[k], v) for k, v in streams.state_dict().items())


def test_status_and_spec_tell_what_was_run(tmp_path):
    run, store = spec("ssvi", seed=3), Store(tmp_path, create=True)
    assert execute(run, store, EVERY_EPOCH) == "done"
    folder = store.run(run.run_id)
    stored = folder.read("spec")
    assert stored["run_id"] == run.run_id
    assert parse_spec(stored["config"]) == run
    assert json.loads(json.dumps(stored["config"])) == stored["config"]
    status = folder.read("status")
    assert (status["status"], status["epoch"], status["epochs"], status["attempt"]) == ("done", 4, 4, 1)
    assert folder.read("provenance")["executor"] == "inline"


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "there is none"),
        ([Stage("a", 2), Stage("a", 2, start="keep")], "the name 'a' is empty or used twice"),
        ([Stage("", 2)], "the name '' is empty or used twice"),
        ([Stage("a", 0)], "'a' has 0 epochs"),
        ([Stage("a", 2.0)], r"'a' has 2\.0 epochs"),
        ([Stage("a", 2, start="warm")], "'a' starts 'warm'; valid: fresh, keep, rewind"),
    ],
)
def test_stages_that_cannot_be_trained_or_told_apart_are_refused(stages, words, monkeypatch):
    monkeypatch.setattr(METHODS.get("toy_two_stage"), "stages", lambda self, budget: stages)
    with pytest.raises(UserError, match=f"^method toy_two_stage: stages: {words}"):
        preflight.check(spec())
