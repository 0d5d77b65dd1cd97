"""Calibration as data: bins pooled over seeds, their intervals, and what a temperature changes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bench.figures import Missing, one_a_method, reliability, scaling
from bench.figures.calibration import bins
from bench.figures.parts.configurations import dashes, short_names
from tests.figure_data import LOOK, identifier, runs

#: The 97.5th percentile of Student's t for two degrees of freedom, and of the normal distribution.
T2, Z = 4.302652729911275, 1.959963984540054
SEEDS = [0, 1, 2]
SSVI = {"method": "ssvi", "sparsity": 0.9, "seed": SEEDS, "stage": "train"}
DENSE = {"method": "dense_vi", "seed": SEEDS, "stage": "train"}


def bin_rows(run_id, counts, rights, predictor="samples", split="test", stage="train"):
    """A row a bin; confidence is the middle of the bin, null where it is empty."""
    return pd.DataFrame(
        [
            {
                "run_id": run_id, "stage": stage, "predictor": predictor, "split": split, "bin": number,
                "lower": number / 15, "upper": (number + 1) / 15, "count": count,
                "confidence": (number + 0.5) / 15 if count else np.nan,
                "accuracy": right / count if count else np.nan,
            }
            for number, (count, right) in enumerate(zip(counts, rights, strict=True))
        ]
    )  # fmt: skip


def calibration(table, counts=(0, 2, 100), rights=(0, 1, 80), **more):
    """The same bins for every run of ``table``."""
    return pd.concat(
        [bin_rows(run_id, counts, rights, **more) for run_id in table["run_id"]], ignore_index=True
    )


def metrics(table, predictor="samples", split="test", stage="train", shift=None, **values):
    """A row a run and metric; values that are lists are by run."""
    rows = []
    for name, value in values.items():
        for place, run_id in enumerate(table["run_id"]):
            figure = value[place] if isinstance(value, list) else value
            rows.append(
                {
                    "run_id": run_id, "stage": stage, "predictor": predictor, "split": split, "shift": shift,
                    "severity": pd.NA, "metric": name, "value": figure, "n": 102,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def diagram(table, rows=None, scores=None, chosen=None, predictor="samples", split="test", look=LOOK):
    rows = calibration(table) if rows is None else rows
    scores = metrics(table, ece=0.02, ece_null=0.01) if scores is None else scores
    ids = list(dict.fromkeys(table["config_id"])) if chosen is None else chosen
    return reliability(table, rows, scores, ids, predictor, split, look)


def drawn(chart, name):
    return [trace for trace in chart.figure.data if trace.name == name]


# -- bins -------------------------------------------------------------------------------------


def test_bins_are_pooled_over_seeds_and_empty_ones_are_not_there():
    table = runs(SSVI)
    rows = pd.concat(
        [
            bin_rows(run_id, (0, 10, 100), (0, right, 80))
            for run_id, right in zip(table["run_id"], (2, 4, 9), strict=True)
        ]
    )
    found = bins(table, rows, "samples", "test")
    assert found["bin"].tolist() == [1, 2]
    first = found.iloc[0]
    assert (first["count"], first["seeds"], first["per_seed"]) == (30, 3, 10)
    assert first["accuracy"] == pytest.approx(15 / 30) and first["confidence"] == pytest.approx(0.1)
    assert first["gap"] == pytest.approx(0.4)


def test_fewer_bins_join_neighbours():
    table = runs({**SSVI, "seed": 0})
    rows = calibration(table, (0, 2, 98, 4, 6, *[0] * 9, 10), (0, 1, 79, 1, 3, *[0] * 9, 10))
    five = bins(table, rows, "samples", "test", 5)
    assert five["bin"].tolist() == [0, 1, 4] and five["count"].tolist() == [100, 10, 10]
    assert five["accuracy"].tolist() == [0.8, 0.4, 1.0]
    assert five["confidence"][0] == pytest.approx((2 * 1.5 + 98 * 2.5) / 15 / 100)
    assert (five["lower"].tolist(), five["upper"].tolist()) == ([0.0, 0.2, 0.8], [0.2, 0.4, 1.0])
    assert bins(table, rows, "samples", "test", 3)["count"].tolist() == [110, 10]
    chart = reliability(table, rows, metrics(table, ece=0.02, ece_null=0.01), [identifier(0)],
                        "samples", "test", LOOK, 5)  # fmt: skip
    assert "in 5 bins" in chart.alt and "both with 15 bins" in chart.how


def test_the_interval_is_wilsons_for_the_examples_of_one_seed():
    table = runs(SSVI)
    found = bins(table, calibration(table), "samples", "test").iloc[1]
    n, share = 100, 0.8  # of one run, though 300 examples were pooled
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    assert (found["low"], found["high"]) == pytest.approx((centre - half, centre + half))


def test_bins_that_were_all_right_end_at_one():
    table = runs(SSVI)
    found = bins(table, calibration(table, (7,), (7,)), "samples", "test").iloc[0]
    assert found["accuracy"] == 1 and found["high"] == 1 and 0 < found["low"] < 1


def test_other_predictors_splits_stages_and_runs_are_left_out():
    table = runs({**SSVI, "stage": "finetune"})
    wanted = calibration(table, (10,), (5,), stage="finetune")
    others = [
        calibration(table, (10,), (0,), stage="train"),
        calibration(table, (10,), (0,), stage="finetune", predictor="mean"),
        calibration(table, (10,), (0,), stage="finetune", split="val"),
        bin_rows(identifier(77), (10,), (0,), stage="finetune"),
    ]
    found = bins(table, pd.concat([*others, wanted]), "samples", "test")
    assert found["accuracy"].tolist() == [0.5] and found["count"].tolist() == [30]


def test_categories_and_a_cached_table_are_left_alone():
    table = runs(SSVI)
    rows = calibration(table).astype({"run_id": "category", "predictor": "category", "split": "category"})
    before = rows.copy()
    bins(table, rows, "samples", "test")
    pd.testing.assert_frame_equal(rows, before)


# -- reliability diagrams ---------------------------------------------------------------------


def test_panels_share_their_axes_and_carry_the_methods_looks():
    chart = diagram(runs(SSVI, DENSE))
    layout = chart.figure.layout
    assert layout.xaxis.range == layout.xaxis2.range and layout.yaxis.range == layout.yaxis3.range
    assert layout.yaxis2.type == layout.yaxis4.type == "log" and layout.yaxis2.range == layout.yaxis4.range
    few, many = drawn(chart, "SSVI")
    assert (
        many.marker.color == "#414AAF"
        and many.marker.symbol == "circle"
        and many.x == pytest.approx((100 / 6,))
    )
    assert many.y == (80.0,) and (many.xaxis, many.yaxis) == ("x", "y")
    assert few.marker.symbol == "circle-open" and few.y == (50.0,)
    assert [trace.marker.color for trace in drawn(chart, "Dense VI")] == ["#3A3A3A"] * 2
    assert drawn(chart, "Dense VI")[1].xaxis == "x2"


def test_the_panel_of_the_least_error_is_first_and_one_without_is_last():
    table = runs(SSVI, DENSE, {**SSVI, "method": "rigl"})
    scores = metrics(table, ece=[float("nan")] * 3 + [0.03] * 3 + [0.01] * 3, ece_null=0.01)
    headings = [note.text for note in diagram(table, scores=scores).figure.layout.annotations]
    names = [text.partition("<br>")[0] for text in headings]
    assert names == ["<b>RigL</b>", "<b>Dense VI</b>", "<b>SSVI</b>"]


def test_whiskers_are_not_symmetric():
    few, many = drawn(diagram(runs(SSVI)), "SSVI")
    found = bins(runs(SSVI), calibration(runs(SSVI)), "samples", "test")
    assert many.error_y.array[0] == pytest.approx(100 * found["high"][1] - 80)
    assert many.error_y.arrayminus[0] == pytest.approx(80 - 100 * found["low"][1])
    # those that say next to nothing stand back
    assert few.error_y.color.startswith("rgba") and many.error_y.color == "#414AAF"


def test_the_gap_is_drawn_where_there_are_examples_enough():
    (gap,) = drawn(diagram(runs(SSVI)), "gap")
    middle = 100 * 2.5 / 15
    assert gap.x[:2] == pytest.approx((middle, middle)) and gap.y[:2] == pytest.approx((middle, 80.0))
    assert gap.x[2:] == gap.y[2:] == (None,)


def test_counts_are_a_runs_and_stand_over_their_bin():
    (counts,) = drawn(diagram(runs(SSVI)), "examples a run")
    assert counts.y == (2, 2, None, 100, 100, None)
    assert counts.x == pytest.approx((100 / 15, 200 / 15, None, 200 / 15, 20, None))


def test_headings_tell_ece_with_its_interval_and_what_is_nearly_empty():
    table = runs(SSVI)
    chart = diagram(table, scores=metrics(table, ece=[0.01, 0.02, 0.03], ece_null=0.005))
    (heading,) = [note.text for note in chart.figure.layout.annotations]
    half_width = 100 * 0.01 * T2 / math.sqrt(3)
    assert heading.split("<br>") == [
        "<b>SSVI</b>", f"ECE 2.00 ± {half_width:.2f} %", "0.50 % if calibrated", "1 of 2 bins nearly empty",
    ]  # fmt: skip
    assert "1 of 2 bins" in chart.alt and "2.00 %" in chart.alt and "Wilson" in chart.how


def test_panels_are_in_the_order_that_was_asked_for():
    table = runs(SSVI, DENSE)
    chart = diagram(table, chosen=[identifier(1), identifier(0)])
    assert [note.text.split("<br>")[0] for note in chart.figure.layout.annotations] == [
        "<b>Dense VI</b>", "<b>SSVI</b>",
    ]  # fmt: skip


def test_a_single_seed_has_no_interval_of_ece_and_one_configuration_is_a_panel():
    table = runs({**SSVI, "seed": 0})
    (heading,) = [note.text for note in diagram(table).figure.layout.annotations]
    assert "ECE 2.00 %" in heading


def test_scores_that_are_missing_are_a_dash():
    table = runs(SSVI)
    chart = diagram(table, scores=metrics(table, accuracy=0.8))
    assert "ECE – %" in chart.figure.layout.annotations[0].text and "nan" not in chart.alt


def test_names_are_no_markup():
    table = runs({**SSVI, "method": "<b>bold</b>"})
    heading = diagram(table).figure.layout.annotations[0].text
    assert "&lt;b&gt;bold" in heading


def test_figures_are_the_same_every_time_and_dark_ones_differ_in_colour():
    table = runs(SSVI)
    assert diagram(table).figure == diagram(table).figure
    dark = diagram(table, look=type(LOOK)("dark", LOOK.styles))
    assert drawn(dark, "SSVI")[1].marker.color == "#3767DB"


@pytest.mark.parametrize(
    ("predictor", "split", "words"),
    [
        ("samples+temperature", "test", "has temperature scaling"),
        ("samples", "val", "Choose another split"),
        ("mean", "test", "Choose another"),
    ],
)
def test_what_is_missing_is_said(predictor, split, words):
    with pytest.raises(Missing, match=words):
        diagram(runs(SSVI), predictor=predictor, split=split)


def test_no_finished_run_is_said():
    with pytest.raises(Missing, match="No run here is finished"):
        diagram(runs({**SSVI, "status": "failed"}))
    table = runs(SSVI)
    with pytest.raises(Missing):
        diagram(table, rows=calibration(table).iloc[:0])


# -- temperature ------------------------------------------------------------------------------


def scaled(table, before, after, score="ece", look=LOOK, **more):
    rows = [
        metrics(table, **{score: before}, ece_null=0.004)
        if score != "ece"
        else metrics(table, ece=before, ece_null=0.004),
        metrics(
            table, predictor="samples+temperature", **{score: after}, ece_null=0.005, temperature=1.5, **more
        ),
    ]
    return scaling(table, pd.concat(rows, ignore_index=True), score, "samples", "test", look)


def test_the_change_is_paired_by_seed():
    table = runs(SSVI)
    row = scaled(table, [0.03, 0.05, 0.07], [0.02, 0.03, 0.04]).data.iloc[0]
    assert (row["before_mean"], row["after_mean"], row["change_mean"]) == pytest.approx((0.05, 0.03, -0.02))
    assert row["change_half_width"] == pytest.approx(0.01 * T2 / math.sqrt(3)) and row["change_n"] == 3
    assert row["temperature_mean"] == 1.5


def test_before_is_hollow_after_filled_and_the_null_a_rule():
    chart = scaled(runs(SSVI), [0.03, 0.05, 0.07], [0.02, 0.03, 0.04])
    before, after = drawn(chart, "before")[0], drawn(chart, "after temperature scaling")[0]
    assert before.marker.symbol == ("circle-open",) and after.marker.symbol == ("circle",)
    assert before.x == pytest.approx((5.0,)) and after.x == pytest.approx((3.0,))
    assert before.error_x.array == pytest.approx((2 * T2 / math.sqrt(3),))
    nulls = drawn(chart, "if it were calibrated")
    assert [trace.x[0] for trace in nulls[:2]] == pytest.approx([0.4, 0.5])
    assert chart.figure.layout.xaxis.title.text == "ECE (%) ← better"


def test_rows_are_best_first_from_the_top_and_a_legend_entry_is_there_once():
    chart = scaled(runs(SSVI, DENSE), [0.05] * 6, [0.04] * 3 + [0.01] * 3)
    assert chart.data["method"].tolist() == ["dense_vi", "ssvi"]
    names = [note.text for note in chart.figure.layout.annotations]
    heights = [note.y for note in chart.figure.layout.annotations]
    assert names == ["Dense VI", "SSVI · 90 %"] and heights[0] > heights[1]
    entries = [trace.name for trace in chart.figure.data if trace.showlegend is not False]
    assert sorted(entries) == sorted(set(entries))


def test_nll_has_no_null():
    chart = scaled(runs(SSVI), [0.3, 0.5, 0.7], [0.2, 0.3, 0.4], score="nll")
    assert not drawn(chart, "if it were calibrated")
    assert chart.figure.layout.xaxis.title.text == "NLL (nats) ← better"


def test_changes_that_an_interval_tells_from_none_are_counted():
    clear = scaled(runs(SSVI), [0.05, 0.06, 0.07], [0.01, 0.02, 0.03])
    assert "below 0 for 1 and above 0 for 0" in clear.alt
    unclear = scaled(runs(SSVI), [0.03, 0.05, 0.07], [0.07, 0.03, 0.04])
    assert "below 0 for 0 and above 0 for 0" in unclear.alt
    single = scaled(runs({**SSVI, "seed": 0}), [0.05], [0.01])
    assert "below 0 for 0 and above 0 for 0" in single.alt


def test_runs_without_one_of_the_two_do_not_count():
    row = scaled(runs(SSVI), [0.03, 0.05, 0.07], [0.02, float("nan"), 0.04]).data.iloc[0]
    assert row["before_n"] == row["after_n"] == 2 and row["before_mean"] == pytest.approx(0.05)


def test_what_brings_temperatures_is_said():
    table = runs(SSVI)
    with pytest.raises(Missing, match="--force"):
        scaling(table, metrics(table, ece=0.02), "ece", "samples", "test", LOOK)


def test_more_rows_than_are_readable_are_left_out_and_that_is_said():
    many = runs(*({**SSVI, "seed": 0, "sparsity": number / 100} for number in range(40)))
    chart = scaled(many, [0.05] * 40, [0.01 + number / 1000 for number in range(40)])
    assert len(chart.figure.layout.annotations) == 30 and len(chart.data) == 40
    assert "The 10 behind these" in chart.how


# -- which configurations, and their names ----------------------------------------------------


def test_one_a_method_at_the_sparsity_that_most_have():
    table = runs(
        {**SSVI, "sparsity": 0.8},
        SSVI,
        {**SSVI, "method": "rigl"},
        {**SSVI, "method": "rigl", "sparsity": 0.98},
        DENSE,
    )
    assert one_a_method(table, LOOK) == [identifier(1), identifier(4), identifier(2)]
    assert one_a_method(table, LOOK, most=1) == [identifier(1)]
    assert one_a_method(table[table["status"] == "failed"], LOOK) == []


def test_methods_are_ranked_before_the_list_is_cut():
    table = runs(SSVI, {**SSVI, "method": "rigl"}, DENSE)
    table["ece"] = [0.03, 0.02, 0.04, *[float("nan")] * 3, 0.01, 0.01, 0.02]
    table["accuracy"] = [0.9] * 3 + [0.8] * 3 + [0.7] * 3
    assert one_a_method(table, LOOK, score="ece") == [identifier(2), identifier(0), identifier(1)]
    assert one_a_method(table, LOOK, most=1, score="ece") == [identifier(2)]
    assert one_a_method(table, LOOK, most=None, score="accuracy")[0] == identifier(0)


def test_of_several_the_one_with_most_seeds_then_what_others_are_compared_with():
    named = [{**SSVI, "config_label": f"ssvi sparsity=0.9 criterion={name}"} for name in ("a", "b")]
    assert one_a_method(runs(*named), LOOK) == [identifier(0)]
    assert one_a_method(runs(*named), LOOK, [identifier(1)]) == [identifier(1)]
    more = {**named[1], "seed": [0, 1, 2, 3]}
    assert one_a_method(runs(named[0], more), LOOK) == [identifier(1)]


def test_names_have_what_not_all_share():
    labels = ["ssvi sparsity=0.9 criterion=snr budget=epochs", "dense_vi budget=epochs"]
    table = runs({**SSVI, "config_label": labels[0]}, {**DENSE, "config_label": labels[1]})
    assert list(short_names(table, LOOK).values()) == ["SSVI · 90 % · by snr", "Dense VI"]


def test_names_that_would_be_the_same_are_labels():
    table = runs({**SSVI, "config_label": "one"}, {**SSVI, "config_label": "other"})
    assert list(short_names(table, LOOK).values()) == ["one", "other"]
    assert short_names(table.iloc[:0], LOOK) == {}


def test_further_configurations_of_a_method_have_dashes_of_their_own():
    found = dashes(["a", "b", "c"], ["ssvi", "ssvi", "dense_vi"], LOOK)
    assert found["a"] == "solid" and found["c"] == "dash" and found["b"] != found["a"]
