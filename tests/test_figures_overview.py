"""Overview, leaderboard and trade-off as data: what is drawn where, in which colour, with which interval."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from bench.figures import (
    Look,
    Missing,
    at_compression,
    coverage,
    forest,
    grouped,
    latex,
    leaderboard,
    shown,
    tradeoff,
)
from bench.figures.parts.chart import escaped, interval, translucent
from bench.results.names import variant
from tests.figure_data import LOOK, STYLES, identifier, runs

#: The 97.5th percentile of Student's t for two degrees of freedom.
T2 = 4.302652729911275

DENSE = {
    "method": "dense_vi", "accuracy": [0.95, 0.96, 0.97], "nll": [0.2, 0.2, 0.2],
    "compression_vs_dense_vi": 1.0, "train_flops_ratio": 1.0,
}  # fmt: skip
SPARSE = {
    "method": "ssvi", "sparsity": 0.9, "accuracy": [0.93, 0.94, 0.95], "nll": [0.3, 0.3, 0.3],
    "compression_vs_dense_vi": 7.0, "train_flops_ratio": 0.3,
}  # fmt: skip
SPARSER = {**SPARSE, "sparsity": 0.98, "accuracy": [0.88, 0.89, 0.90], "compression_vs_dense_vi": 20.0}
WORSE = {**SPARSE, "method": "rigl", "accuracy": [0.80, 0.81, 0.82], "compression_vs_dense_vi": 6.0}


def traces(chart, name=None):
    return [trace for trace in chart.figure.data if name is None or trace.name == name]


# -- trade-off --------------------------------------------------------------------------------


def test_a_mark_is_the_mean_of_a_configuration_with_its_interval():
    chart = tradeoff(runs(DENSE, SPARSE, SPARSER), "compression_vs_dense_vi", "accuracy", LOOK)
    (ssvi,) = traces(chart, "SSVI")
    assert ssvi.x == (7.0, 20.0) and ssvi.y == pytest.approx((94.0, 89.0))
    assert ssvi.error_y.array == pytest.approx((T2 / math.sqrt(3),) * 2)
    assert ssvi.mode == "lines+markers" and ssvi.marker.color == "#414AAF" and ssvi.marker.symbol == "circle"
    assert [text[2] for text in ssvi.customdata] == [3, 3]
    assert chart.figure.layout.xaxis.type == "log" and chart.figure.layout.yaxis.type is None
    assert chart.figure.layout.yaxis.title.text == "accuracy (%) ↑ better"


def test_the_front_is_of_those_that_nothing_beats():
    chart = tradeoff(runs(DENSE, SPARSE, SPARSER, WORSE), "compression_vs_dense_vi", "accuracy", LOOK)
    (front,) = traces(chart, "Pareto front")
    assert front.x == (1.0, 7.0, 20.0) and front.line.shape == "vh"
    assert dict(zip(chart.data["config_label"], chart.data["front"], strict=True)) == {
        "dense_vi sparsity=0": True,
        "ssvi sparsity=0.9": True,
        "ssvi sparsity=0.98": True,
        "rigl sparsity=0.9": False,
    }


def test_a_cost_that_is_spent_is_better_low():
    chart = tradeoff(runs(DENSE, SPARSE, WORSE), "train_flops_ratio", "nll", LOOK)
    assert list(chart.data["front"]) == [True, True, True]  # rigl equals ssvi in both
    (front,) = traces(chart, "Pareto front")
    assert front.line.shape == "hv"


def test_the_claim_is_below_the_dense_vi_that_is_there():
    chart = tradeoff(runs(DENSE, SPARSE), "compression_vs_dense_vi", "accuracy", LOOK)
    (claim,) = [shape for shape in chart.figure.layout.shapes if shape.type == "rect"]
    assert (claim.x0, claim.x1) == (10, 20) and (claim.y0, claim.y1) == pytest.approx((93.0, 96.0))
    for cost, score in (("compression_vs_dense_vi", "nll"), ("train_flops_ratio", "accuracy")):
        found = tradeoff(runs(DENSE, SPARSE), cost, score, LOOK)
        assert not [shape for shape in found.figure.layout.shapes if shape.type == "rect"]
    without = tradeoff(runs(SPARSE), "compression_vs_dense_vi", "accuracy", LOOK)
    assert not without.figure.layout.shapes


def test_one_seed_has_no_whiskers_and_says_so():
    chart = tradeoff(runs({**SPARSE, "accuracy": 0.9, "nll": 0.3}), "sparsity", "accuracy", LOOK)
    (ssvi,) = traces(chart, "SSVI")
    assert ssvi.error_y.array == (0,) and ssvi.customdata[0][1] == "90.00"
    assert "none for a single seed" in chart.how


def test_ece_stands_beside_what_a_calibrated_model_would_have():
    chart = tradeoff(runs({**SPARSE, "ece": [0.02, 0.03, 0.04]}), "sparsity", "ece", LOOK)
    (null,) = traces(chart, "if it were calibrated")
    assert null.y == pytest.approx((1.0,))


def test_nothing_finished_is_said_in_words():
    with pytest.raises(Missing, match="No finished run here has both accuracy and compression"):
        tradeoff(runs({**SPARSE, "status": "failed"}), "compression_vs_dense_vi", "accuracy", LOOK)
    with pytest.raises(Missing, match="No finished run here has both ECE"):
        tradeoff(runs(SPARSE), "compression_vs_dense_vi", "ece", LOOK)


def test_the_slice_has_the_best_of_each_method_that_is_small_enough():
    found = at_compression(runs(DENSE, SPARSE, SPARSER, WORSE), "accuracy", times=6.0)
    assert list(found["config_label"]) == ["ssvi sparsity=0.9", "rigl sparsity=0.9"]
    assert list(at_compression(runs(DENSE, SPARSE, SPARSER), "accuracy")["config_label"]) == [
        "ssvi sparsity=0.98"
    ]
    assert at_compression(runs(DENSE), "accuracy").empty


def test_colours_are_by_method_whatever_else_is_shown():
    everything = tradeoff(runs(DENSE, SPARSE, WORSE), "sparsity", "accuracy", LOOK)
    alone = tradeoff(runs(WORSE), "sparsity", "accuracy", LOOK)
    assert traces(everything, "RigL")[0].marker.color == traces(alone, "RigL")[0].marker.color == "#3099BA"
    dark = tradeoff(runs(WORSE), "sparsity", "accuracy", Look("dark", STYLES))
    assert traces(dark, "RigL")[0].marker.color == "#32A4A9"
    strange = tradeoff(runs({**WORSE, "method": "of_a_plugin"}), "sparsity", "accuracy", LOOK)
    assert traces(strange, "of_a_plugin")[0].marker.color == "#6E7781"


def test_the_same_numbers_give_the_same_figure():
    one, two = (
        tradeoff(runs(DENSE, SPARSE), "sparsity", "accuracy", LOOK).figure.to_json() for _ in range(2)
    )
    assert one == two


def test_words_of_results_are_no_markup():
    chart = tradeoff(runs({**SPARSE, "config_label": "<b>bold</b> & more"}), "sparsity", "accuracy", LOOK)
    (ssvi,) = traces(chart, "SSVI")
    assert ssvi.customdata[0][0] == "&lt;b&gt;bold&lt;/b&gt; &amp; more"


# -- overview -----------------------------------------------------------------------------------


def test_a_forest_has_paired_differences_best_on_top():
    """Differences of 0.05 less each seed's own: -0.01 and +0.01 about it; and of nothing else."""
    base = {**SPARSE, "accuracy": [0.90, 0.92, 0.94]}
    better = {**SPARSE, "sparsity": 0.8, "accuracy": [0.94, 0.97, 1.00]}
    worse = {**SPARSE, "method": "rigl", "accuracy": [0.80, 0.80, 0.80]}
    table = runs(base, better, worse)
    chart = forest(table, dict.fromkeys(map(identifier, range(3)), identifier(0)), "accuracy", LOOK)
    assert list(chart.data["config_label"]) == ["ssvi sparsity=0.8", "rigl sparsity=0.9"]
    assert chart.data["difference"].tolist() == pytest.approx([0.05, -0.12])
    assert chart.data["half_width"].tolist() == pytest.approx(
        [T2 * 0.01 / math.sqrt(3), T2 * 0.02 / math.sqrt(3)]
    )
    low, high = chart.figure.layout.yaxis.range
    names = {note.y: note.text for note in chart.figure.layout.annotations}
    assert low > high and list(names.values()) == ["SSVI · 80 %", "RigL · 90 %"]
    assert [round(y + 0.36) for y in names] == [0, 1]
    marks = {y: trace.marker.symbol[i] for trace in traces(chart) for i, y in enumerate(trace.y)}
    told = chart.data["p_holm"] < 0.05
    assert told.tolist() == [True, True] and marks == {0: "circle", 1: "cross"}
    title = chart.figure.layout.xaxis.title.text
    assert title.replace("<br>", " ") == "accuracy less that of SSVI · 90\u00a0% (points) → better"
    assert max(map(len, title.split("<br>"))) <= 42  # a phone has room for no more


def test_what_cannot_be_told_apart_is_hollow():
    table = runs(
        {**SPARSE, "accuracy": [0.90, 0.92, 0.94]},
        {**SPARSE, "sparsity": 0.8, "accuracy": [0.91, 0.91, 0.95]},
    )
    chart = forest(table, {identifier(1): identifier(0)}, "accuracy", LOOK)
    assert traces(chart)[0].marker.symbol == ("circle-open",) and "1 is undecided" in chart.alt


def test_a_forest_without_a_reference_is_said_in_words():
    with pytest.raises(Missing, match="reference may be filtered out"):
        forest(runs(SPARSE), {identifier(0): identifier(7)}, "accuracy", LOOK)


def test_what_does_not_fit_a_forest_is_said_and_in_its_data():
    many = [
        {**SPARSE, "sparsity": 0.01 * i, "accuracy": [0.5 + i / 1000, 0.5 + i / 900], "nll": 0.3}
        for i in range(40)
    ]
    references = dict.fromkeys((identifier(i) for i in range(40)), identifier(0))
    chart = forest(runs(*many), references, "accuracy", LOOK)
    assert len(chart.data) == 39 and sum(len(trace.y) for trace in traces(chart)) == 30
    assert "The 9 behind these are in the data below" in chart.how


def test_coverage_counts_what_is_done_of_what_was_planned():
    table = runs(
        {**DENSE, "status": ["done", "done", "failed"]},
        {**SPARSE, "status": ["done", "pending", "pending"]},
        {**SPARSE, "dataset": "cifar10"},
    )
    chart = coverage(table, LOOK)
    (heat,) = traces(chart)
    assert list(heat.y) == ["SSVI", "Dense VI"] and list(heat.x) == ["digits · mlp", "cifar10 · mlp"]
    assert [list(row) for row in heat.text] == [["1 of 3", "3 of 3"], ["2 of 3, 1 failed", ""]]
    assert [list(row) for row in heat.z] == [[pytest.approx(1 / 3), 1.0], [pytest.approx(2 / 3), None]]
    assert chart.alt == "6 of 9 runs are done, 1 failed."


# -- leaderboard --------------------------------------------------------------------------------


def test_the_board_is_ordered_by_the_mean_and_marks_what_the_best_is_told_apart_from():
    seeds = np.linspace(-0.01, 0.01, 5)
    table = runs(
        {**SPARSE, "method": "rigl", "accuracy": list(0.70 + seeds), "nll": 0.9},
        {**SPARSE, "accuracy": list(0.90 + seeds), "nll": 0.2},
        {**SPARSE, "sparsity": 0.8, "accuracy": list(0.9 + seeds[::-1]), "nll": 0.1},
    )
    board = leaderboard(table, "accuracy")
    assert list(board["config_label"])[2] == "rigl sparsity=0.9" and list(board["separable"]) == [
        False,
        False,
        True,
    ]
    assert board[["rank_low", "rank_high"]].to_numpy().tolist() == [[1, 2], [1, 2], [3, 3]]
    text = shown(board, LOOK)
    assert list(text["verdict"]) == ["● best", "○ undecided", "▽ worse"]
    assert list(text["rank"]) == ["1–2", "1–2", "3"]
    assert "0 of 3 are equivalent to it within ± 0.5 points" in grouped(board, "accuracy")
    assert "1 is undecided" in grouped(board, "accuracy") and "1 is worse" in grouped(board, "accuracy")
    assert (
        text["accuracy (%) ↑ better"].iloc[2]
        == f"70.00 ± {100 * np.std(seeds, ddof=1) * 2.7764451 / 5**0.5:.2f}"
    )
    assert leaderboard(table, "nll")["config_label"].iloc[0] == "ssvi sparsity=0.8"


def test_the_table_for_a_paper_marks_the_best_and_what_is_tied_and_escapes_the_rest():
    table = runs(
        {**SPARSE, "accuracy": [0.90, 0.91, 0.92], "config_label": "a_b & 50 %"},
        {**SPARSE, "sparsity": 0.8, "accuracy": [0.89, 0.92, 0.91]},
    )
    board = leaderboard(table, "accuracy", columns=("accuracy", "nll"))
    lines = latex(board, LOOK, "of # all").splitlines()
    assert (
        r"\caption{of \# all. Mean over $n$ seeds $\pm$ half width of the 95\,\% t-interval; the best mean "
        r"is bold; $^\ddagger$ undecided whether worse than the best.\label{tab:of-all}}"
    ) in lines
    assert r"\toprule" in lines and r"\bottomrule" in lines
    at = lines.index(r"\midrule")
    first, second = lines[at + 1 : at + 3]
    assert first == (
        r"a\_\allowbreak{}b \& 50 \% & 3 & \textbf{91.00}{\scriptsize\,$\pm$\,2.48} & "
        r"0.300{\scriptsize\,$\pm$\,0.000} \\"
    )
    assert r"\textbf" not in second and "$^\\ddagger$" in second
    assert r"NLL\\$\downarrow$" in lines[at - 1] and r"accuracy\\(\%) $\uparrow$" in lines[at - 1]


def test_a_long_table_for_a_paper_is_several_of_a_page_each():
    board = leaderboard(
        runs(*({**SPARSE, "config_label": f"c{n}", "accuracy": [0.5 + n / 100, 0.6, 0.7]} for n in range(30)))
    )
    text = latex(board, LOOK, "of all")
    assert text.count(r"\begin{tabularx}{\textwidth}") == text.count(r"\end{table}") == 2
    assert text.count(r"\caption{of all (continued).}") == 1
    assert all(len(re.findall(rf"^c{n}(\$\^\\ddagger\$)? &", text, re.MULTILINE)) == 1 for n in range(30))


def test_an_empty_board_is_said_in_words():
    with pytest.raises(Missing, match="No finished run here has Brier"):
        leaderboard(runs(SPARSE), "brier")


# -- small parts ----------------------------------------------------------------------------------


def test_small_parts():
    nothing = float("nan")
    assert interval(0.98123, 0.003, 2, 100) == "98.12 ± 0.30"
    assert interval(0.98123, nothing, 2, 100) == "98.12" and interval(nothing, nothing, 2) == "–"
    assert (
        variant("ssvi sparsity=0.9 criterion=snr network.hidden=[8, 8]")
        == "criterion=snr network.hidden=[8, 8]"
    )
    assert variant("dense_vi") == ""
    assert translucent("#ff0080", 0.5) == "rgba(255,0,128,0.5)"
    assert escaped("<a>&") == "&lt;a&gt;&amp;"
