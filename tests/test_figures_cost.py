"""Costs as data: counted against measured ratios, and bytes against weights."""

from __future__ import annotations

import math

import pytest

from bench.figures import COUNTED, MEASURED, Missing, costs, not_comparable, speed, stored
from tests.figure_data import LOOK, runs

#: The 97.5th percentile of Student's t for two degrees of freedom.
T2 = 4.302652729911275
STEPS = {"epochs": 12, "epochs_total": 12, "epochs_factor": 1.0}
DENSE = {
    **STEPS, "method": "dense_vi", "train_flops_ratio": 1.0, "step_time_ratio": [1.0, 1.0, 1.0],
    "peak_memory_ratio": 1.0, "density": 1.0, "compression_vs_dense_vi": 1.0, "checkpoint_bytes": 8000,
}  # fmt: skip
SPARSE = {
    **STEPS, "method": "ssvi", "sparsity": 0.9, "train_flops_ratio": 0.1, "step_time_ratio": [0.3, 0.4, 0.5],
    "peak_memory_ratio": 0.9, "density": 0.1, "compression_vs_dense_vi": 8.0, "checkpoint_bytes": 1000,
}  # fmt: skip


def trace(chart, name):
    (found,) = [trace for trace in chart.figure.data if trace.name == name]
    return found


def test_a_mark_is_a_configuration_against_the_line_where_counts_are_real():
    chart = speed(runs(DENSE, SPARSE), "train_flops_ratio", "step_time_ratio", LOOK)
    mark, line = trace(chart, "SSVI"), trace(chart, "measured = counted")
    assert mark.x == pytest.approx((0.1,)) and mark.y == pytest.approx((0.4,))
    assert mark.error_y.array == pytest.approx((T2 * 0.1 / math.sqrt(3),))
    assert mark.marker.color == "#414AAF" and mark.marker.symbol == "circle"
    assert line.x == line.y and line.x[0] < 0.1 and line.x[1] > 1
    assert chart.data["measured_over_counted"].tolist() == pytest.approx([1.0, 4.0])
    assert chart.alt.endswith(
        "0.1 of dense VI, SSVI · 90 % has measured step time 0.400 ± 0.248 of dense VI."
    )


def test_costs_are_never_empty_where_something_was_counted():
    nothing = {"step_time_ratio": float("nan"), "peak_memory_ratio": float("nan")}
    table = costs(runs(DENSE, {**SPARSE, **nothing}), LOOK)
    assert list(table["configuration"]) == ["SSVI · 90 %", "Dense VI"]  # cheapest first
    assert list(table["train_flops_ratio"]) == pytest.approx([0.1, 1.0]) and list(table["n"]) == [1, 3]
    assert math.isnan(table["step_time_ratio"][0]) and table["step_time_ratio"][1] == 1
    with pytest.raises(Missing, match="No run here is finished"):
        costs(runs(DENSE).assign(status="failed"), LOOK)


def test_both_axes_are_logarithmic_and_alike():
    layout = speed(runs(DENSE, SPARSE), "train_flops_ratio", "step_time_ratio", LOOK).figure.layout
    assert layout.xaxis.type == layout.yaxis.type == "log" and layout.xaxis.range == layout.yaxis.range
    assert (layout.yaxis.scaleanchor, layout.yaxis.scaleratio) == ("x", 1)
    title = layout.xaxis.title.text.replace("<br>", " ")
    assert title == "counted training FLOPs (of dense VI) ← better"
    assert layout.yaxis.title.text == "measured step time (of dense VI) ↓ better"
    assert not [t for t in speed(runs(DENSE), *PAIR, LOOK).figure.data if t.type != "scatter"]


PAIR = COUNTED[0], MEASURED[0]


def test_words_beside_the_line_are_of_what_was_measured():
    for measured, word in zip(MEASURED, ("slower", "more memory"), strict=True):
        notes = speed(runs(DENSE, SPARSE), COUNTED[0], measured, LOOK).figure.layout.annotations
        assert notes[0].text == f"{word} than counted"


def test_a_whisker_ends_at_the_axis_that_has_no_zero():
    wide = {**SPARSE, "step_time_ratio": [0.1, 0.4, 0.7]}
    chart = speed(runs(DENSE, wide), *PAIR, LOOK)
    mark, bottom = trace(chart, "SSVI"), 10 ** chart.figure.layout.yaxis.range[0]
    assert mark.error_y.array[0] > 0.4 and mark.y[0] - mark.error_y.arrayminus[0] == pytest.approx(bottom)


def test_one_seed_has_no_whisker():
    mark = trace(speed(runs({**SPARSE, "step_time_ratio": 0.4}), *PAIR, LOOK), "SSVI")
    assert mark.error_y.array == (0,) and mark.customdata[0][2] == "0.400"


def test_runs_of_other_lengths_are_left_out_since_a_step_is_measured():
    longer = {**SPARSE, "sparsity": 0.8, "epochs_total": 60}
    budgeted = {**SPARSE, "sparsity": 0.7, "epochs_factor": 3.0}
    chart = speed(runs(DENSE, SPARSE, longer, budgeted), *PAIR, LOOK)
    assert list(chart.data["config_label"]) == ["dense_vi sparsity=0", "ssvi sparsity=0.9"]
    assert "than dense VI: 6 runs." in chart.how
    cut = {**longer, "config.training.max_steps": 110}
    assert len(speed(runs(DENSE, cut), *PAIR, LOOK).data) == 2
    with pytest.raises(Missing, match="more or fewer steps"):
        speed(runs(longer), *PAIR, LOOK)


def test_without_measured_ratios_the_command_is_named_that_brings_them():
    for given in ({**SPARSE, "step_time_ratio": float("nan")}, {**SPARSE, "status": "failed"}):
        with pytest.raises(Missing, match=r"bench\.grid --suite cost"):
            speed(runs(given), *PAIR, LOOK)


def test_times_that_are_not_comparable_are_said_with_their_circumstances():
    alike = {"device": "cpu", "threads": 1, "concurrency": 2, "execution": "sparse"}
    assert not_comparable(runs({**SPARSE, **alike}, {**DENSE, **alike, "execution": "dense"})) == []
    other = {**SPARSE, **alike, "sparsity": 0.5, "threads": 2, "execution": "dense"}
    assert not_comparable(runs({**SPARSE, **alike}, other)) == [
        "threads: 1 (3 runs), 2 (3 runs)", "execution: dense (3 runs), sparse (3 runs)",
    ]  # fmt: skip
    assert not_comparable(runs({**SPARSE, **alike}, {**other, "status": "failed"})) == []


def test_bytes_stand_beside_what_is_in_proportion_to_weights():
    chart = stored(runs(DENSE, SPARSE), LOOK)
    mark, line = trace(chart, "SSVI"), trace(chart, "bytes in proportion to weights")
    assert mark.x == pytest.approx((10.0,)) and mark.y == (8.0,)
    assert [x * y for x, y in zip(line.x, line.y, strict=True)] == pytest.approx([100, 100])
    assert chart.data["share_of_proportion"].tolist() == pytest.approx([1.0, 0.8])
    assert chart.figure.layout.xaxis.type == chart.figure.layout.yaxis.type == "log"
    assert "8 times smaller than dense VI with 10.00% of the weights" in chart.alt


def test_methods_that_store_equally_much_stand_around_each_other():
    chart = stored(runs(DENSE, SPARSE, {**SPARSE, "method": "rigl"}), LOOK)
    sizes = [trace(chart, name).marker.size[0] for name in ("SSVI", "RigL", "Dense VI")]
    assert sizes == [9, 15, 9]


def test_nothing_stored_is_said_in_words():
    with pytest.raises(Missing, match="density and bytes"):
        stored(runs({**SPARSE, "density": float("nan")}), LOOK)


def test_words_of_results_are_no_markup():
    chart = speed(runs({**SPARSE, "config_label": "<b>x</b>"}), *PAIR, LOOK)
    assert trace(chart, "SSVI").customdata[0][0] == "&lt;b&gt;x&lt;/b&gt;"
