"""Uncertainty as data: right and wrong predictions, risk and coverage, strange data."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bench.figures import (
    Missing,
    by_split,
    detection,
    foreign_splits,
    risk_coverage,
    separation,
    severity,
    shifts,
    tells_errors,
)
from bench.figures.parts.dots import MOST_ROWS
from tests.figure_data import LOOK, identifier, runs

T2 = 4.302652729911275
SEEDS = [0, 1, 2]
SSVI = {"method": "ssvi", "sparsity": 0.9, "seed": SEEDS, "stage": "train"}
DENSE = {"method": "dense_vi", "seed": SEEDS, "stage": "train"}
TOLD = {
    "entropy": [0.2, 0.3, 0.4], "entropy_right": [0.1, 0.2, 0.3], "entropy_wrong": [0.7, 0.8, 0.9],
    "mutual_information": 0.01, "mutual_information_right": 0.005, "mutual_information_wrong": 0.02,
    "error_auroc": [0.8, 0.9, 1.0], "aurc": [0.02, 0.03, 0.04],
}  # fmt: skip


def metrics(table, split="test", shift=None, level=pd.NA, predictor="samples", **values):
    """A row a run and metric; values that are lists are by seed."""
    rows = [
        {
            "run_id": row.run_id, "stage": "train", "predictor": predictor, "split": split, "shift": shift,
            "severity": level, "metric": name,
            "value": value[SEEDS.index(row.seed)] if isinstance(value, list) else value, "n": 100,
        }
        for name, value in values.items()
        for row in table.itertuples()
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"severity": "Int64"})


def curves(table, risks, split="test", predictor="samples"):
    """risks: by coverage, a list by seed."""
    return pd.DataFrame(
        [
            {
                "run_id": row.run_id, "stage": "train", "predictor": predictor, "split": split,
                "coverage": coverage, "risk": values[SEEDS.index(row.seed)],
            }
            for coverage, values in risks.items()
            for row in table.itertuples()
        ]
    )  # fmt: skip


def drawn(chart, name):
    return [trace for trace in chart.figure.data if trace.name == name]


# -- right and wrong --------------------------------------------------------------------------


def test_right_is_filled_wrong_hollow_and_all_a_rule():
    table = runs(SSVI)
    chart = separation(table, metrics(table, **TOLD), "entropy", "samples", "test", LOOK)
    right, wrong, every = (
        drawn(chart, name)[0] for name in ("right predictions", "wrong predictions", "all")
    )
    assert right.x == pytest.approx((0.2,)) and right.marker.symbol == ("circle",)
    assert wrong.x == pytest.approx((0.8,)) and wrong.marker.symbol == ("circle-open",)
    assert every.x == pytest.approx((0.3,)) and every.marker.symbol == ("line-ns",)
    assert right.error_x.array == pytest.approx((0.1 * T2 / math.sqrt(3),))
    assert right.marker.color == ("#414AAF",) and right.customdata[0][2] == 3
    assert "higher over wrong than over right predictions in 1 of 1" in chart.alt


def test_the_row_whose_uncertainty_rises_most_is_drawn_first_and_is_never_cut():
    table = runs(*({**SSVI, "sparsity": number / 100} for number in range(MOST_ROWS + 1)))
    *others, last = (table[table["config_id"] == mine] for mine in table["config_id"].unique())
    more = {**TOLD, "entropy_wrong": [0.95, 0.96, 0.97]}
    rows = pd.concat([metrics(pd.concat(others), **TOLD), metrics(last, **more)])
    chart = separation(table, rows, "entropy", "samples", "test", LOOK)
    assert len(chart.data) == MOST_ROWS + 1 and chart.data["config_id"][0] == identifier(MOST_ROWS)
    assert drawn(chart, "wrong predictions")[0].x[0] == pytest.approx(0.96)


def test_tall_plots_have_their_axis_above_too():
    few, many = (
        separation(table, metrics(table, **TOLD), "entropy", "samples", "test", LOOK).figure
        for table in (
            runs(*({**SSVI, "sparsity": number / 100} for number in range(count))) for count in (7, 8)
        )
    )
    assert not any(trace.xaxis == "x2" for trace in few.data)
    assert many.layout.xaxis2.side == "top" and many.layout.xaxis2.matches == "x"
    assert many.layout.xaxis2.range == many.layout.xaxis.range
    assert any(trace.xaxis == "x2" for trace in many.data)  # plotly draws no axis without one


def test_older_results_show_what_there_is():
    table = runs(SSVI)
    rows = metrics(table, entropy=[0.2, 0.3, 0.4], mutual_information=0.01)
    assert not tells_errors(rows) and tells_errors(metrics(table, **TOLD))
    chart = separation(table, rows, "entropy", "samples", "test", LOOK)
    (marks,) = [trace for trace in drawn(chart, "all predictions") if trace.x != (None,)]
    assert marks.x == pytest.approx((0.3,)) and chart.title == "How large is predictive entropy?"


def test_a_run_without_errors_has_no_mark_of_wrong_ones():
    table = runs(SSVI, DENSE)
    perfect = table[table["method"] == "dense_vi"]
    rows = pd.concat(
        [
            metrics(table[table["method"] == "ssvi"], **TOLD),
            metrics(perfect, entropy=0.1, entropy_right=0.1, entropy_wrong=float("nan")),
        ]
    )
    chart = separation(table, rows, "entropy", "samples", "test", LOOK)
    wrong = drawn(chart, "wrong predictions")[0]
    assert math.isnan(wrong.x[1]) and wrong.customdata[1][1] == "–" and wrong.customdata[1][2] == 0


def test_the_mean_network_has_no_mutual_information():
    table = runs(SSVI)
    rows = metrics(table, predictor="mean", **TOLD)
    with pytest.raises(Missing, match="Choose posterior samples"):
        separation(table, rows, "mutual_information", "mean", "test", LOOK)
    separation(table, rows, "entropy", "mean", "test", LOOK)


def test_nothing_at_all_is_said():
    table = runs(SSVI)
    with pytest.raises(Missing, match="Choose another split"):
        separation(table, metrics(table, **TOLD), "entropy", "samples", "val", LOOK)
    with pytest.raises(Missing):
        separation(table.iloc[:0], metrics(table, **TOLD), "entropy", "samples", "test", LOOK)


def test_shifted_data_do_not_mix_with_the_others():
    table = runs(SSVI)
    rows = pd.concat([metrics(table, shift="blur", level=5, entropy=9.0), metrics(table, **TOLD)])
    found = separation(table, rows, "entropy", "samples", "test", LOOK).data
    assert found["entropy_mean"].tolist() == pytest.approx([0.3])


def test_single_seeds_are_dots_on_request():
    table = runs(SSVI)
    rows = metrics(table, **TOLD)
    without = separation(table, rows, "entropy", "samples", "test", LOOK)
    assert not drawn(without, "right predictions, single seeds")
    chart = separation(table, rows, "entropy", "samples", "test", LOOK, singles=True)
    (dots,) = drawn(chart, "right predictions, single seeds")
    assert dots.x == pytest.approx((0.1, 0.2, 0.3)) and dots.customdata == (0, 1, 2)
    low, high = chart.figure.layout.xaxis.range
    assert low < 0.1 and high > 0.9
    risks = curves(table, {1.0: [0.2, 0.3, 0.4], 0.5: [0.1, 0.1, 0.1]})
    lines = risk_coverage(table, risks, [identifier(0)], "samples", "test", LOOK, singles=True)
    (thin,) = drawn(lines, "single seeds")
    assert thin.x == (50, 100, None) * 3 and thin.y[1] == pytest.approx(20)


def test_intervals_do_not_stretch_the_frame_beyond_what_is_possible():
    table = runs({**SSVI, "seed": [0, 1]})
    rows = metrics(table, error_auroc=[0.5, 1.0, 0.0], entropy=[0.1, 0.9, 0.0])
    low, high = detection(table, rows, "error_auroc", "samples", "test", LOOK).figure.layout.xaxis.range
    assert -5 < low <= 0 and 100 <= high < 105
    low, _ = separation(table, rows, "entropy", "samples", "test", LOOK).figure.layout.xaxis.range
    assert low > -0.5


# -- finding errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "title", "first"),
    [
        ("error_auroc", "AUROC of errors (%) → better", "dense_vi"),
        ("aurc", "area under the risk-coverage curve (%) ← better", "ssvi"),
    ],
)
def test_the_best_at_finding_errors_is_on_top(score, title, first):
    table = runs(SSVI, DENSE)
    higher = {name: [0.1 + value for value in TOLD[name]] for name in ("error_auroc", "aurc")}
    rows = pd.concat(
        [
            metrics(table[table["method"] == "ssvi"], **TOLD),
            metrics(table[table["method"] == "dense_vi"], **higher),
        ]
    )
    chart = detection(table, rows, score, "samples", "test", LOOK)
    assert chart.data["method"].iloc[0] == first
    assert chart.figure.layout.xaxis.title.text.replace("<br>", " ").replace("\u00a0", " ") == title
    assert not chart.figure.layout.showlegend


def test_results_without_them_say_what_brings_them():
    table = runs(SSVI)
    with pytest.raises(Missing, match="--force"):
        detection(table, metrics(table, entropy=0.1), "aurc", "samples", "test", LOOK)


# -- risk and coverage ------------------------------------------------------------------------


def test_a_curve_is_the_mean_over_seeds_with_a_band():
    table = runs(SSVI)
    rows = curves(table, {1.0: [0.2, 0.3, 0.4], 0.5: [0.1, 0.1, 0.1]})
    chart = risk_coverage(table, rows, [identifier(0)], "samples", "test", LOOK)
    (line,) = drawn(chart, "SSVI")
    assert line.x == (50, 100) and line.y == pytest.approx((10, 30))
    assert line.line.color == "#414AAF" and line.line.dash == "solid"
    (band,) = [trace for trace in chart.figure.data if trace.fill == "toself"]
    half_width = 10 * T2 / math.sqrt(3)
    assert band.mode == "lines" and band.y == pytest.approx((10, 30 - half_width, 30 + half_width, 10))
    assert chart.data["n"].tolist() == [3, 3] and "10.00 %" in chart.alt
    assert chart.figure.layout.yaxis.title.text.endswith("↓ better")


def test_single_seeds_have_no_band_and_other_rows_are_left_out():
    table = runs({**SSVI, "seed": 0}, {**DENSE, "seed": 0})
    rows = pd.concat(
        [
            curves(table, {1.0: [0.2]}),
            curves(table, {1.0: [0.9]}, split="val"),
            curves(table, {1.0: [0.8]}, predictor="mean"),
        ]
    )
    chart = risk_coverage(table, rows, [identifier(1)], "samples", "test", LOOK)
    assert not [trace for trace in chart.figure.data if trace.fill == "toself"]
    assert chart.data["risk_mean"].tolist() == [0.2] and chart.data["method"].tolist() == ["dense_vi"]


def test_two_seeds_are_drawn_themselves_instead_of_a_band():
    table = runs({**SSVI, "seed": [0, 1]})
    rows = curves(table, {1.0: [0.2, 0.3], 0.5: [0.1, 0.1]})
    chart = risk_coverage(table, rows, [identifier(0)], "samples", "test", LOOK)
    assert not [trace for trace in chart.figure.data if trace.fill == "toself"]
    assert len(drawn(chart, "single seeds")) == 1 and chart.data["n"].tolist() == [2, 2]


def test_a_band_ends_at_what_is_possible():
    table = runs(SSVI)
    chart = risk_coverage(
        table, curves(table, {1.0: [0.0, 0.5, 1.0]}), [identifier(0)], "samples", "test", LOOK
    )
    (band,) = [trace for trace in chart.figure.data if trace.fill == "toself"]
    assert band.y == (0, 100)


def test_lines_are_in_the_order_that_was_asked_for():
    table = runs(SSVI, DENSE)
    rows = curves(table, {1.0: [0.2, 0.3, 0.4]})
    chart = risk_coverage(table, rows, [identifier(1), identifier(0)], "samples", "test", LOOK)
    assert list(chart.data["method"]) == ["dense_vi", "ssvi"]


def test_no_curve_is_said():
    table = runs(SSVI)
    rows = curves(table, {1.0: [0.2, 0.3, 0.4]})
    for nothing in (rows.iloc[:0], rows.assign(predictor="mean")):
        with pytest.raises(Missing, match="risk-coverage"):
            risk_coverage(table, nothing, [identifier(0)], "samples", "test", LOOK)


# -- strange data -----------------------------------------------------------------------------


def test_splits_that_are_foreign_and_shifts_are_found():
    table = runs(SSVI)
    usual = pd.concat([metrics(table, **TOLD), metrics(table, split="val", **TOLD)])
    assert foreign_splits(usual) == [] and shifts(usual) == []
    rows = pd.concat(
        [usual, metrics(table, split="svhn", entropy=1.0), metrics(table, shift="blur", level=1, nll=1.0)]
    )
    assert foreign_splits(rows) == ["svhn"] and shifts(rows) == ["blur"]


def test_a_foreign_set_stands_beside_the_test_part():
    table = runs(SSVI, DENSE)
    rows = pd.concat(
        [
            metrics(table, **TOLD),
            metrics(table[table["method"] == "ssvi"], split="svhn", entropy=[1.0, 1.1, 1.2]),
        ]
    )
    chart = by_split(table, rows, "entropy", "svhn", "samples", LOOK)
    assert drawn(chart, "test")[0].x == pytest.approx((0.3,)) and drawn(chart, "svhn")[0].x == pytest.approx(
        (1.1,)
    )
    assert chart.data["method"].tolist() == ["ssvi"] and "in 1 of 1" in chart.alt
    with pytest.raises(Missing, match="on cifar"):
        by_split(table, rows, "entropy", "cifar", "samples", LOOK)


def test_severity_begins_with_the_data_as_they_are():
    table = runs(SSVI)
    rows = pd.concat(
        [
            metrics(table, accuracy=0.9),
            metrics(table, shift="blur", level=1, accuracy=[0.8, 0.8, 0.8]),
            metrics(table, shift="blur", level=3, accuracy=[0.5, 0.6, 0.7]),
            metrics(table, shift="fog", level=2, accuracy=0.1),
            metrics(table, split="val", accuracy=0.2),
        ]
    )
    chart = severity(table, rows, "accuracy", "blur", [identifier(0)], "samples", LOOK)
    (line,) = drawn(chart, "SSVI")
    assert line.x == (0, 1, 3) and line.y == pytest.approx((90, 80, 60))
    assert chart.data["half_width"].tolist() == pytest.approx([0, 0, 0.1 * T2 / math.sqrt(3)])
    with pytest.raises(Missing, match="under snow"):
        severity(table, rows, "accuracy", "snow", [identifier(0)], "samples", LOOK)


def test_a_rejection_curve_with_unknown_inputs_says_what_counts_as_an_error():
    table = runs(SSVI)
    selective = curves(table, {0.5: [0.1, 0.2, 0.3], 1.0: [0.5, 0.6, 0.7]}, split="letters")
    chart = risk_coverage(table, selective, [identifier(0)], "samples", "letters", LOOK)
    assert "letters comes with the test inputs" in chart.title
    assert "every prediction on the latter is an error" in chart.how
    assert chart.data["risk_mean"].tolist() == pytest.approx([0.2, 0.6])
