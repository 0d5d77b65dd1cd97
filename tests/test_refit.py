"""The protocol refit: what was chosen on validation data is trained on them too, and nothing is validated."""

from __future__ import annotations

import io
import signal

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from bench import grid, run
from bench import status as status_of
from bench.cli.entry import entry
from bench.cli.live import render
from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.data.splitting import channel_statistics
from bench.evaluation import evaluate
from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.monitoring.progress import Item, Progress
from bench.planning.estimate import estimate
from bench.planning.suite import parse_suite
from bench.results import claims
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints
from methods.core.streams import Streams
from tests import toys  # noqa: F401  (registers the toys)

EVERY_EPOCH = Execution(checkpoint_seconds=0.0)
TRAIN, VAL, BATCH = 90, 30, 16  # the toy's
TABLES = ("metrics", "calibration", "history")


def spec(protocol="refit", method="ssvi", **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method, "protocol": protocol}
    return parse_spec(nest({**chosen, "epochs": 4, "batch_size": BATCH, "lr": 0.05, **options}))


def computed(tmp_path, specification):
    store = Store(tmp_path / "results", create=True)
    assert execute(specification, store, EVERY_EPOCH) == "done"
    return store.run(specification.run_id)


def splits_in(folder):
    """The splits that each table of a run has."""
    found = folder.read("metrics")
    rows = {table: found[table] for table in ("metrics", "calibration")} | {"history": folder.rows("history")}
    return {table: {row["split"] for row in rows[table]} for table in TABLES}


# -- data ------------------------------------------------------------------------------------


class OwnStatistics(Dataset):
    """A data set of a user that says itself how it is standardised."""

    def load(self, split):
        def part(count):
            return Split(torch.randn(count, 3, generator=split), torch.zeros(count, dtype=torch.long))

        return Splits(part(8), part(4), part(6), 1, mean=torch.full((3,), 2.0), std=torch.full((3,), 5.0))


def merged_and_apart(dataset, seed=1):
    return (dataset.parts(Streams(seed)["split"], refit) for refit in (True, False))


@pytest.mark.parametrize("name", ["digits", "fashion_mnist_sample", "toy_blobs"])
def test_the_validation_part_joins_the_training_part(name):
    merged, apart = merged_and_apart(DATASETS.get(name)())
    assert merged.val is None
    assert len(merged.train) == len(apart.train) + len(apart.val)
    assert torch.equal(merged.train.inputs, torch.cat([apart.train.inputs, apart.val.inputs]))
    assert torch.equal(merged.train.labels, torch.cat([apart.train.labels, apart.val.labels]))
    assert torch.equal(merged.test.inputs, apart.test.inputs)
    assert merged.to("meta").val is None and merged.to("meta").train.inputs.is_meta


@pytest.mark.parametrize("name", ["digits", "fashion_mnist_sample"])
def test_inputs_are_standardised_by_what_is_trained_on(name):
    merged, apart = merged_and_apart(DATASETS.get(name)())
    for splits in (merged, apart):
        mean, std = channel_statistics(splits.train.inputs)
        assert torch.equal(splits.mean, mean) and torch.equal(splits.std, std)
    assert not torch.equal(merged.mean, apart.mean) and not torch.equal(merged.std, apart.std)


def test_a_data_set_s_own_statistics_stay_as_they_are():
    for splits in merged_and_apart(OwnStatistics()):
        assert splits.mean.tolist() == [2.0] * 3 and splits.std.tolist() == [5.0] * 3
    for splits in merged_and_apart(DATASETS.get("toy_blobs")()):  # which has none
        assert splits.mean.item() == 0 and splits.std.item() == 1


# -- a run -----------------------------------------------------------------------------------


def test_examples_and_steps_are_those_of_the_merged_part():
    held_out, refit = make_problem(spec("holdout")), make_problem(spec())
    assert (held_out.task.examples, refit.task.examples) == (TRAIN, TRAIN + VAL)
    assert held_out.budget.steps_per_epoch == -(-TRAIN // BATCH)
    assert refit.budget.steps_per_epoch == -(-(TRAIN + VAL) // BATCH)
    epoch = [labels for _, labels in refit.training_batches(Streams(0))]
    assert sum(map(len, epoch)) == TRAIN + VAL
    assert spec("holdout").run_id != spec().run_id


def test_nothing_is_scored_on_what_was_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.training.trainer.quick_scores", None)  # calling it fails
    folder = computed(tmp_path, spec())
    assert splits_in(folder) == {"metrics": {"test"}, "calibration": {"test"}, "history": {"train"}}
    assert "val_accuracy" not in folder.read("status")
    monkeypatch.setattr("bench.training.trainer.quick_scores", evaluate.quick_scores)
    folder = computed(tmp_path, spec("holdout"))
    assert splits_in(folder) == {
        "metrics": {"val", "test"},
        "calibration": {"val", "test"},
        "history": {"train", "val"},
    }
    assert 0 <= folder.read("status")["val_accuracy"] <= 1


def test_the_kl_weight_and_the_costs_are_those_of_more_examples(tmp_path):
    found = {}
    for protocol, examples in (("holdout", TRAIN), ("refit", TRAIN + VAL)):
        folder, factor = computed(tmp_path, spec(protocol)), spec(protocol).method[1].kl_factor
        weights = [row["value"] for row in folder.rows("history") if row["metric"] == "kl_weight"]
        assert weights[-1] == pytest.approx(factor / examples)
        found[protocol] = folder.read("costs")
        assert found[protocol]["steps_total"] == 4 * -(-examples // BATCH)
    held_out, refit = (found[protocol]["dense_vi_train_flops"] for protocol in ("holdout", "refit"))
    assert refit / held_out == pytest.approx((TRAIN + VAL) / TRAIN)


def results(folder):
    history = [row for row in folder.rows("history") if row["metric"] != "seconds"]
    with np.load(folder.path / "predictions.npz") as arrays:
        predictions = {name: arrays[name].tobytes() for name in arrays.files}
    model = {k: v.numpy().tobytes() for k, v in checkpoints.load(folder.path / "model.pt").items()}
    return folder.read("metrics"), history, folder.rows("layers"), predictions, model


@pytest.mark.parametrize("method", ["ssvi", "toy_two_stage"])
def test_stopped_and_resumed_equals_uninterrupted(method, tmp_path):
    whole = computed(tmp_path, spec(method=method))
    sliced = Store(tmp_path / "sliced", create=True)
    outcomes = []
    for patience in (9, 3, 12, 1000):
        asked = iter(range(patience))
        outcomes.append(
            execute(spec(method=method), sliced, EVERY_EPOCH, stop=lambda a=asked: next(a, None) is None)
        )
    assert outcomes == ["preempted"] * 3 + ["done"]
    assert results(whole) == results(sliced.run(whole.run_id))


# -- commands and views ------------------------------------------------------------------------

SUITE = """
question: Does it help to train on the validation part too?
scales:
  demo:
    seeds: 0-1
    base: {dataset: toy_blobs, network: toy_network, method: ssvi, sparsity: 0.5, batch_size: 16, epochs: 2}
    grids:
      - {protocol: [holdout, refit]}
"""


def called(command, *arguments):
    with pytest.raises(SystemExit) as caught:
        entry(lambda: command.main(list(map(str, arguments))))
    return caught.value.code


def test_one_run_by_its_command(tmp_path, capsys):
    settings = "dataset=digits,network=mlp,network.hidden=[16],method=ssvi,epochs=1,protocol=refit"
    assert called(run, "--set", settings, "--results", tmp_path / "results") == 0
    printed = capsys.readouterr().out.splitlines()[2:-1]
    assert [line.split()[1] for line in printed] == ["test", "test"]  # there is no validation part
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert Store(tmp_path / "results").run(folder.name).read("costs")["images_per_second"] > 0


def test_a_suite_compares_both_protocols(tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(SUITE)
    try:
        assert called(grid, "--suite", "./toy.yaml", "--executor", "inline") == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    out = capsys.readouterr().out
    assert "SSVI · protocol holdout" in out and "SSVI · protocol refit" in out
    tables = Store(tmp_path / "results").read_tables("toy")
    runs = tables["runs"].set_index("run_id")
    assert list(runs["status"]) == ["done"] * 4 and runs["accuracy"].notna().all()
    assert sorted(runs["config.protocol"]) == ["holdout"] * 2 + ["refit"] * 2
    assert runs["config_id"].nunique() == 2
    for table in TABLES:
        protocols = tables[table]["run_id"].map(runs["config.protocol"])
        validated = tables[table]["split"] == "val"
        assert set(protocols) == {"holdout", "refit"}
        assert set(protocols[validated]) == {"holdout"}
    assert called(status_of, "--suite", "toy") == 0
    assert "4/4 runs: 4 done" in capsys.readouterr().out


def test_the_live_view_leaves_the_accuracy_empty(tmp_path):
    store, shown = Store(tmp_path, create=True), []

    def look():
        """At the second epoch's start, what a person would see."""
        progress = Progress(store, [Item(spec().run_id, "ssvi", 0, 4)])
        console = Console(file=io.StringIO(), width=120)
        console.print(render(progress.look(everything=True)))
        shown.append(console.file.getvalue())
        return len(shown) > 9  # an epoch has eight minibatches

    with claims.held(claims.acquire(store.run(spec().run_id))):
        assert execute(spec(), store, EVERY_EPOCH, look) == "preempted"
    row = shown[-1].splitlines()[1].split()
    assert row == ["ssvi", "0", spec().run_id, "train", "1/4"]


def hours(protocol, store=None):
    suite = parse_suite(yaml.safe_load(SUITE), "toy", "toy.yaml")
    return estimate(suite.expand("demo", where=[f"protocol={protocol}"]), store).hours["core"]


def test_an_estimate_counts_every_example():
    examples = [preflight.task(spec(protocol)).examples for protocol in ("holdout", "refit")]
    assert examples == [TRAIN, TRAIN + VAL]
    assert hours("refit") > hours("holdout")


def test_an_estimate_does_not_mix_the_protocols(tmp_path):
    folder = computed(tmp_path, spec("holdout"))
    folder.write("costs", {**folder.read("costs"), "wall_seconds": 3.6e6})
    store = Store(tmp_path / "results")
    assert hours("holdout", store) > 100 > 1 > hours("refit", store)
