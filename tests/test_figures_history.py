"""Curves of training as data, and what sets runs apart."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bench.figures import MOST_RUNS, Missing, differing, recorded, run_curves, seed_curves, settings
from bench.figures.parts.chart import translucent
from tests.figure_data import LOOK, identifier, runs

#: The 97.5th percentile of Student's t for two degrees of freedom.
T2 = 4.302652729911275
THREE = {"method": "ssvi", "sparsity": 0.9, "accuracy": [0.9, 0.9, 0.9]}


def history(values, metric="loss", split="train", stage="train", start=1):
    """Rows of the table ``history``: by run id a list of values, one an epoch."""
    rows = [
        {"run_id": run_id, "stage": stage, "epoch": start + number, "step": number, "metric": metric,
         "value": value, "split": split}
        for run_id, series in values.items() for number, value in enumerate(series)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(("run_id", "stage", "metric", "split"), "category"))


def of_seeds(*series):
    return {identifier(seed): values for seed, values in enumerate(series)}


def lines(chart):
    return [trace for trace in chart.figure.data if trace.mode == "lines+markers"]


def test_a_line_is_the_mean_of_seeds_and_its_band_their_interval():
    chart = seed_curves(history(of_seeds([1.0, 4], [2.0, 5], [3.0, 6])), runs(THREE), "loss train", LOOK)
    (line,) = lines(chart)
    assert line.x == (1.0, 2.0) and line.y == (2.0, 5.0)
    assert line.line.color == "#414AAF" and line.line.dash == "solid" and line.line.width == 3
    (band,) = [trace for trace in chart.figure.data if trace.fill == "toself"]
    half = T2 / math.sqrt(3)
    assert band.y == pytest.approx((2 - half, 5 - half, 5 + half, 2 + half)) and band.x == (1, 2, 2, 1)
    assert band.mode == "lines" and band.fillcolor == translucent("#414AAF")
    assert chart.data["value_half_width"].tolist() == pytest.approx([half, half])
    assert chart.figure.layout.yaxis.title.text == "loss (train), nats ↓ better"


def test_two_seeds_have_no_band_and_single_seeds_are_thin_lines():
    rows, both = history(of_seeds([1.0, 2], [3.0, 4])), runs({**THREE, "accuracy": [0.9, 0.9]})
    assert not [trace for trace in seed_curves(rows, both, "loss train", LOOK).figure.data if trace.fill]
    chart = seed_curves(rows, both, "loss train", LOOK, single_seeds=True)
    (thin,) = [trace for trace in chart.figure.data if trace.mode == "lines"]
    assert thin.y == (1.0, 2.0, None, 3.0, 4.0, None) and thin.line.width == 1


def test_epochs_of_later_stages_are_counted_on():
    dense = history({identifier(0): [3.0, 2.0]}, stage="dense")
    sparse = history({identifier(0): [5.0, 4.0]}, stage="sparse")
    rows = pd.concat([dense, sparse], ignore_index=True)
    one = runs({**THREE, "accuracy": [0.9]})
    assert lines(run_curves(rows, one, "loss train", LOOK))[0].x == (1, 2, 3, 4)
    assert lines(seed_curves(rows, one, "loss train", LOOK))[0].y == (3, 2, 5, 4)


def test_runs_of_other_lengths_are_compared_by_the_share_of_their_training():
    table = runs(
        {**THREE, "status": ["done", "running", "done"]}, {**THREE, "status": "failed", "accuracy": math.nan}
    )
    table["epochs_total"] = [4.0, math.nan, math.nan, math.nan]
    long, short = [4.0, 3, 2, 1], [4.0, 2]
    other = {identifier(1000): [9.0]}
    drawn_ = run_curves(history({**of_seeds(long, [5.0], short), **other}), table, "loss train", LOOK,
                        against="share")  # fmt: skip
    whole, begun, half = lines(drawn_)
    assert whole.x == (0.25, 0.5, 0.75, 1.0) and half.x == (0.5, 1.0)
    assert begun.x == (0.25,)  # of the length of a finished seed
    assert drawn_.figure.layout.xaxis.title.text == "share of training"
    means = seed_curves(history(of_seeds(long, [5.0], long)), table, "loss train", LOOK, against="share")
    assert means.data["share"].tolist() == [0.25, 0.5, 0.75, 1.0]
    with pytest.raises(Missing, match="draw them against epochs"):
        run_curves(history(other), table, "loss train", LOOK, against="share")


def test_single_runs_are_told_apart_and_failed_ones_are_drawn_as_far_as_they_came():
    table = runs({**THREE, "status": ["done", "failed", "running"]})
    nan = float("nan")
    chart = run_curves(history(of_seeds([1.0, 2], [9.0, nan], [3.0, 4])), table, "loss train", LOOK)
    found = lines(chart)
    assert [line.name for line in found] == [f"SSVI · 90 %, seed {seed}" for seed in range(3)]
    assert [line.y for line in found] == [(1, 2), (9,), (3, 4)]
    assert len({line.line.dash for line in found}) == 3 and {line.line.color for line in found} == {"#414AAF"}
    means = seed_curves(history(of_seeds([1.0, 2], [9.0, 9])), table, "loss train", LOOK)
    assert lines(means)[0].y == (1, 2)


def test_metrics_of_one_name_on_other_data_are_not_mixed():
    rows = pd.concat(
        [history(of_seeds([1.0]), "nll", "val"), history(of_seeds([7.0]), "nll", "train")], ignore_index=True
    ).astype({"metric": "category", "split": "category", "run_id": "category"})
    assert recorded(rows) == {"nll train": "nll (train)", "nll val": "nll (val)"}
    assert lines(run_curves(rows, runs({**THREE, "accuracy": [0.9]}), "nll val", LOOK))[0].y == (1,)


def test_what_a_method_monitors_itself_comes_last_and_has_no_direction():
    rows = pd.concat(
        [history(of_seeds([1.0]), "<own>"), history(of_seeds([1.0]), "kl"), history(of_seeds([1.0]))],
        ignore_index=True,
    )
    assert list(recorded(rows)) == ["loss train", "kl train", "<own> train"]
    chart = run_curves(rows, runs({**THREE, "accuracy": [0.9]}), "<own> train", LOOK)
    assert chart.figure.layout.yaxis.title.text == "&lt;own&gt; (train)"


def test_what_spans_orders_of_magnitude_is_logarithmic():
    one = runs({**THREE, "accuracy": [0.9]})
    for values, kind in (([1000.0, 1.0], "log"), ([2.0, 1.0], None), ([1000.0, 0.0], None)):
        chart = run_curves(history({identifier(0): values}), one, "loss train", LOOK)
        assert chart.figure.layout.yaxis.type == kind


def test_nothing_recorded_and_too_many_are_said_in_words():
    with pytest.raises(Missing, match=r"None of these runs has recorded kl \(train\)"):
        run_curves(history(of_seeds([1.0])), runs(THREE), "kl train", LOOK)
    with pytest.raises(Missing, match="None of these"):
        seed_curves(history(of_seeds([1.0])), runs({**THREE, "status": "failed"}), "loss train", LOOK)
    many = runs({**THREE, "accuracy": [0.9] * (MOST_RUNS + 1)})
    with pytest.raises(Missing, match="at most 5"):
        run_curves(history(of_seeds([1.0])), many, "loss train", LOOK)


def test_only_settings_that_differ_are_told_as_texts():
    nothing = float("nan")
    table = runs(
        {"config.training.lr": 0.1, "config.method.name": "ssvi", "config.seed": 0, "config.x": nothing},
        {"config.training.lr": 0.25, "config.method.name": "ssvi", "config.seed": 1, "config.x": nothing},
        {"config.training.lr": nothing, "config.method.name": "ssvi", "config.seed": 1, "config.x": None},
    )
    assert differing(table).to_dict("list") == {
        "setting": ["training.lr", "seed"],
        identifier(0): ["0.1", "0"], identifier(1000): ["0.25", "1"], identifier(2000): ["–", "1"],
    }  # fmt: skip
    assert differing(table.iloc[[0, 0]]).empty
    assert settings(table.iloc[2])["setting"].tolist() == ["method.name", "seed"]
