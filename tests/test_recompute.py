"""Metrics that ``bench.collect`` makes again from stored predictions."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest

from bench import collect
from bench.evaluation import calibration
from bench.evaluation.recompute import recomputed
from bench.experiment.execution import Execution
from bench.results.files import StoreError
from bench.results.predictions import PREDICTIONS, stored_predictions
from bench.results.store import Store
from bench.runner.execute import execute
from tests.run_folders import plan
from tests.test_beside import spec_of

#: Metrics that bins decide.
BINNED = {
    "ece", "ece_null", "ece_marginal_l2", "ece_adaptive", "ece_classwise",
    "brier_reliability", "brier_resolution",
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A finished run, and a suite that asks for it."""
    found, spec = Store(tmp_path_factory.mktemp("recomputed"), create=True), spec_of()
    assert execute(spec, found, Execution()) == "done"
    cell = {"run_id": spec.run_id, "config_id": spec.config_id, "label": "toy", "labels": {}, "recipe": None}
    found.merge_plan(plan([cell], "toys"))
    return found


@pytest.fixture(scope="module")
def folder(store):
    return store.run(spec_of().run_id)


def again(folder, document=None, **options):
    given = (folder.path / "metrics.json").read_bytes() if document is None else json.dumps(document).encode()
    return json.loads(recomputed(folder, given, **options))


def assert_alike(found, wanted):
    assert found.keys() == wanted.keys()
    for table, rows in wanted.items():
        assert len(found[table]) == len(rows)
        for here, there in zip(found[table], rows, strict=True):
            assert here.keys() == there.keys()
            for key, value in there.items():
                close = pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
                assert here[key] == close


def test_metrics_made_again_are_those_of_the_run_up_to_rounding(folder):
    stored = folder.read("metrics")
    assert_alike(again(folder), stored)
    assert again(folder, again(folder)) == again(folder)
    validation = [row for row in stored["metrics"] if row["split"] == "val"]
    assert validation == [row for row in again(folder)["metrics"] if row["split"] == "val"]


def test_a_run_of_an_earlier_version_gets_the_metrics_that_it_lacks(folder):
    stored = folder.read("metrics")
    fewer = {**stored, "metrics": [row for row in stored["metrics"] if row["metric"] != "ece_adaptive"]}
    gained = [row for row in again(folder, fewer)["metrics"] if row["metric"] == "ece_adaptive"]
    wanted = [r for r in stored["metrics"] if r["metric"] == "ece_adaptive" and r["split"] == "test"]
    assert [row["predictor"] for row in gained] == [row["predictor"] for row in wanted]
    assert [row["value"] for row in gained] == pytest.approx([row["value"] for row in wanted], abs=1e-6)


def test_any_number_of_bins(folder):
    arrays = stored_predictions(folder)
    probs, labels = arrays["samples/probabilities"].astype(float), arrays["labels"].astype(int)
    found = again(folder, bins=4)
    values = {
        row["metric"]: row["value"]
        for row in found["metrics"]
        if (row["predictor"], row["split"]) == ("samples", "test")
    }
    assert values["ece"] == pytest.approx(calibration.ece(probs, labels, 4), abs=1e-9)
    assert values["ece_classwise"] == pytest.approx(calibration.classwise_ece(probs, labels, 4), abs=1e-9)
    usual = {
        row["metric"]: row["value"]
        for row in again(folder)["metrics"]
        if (row["predictor"], row["split"]) == ("samples", "test")
    }
    assert {name for name, value in values.items() if value != usual[name]} == BINNED
    bins = [
        row["bin"] for row in found["calibration"] if (row["predictor"], row["split"]) == ("mean", "test")
    ]
    assert bins == [0, 1, 2, 3]


def test_a_score_that_stored_probabilities_cannot_give_stays(folder, monkeypatch):
    arrays = stored_predictions(folder)
    labels = arrays["labels"]
    arrays["samples/probabilities"][0, labels[0]] = 0  # rounded away in float32
    monkeypatch.setattr("bench.evaluation.recompute.stored_predictions", lambda folder: arrays)
    stored, found = folder.read("metrics"), again(folder)
    (before,), (now,) = (
        [
            row["value"]
            for row in document["metrics"]
            if (row["predictor"], row["split"], row["metric"]) == ("samples", "test", "nll")
        ]
        for document in (stored, found)
    )
    assert now == before


def test_the_command_makes_metrics_again_and_with_other_bins(store, folder, capsys):
    to = ["--suite", "toys", "--results", str(store.root)]
    assert collect.main(to) == 0
    before = store.read_tables("toys", ["metrics"])["metrics"]
    assert collect.main([*to, "--recompute", "--bins", "4"]) == 0
    assert f"{store.root / 'toys' / 'bins-4'}: " in capsys.readouterr().out
    after = store.read_tables("toys", ["metrics"])["metrics"]
    keys = ["predictor", "split", "metric"]
    assert after[keys].astype(str).equals(before[keys].astype(str))
    assert np.allclose(after["value"], before["value"], rtol=1e-4, atol=1e-6, equal_nan=True)
    binned = pd.read_parquet(store.root / "toys" / "bins-4" / "metrics.parquet")
    other = ~np.isclose(binned["value"], after["value"], rtol=1e-4, equal_nan=True)
    assert set(binned[other]["metric"]) <= BINNED and set(binned[other]["split"]) == {"test"}
    assert collect.main(to) == 0  # and what is unchanged is kept
    assert store.read_tables("toys", ["metrics"])["metrics"].equals(after)


def test_runs_without_predictions_stay_as_they_are_and_damaged_ones_are_one_line(folder, tmp_path):
    shutil.copytree(folder.path, tmp_path / "runs" / folder.run_id)
    copy = Store(tmp_path, create=True).run(folder.run_id)
    (copy.path / PREDICTIONS).write_bytes(b"no archive")
    with pytest.raises(StoreError, match=PREDICTIONS):
        again(copy)
    (copy.path / PREDICTIONS).unlink()
    document = (copy.path / "metrics.json").read_bytes()
    assert partial(recomputed, bins=3)(copy, document) == document
