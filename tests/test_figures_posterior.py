"""What averaging over samples gains, as data and in words, and scores of another predictor."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.figures import Missing, posterior_gain, scored_by
from tests.figure_data import LOOK, runs

SEEDS = [0, 1, 2]
HELPS = {"method": "ssvi", "sparsity": 0.9, "seed": SEEDS, "posterior_gain_nll": [0.05, 0.051, 0.052]}
HARMS = {"method": "dense_vi", "seed": SEEDS, "posterior_gain_nll": [-0.03, -0.031, -0.032]}
INERT = {"method": "rigl", "seed": SEEDS, "posterior_gain_nll": 0.0}


def test_gains_are_sorted_and_counted():
    chart = posterior_gain(runs(HARMS, INERT, HELPS), look=LOOK)
    assert chart.data["config_label"].tolist() == [
        "ssvi sparsity=0.9",
        "rigl sparsity=0",
        "dense_vi sparsity=0",
    ]
    assert chart.data["posterior_gain_nll_mean"].tolist() == pytest.approx([0.051, 0, -0.031])
    assert chart.alt == (
        "Of 3 configurations, averaging helps in 1 and harms in 1, by their own intervals; in 1 the gain is "
        "within ± 0.01 nats: there, the posterior does nothing that matters."
    )
    low, high = chart.figure.layout.xaxis.range
    assert low < -0.032 and high > 0.052  # what is negative is in the frame


def test_a_method_without_a_mean_network_has_no_gain():
    table = runs({**HELPS, "posterior_gain_nll": float("nan")})
    with pytest.raises(Missing, match="both a mean network and averaged samples"):
        posterior_gain(table, look=LOOK)


def test_scores_of_the_mean_network_take_the_place_of_those_of_samples():
    table = runs(
        {"seed": SEEDS, "stage": "train", "nll": 0.5, "accuracy": 0.9},
        {"seed": SEEDS, "stage": "train", "nll": 0.4, "sparsity": 0.5},
        {"seed": 7, "status": "failed", "sparsity": 0.7},
    )
    mine = table[table["config_id"] == table["config_id"][0]]
    rows = [
        {
            "run_id": run_id, "stage": "train", "predictor": predictor, "split": "test", "shift": None,
            "severity": pd.NA, "metric": "nll", "value": value, "n": 100,
        }
        for run_id in mine["run_id"]
        for predictor, value in (("mean", 0.25), ("samples", 0.5))
    ]  # fmt: skip
    found = scored_by(table, pd.DataFrame(rows), "mean")
    assert found["nll"].tolist()[:3] == [0.25] * 3 and found["nll"].isna().tolist()[3:] == [True] * 4
    assert found["accuracy"].isna().all() and found.columns.tolist() == table.columns.tolist()
    assert len(found) == len(table) and scored_by(table, pd.DataFrame(rows), "samples") is table
