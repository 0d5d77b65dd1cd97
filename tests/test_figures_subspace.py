"""Subspace as data: turnover and overlaps from the layers' counts, layer by time, scores of what moves."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
import pytest

from bench.figures import (
    MOST_CONFIGURATIONS,
    Look,
    Missing,
    default_choice,
    layer_map,
    moves,
    subspace,
    weight_scores,
)
from bench.figures.parts.bands import MOST_POINTS, in_bins, over_seeds
from tests.figure_data import LOOK, STYLES, identifier, runs

#: The 97.5th percentile of Student's t for two degrees of freedom.
T2 = 4.302652729911275


def sets(run, layer, *active):
    """Rows of the table ``layers`` worked out from the active sets themselves, the first one the initial."""
    rows = []
    for step, (before, after) in enumerate(pairwise(active), start=1):
        rows.append(
            {
                "run_id": run, "stage": "train", "epoch": step, "step": 10 * step, "layer": layer,
                "slots": len(after), "replaced": len(after - before), "removed": len(before - after),
                "iou_previous": len(before & after) / len(before | after),
                "iou_initial": len(active[0] & after) / len(active[0] | after),
            }
        )  # fmt: skip
    return rows


def layers(*rows):
    frame = pd.DataFrame([row for some in rows for row in some])
    for fate in ("kept", "removed", "added"):
        for quantile in ("q10", "q50", "q90"):
            if f"{fate}_{quantile}" not in frame:
                frame[f"{fate}_{quantile}"] = math.nan
    for later in ("regrown", "age_q50"):  # null in tables of earlier versions
        if later not in frame:
            frame[later] = math.nan
    whole = dict.fromkeys(["epoch", "step", "slots", "replaced", "removed"], "Int64")
    return frame.astype(whole | dict.fromkeys(["run_id", "stage", "layer"], "category"))


#: Two layers between which weights also move, so that layers grow and shrink.
FC1 = [{1, 2, 3, 4}, {1, 2, 3, 5, 6}, {1, 7, 8, 5, 6}]
FC2 = [{11, 12}, {11}, {13}]


def test_all_layers_are_one_set():
    table = moves(layers(sets("r", "fc1", *FC1), sets("r", "fc2", *FC2)))
    union = [one | two for one, two in zip(FC1, FC2, strict=True)]
    expected = moves(layers(sets("r", "whole", *union)))
    for column in ("slots", "turnover", "iou_previous", "iou_initial"):
        assert list(table[column]) == pytest.approx(list(expected[column]))
    assert list(table["turnover"]) == pytest.approx([2 / 6, 3 / 6])
    assert list(table["iou_initial"]) == pytest.approx([4 / 8, 1 / 11])


def test_a_layer_has_what_the_table_says():
    table = moves(layers(sets("r", "fc1", *FC1), sets("r", "fc2", *FC2)), "fc1")
    assert list(table["iou_previous"]) == pytest.approx([3 / 6, 3 / 7])
    assert list(table["iou_initial"]) == pytest.approx([3 / 6, 1 / 8])
    assert list(table["turnover"]) == pytest.approx([2 / 5, 2 / 5])


def test_no_updates_are_said_to_be_missing():
    with pytest.raises(Missing, match="sparsity_sweep"):
        moves(layers(sets("r", "fc1", *FC1)), "conv9")
    with pytest.raises(Missing, match="sparsity_sweep"):
        layer_map(layers(sets("r", "fc1", *FC1)).head(0), "turnover", LOOK)


# -- lines ------------------------------------------------------------------------------------

WHOLE = set(range(10))


def replacing(run, *counts, layer="fc1"):
    """Rows of a run that replaces so many of ten weights at each update."""
    active, fresh = [WHOLE], 100
    for count in counts:
        left = set(sorted(active[-1])[count:])
        active.append(left | set(range(fresh, fresh + count)))
        fresh += count
    return sets(run, layer, *active)


def three_seeds():
    table = runs({"criterion": "snr", "sparsity": 0.9, "accuracy": [0.9, 0.9, 0.9]})
    rows = [
        replacing(run, *counts) for run, counts in zip(table["run_id"], ((1, 0), (2, 0), (3, 0)), strict=True)
    ]
    return layers(*rows), table


def test_a_line_is_the_mean_over_seeds_in_its_band():
    rows, table = three_seeds()
    band, line = subspace(rows, table, "turnover", LOOK).figure.data
    assert line.x == (10, 20) and line.y == pytest.approx((0.2, 0.0))
    half = T2 * 0.1 / math.sqrt(3)
    assert band.y == pytest.approx((0.2 + half, 0.0, 0.0, 0.2 - half), rel=1e-3)
    assert band.fill == "toself" and band.mode == "lines" and line.customdata[0][2] == 3
    style = LOOK.criteria["snr"]
    assert (line.line.color, line.line.dash, line.marker.symbol) == (
        style["hue"],
        style["dash"],
        style["marker"],
    )


def test_below_three_seeds_there_is_no_band_and_it_does_not_set_the_range():
    rows, table = three_seeds()
    two = table.head(2)
    chart = subspace(rows[rows["run_id"].isin(two["run_id"])], two, "turnover", LOOK, single_seeds=True)
    thin, line = chart.figure.data
    assert thin.y == (0.1, 0.0, None, 0.2, 0.0, None) and line.y == pytest.approx((0.15, 0.0))
    assert chart.figure.layout.yaxis.range == pytest.approx((0, 0.2 * 1.08))


def test_overlaps_have_the_range_of_overlaps():
    rows, table = three_seeds()
    chart = subspace(rows, table, "iou_initial", LOOK)
    assert chart.figure.layout.yaxis.range == (0, 1.03)
    # 9 of 11, 8 of 12 and 7 of 13
    assert chart.figure.data[-1].y[0] == pytest.approx((9 / 11 + 8 / 12 + 7 / 13) / 3, rel=1e-4)
    assert "`iou_final`" in chart.how  # where the overlap with the final one is


def test_looks_do_not_depend_on_what_is_chosen():
    same = [{"criterion": "snr", "sparsity": s, "accuracy": [0.9]} for s in (0.8, 0.9)]
    table = runs(*same, {"method": "rigl", "sparsity": 0.9, "accuracy": [0.9]})
    rows = layers(*(replacing(run, 1, 2) for run in table["run_id"]))
    everything = {t.name: t for t in subspace(rows, table, "turnover", LOOK, among=table).figure.data}
    alone = table[table["config_id"] == identifier(1)]
    own = rows[rows["run_id"].isin(alone["run_id"])]
    (line,) = subspace(own, alone, "turnover", LOOK, among=table).figure.data
    second = everything["SSVI · 90 %"]
    assert (line.line.color, line.line.dash) == (second.line.color, second.line.dash)
    first, rigl = everything["SSVI · 80 %"], everything["RigL · 90 %"]
    assert first.line.color == "#414AAF" != second.line.color and first.line.dash != second.line.dash
    assert first.marker.symbol != second.marker.symbol
    assert (rigl.line.color, rigl.line.dash) == ("#3099BA", "dot")


def test_too_many_are_refused_in_words():
    table = runs(*({"sparsity": n / 10, "accuracy": [0.9]} for n in range(MOST_CONFIGURATIONS + 1)))
    rows = layers(*(replacing(run, 1) for run in table["run_id"]))
    with pytest.raises(Missing, match=f"choose {MOST_CONFIGURATIONS}"):
        subspace(rows, table, "turnover", LOOK)


def test_what_is_chosen_at_first_shares_recipe_and_sparsity():
    table = runs(*({"sparsity": s, "config_label": f"{c} {s}"} for s in (0.9, 0.98) for c in "abcdefg"))
    assert default_choice(table) == [f"{c} 0.9" for c in "abcde"]
    different = runs(*({"sparsity": s, "config_label": str(s)} for s in (0.8, 0.9, 0.98)))
    assert default_choice(different) == ["0.8", "0.9", "0.98"]
    assert default_choice(table.head(0)) == []


# -- heat map ---------------------------------------------------------------------------------


def test_the_map_has_layers_in_the_networks_order_and_one_scale():
    rows = layers(replacing("r", 2, 1, layer="fc2"), replacing("r", 4, 3, layer="fc1"))
    (heat,) = layer_map(rows, "turnover", LOOK).figure.data
    assert heat.y == ("fc2", "fc1") and heat.x == (10, 20)
    assert [list(row) for row in heat.z] == [[0.2, 0.1], [0.4, 0.3]]
    assert (heat.zmin, heat.zmax) == (0, 0.4)
    (heat,) = layer_map(rows, "iou_previous", LOOK).figure.data
    assert (heat.zmin, heat.zmax) == (0, 1) and heat.z[0][0] == pytest.approx(8 / 12, abs=1e-4)


# -- many updates, and spread -----------------------------------------------------------------


def test_many_updates_are_averaged_to_a_number_that_can_be_drawn():
    rows = layers(replacing("r", *[1, 3] * 300))
    table = runs({"sparsity": 0.9, "accuracy": [0.9]}).assign(run_id="r")
    (line,) = subspace(rows, table, "turnover", LOOK).figure.data
    assert len(line.x) == MOST_POINTS and set(line.y) == {0.2}  # six updates a point
    assert line.x[0] == pytest.approx(35)


def test_bins_are_of_each_configuration():
    table = pd.DataFrame(
        {
            "run_id": "r",
            "stage": "train",
            "step": range(6),
            "epoch": 1.0,
            "value": range(6),
            "key": list("aaaabb"),
        }
    )
    found = in_bins(table, ["key"], 2, ["value"])
    assert list(found["key"]) == ["a", "a", "b", "b"] and list(found["value"]) == [0.5, 2.5, 4, 5]


def test_missing_values_do_not_count():
    frame = pd.DataFrame({"key": [1, 1, 1, 2], "value": [1.0, 3.0, math.nan, 7.0]})
    found = over_seeds(frame, ["key"], ["value"])
    assert list(found["value_mean"]) == [2.0, 7.0] and list(found["value_n"]) == [2, 1]
    # 12.706 is the 97.5th percentile for one degree of freedom
    assert found["value_half_width"][0] == pytest.approx(12.7062, rel=1e-4)
    assert math.isnan(found["value_half_width"][1])


# -- scores -----------------------------------------------------------------------------------


def scored(kept, removed, added, runs_of=("r",)):
    """Rows with the same medians for all runs; the 10th and 90th percentile are half and twice of them."""
    rows = layers(*(replacing(run, *[1] * len(kept)) for run in runs_of))
    for fate, values in (("kept", kept), ("removed", removed), ("added", added)):
        medians = pd.Series(list(values) * len(runs_of), dtype="float64")
        rows[f"{fate}_q50"], rows[f"{fate}_q10"], rows[f"{fate}_q90"] = medians, medians / 2, medians * 2
    return rows


def test_scores_far_apart_are_on_a_log_axis_and_zero_is_said():
    chart = weight_scores(scored([1.0, 2.0], [0.1, 0.01], [0.0, 0.0]), "fc1", LOOK, "snr")
    found = {trace.name: trace for trace in chart.figure.data if trace.name}
    assert chart.figure.layout.yaxis.type == "log" and found["kept"].y == (1.0, 2.0)
    assert "added" not in found and found["added: 0, below the axis"].x == (None,)
    band = chart.figure.data[0]
    assert band.y == (2.0, 4.0, 1.0, 0.5) and band.fill == "toself" and band.mode == "lines"
    assert chart.figure.layout.yaxis.title.text == "score (snr) ↑ kept"


def test_scores_close_together_are_on_a_linear_axis():
    chart = weight_scores(scored([-3.0, -2.0], [-4.0, -4.5], [-1.0, -1.0]), "fc1", LOOK)
    assert chart.figure.layout.yaxis.type is None
    assert [trace.name for trace in chart.figure.data if trace.name] == ["kept", "removed", "added"]


def test_negative_scores_far_apart_are_shown_by_size_with_kept_on_top():
    chart = weight_scores(scored([-0.01, -0.01], [-1.0, -2.0], [0.0, 0.0]), "fc1", LOOK)
    found = {trace.name: trace for trace in chart.figure.data if trace.name}
    axis = chart.figure.layout.yaxis
    assert (axis.type, axis.autorange, axis.tickprefix) == ("log", "reversed", "−")
    assert found["removed"].y == (1.0, 2.0) and "added: 0, above the axis" in found


def test_an_update_that_moves_nothing_leaves_a_gap():
    chart = weight_scores(scored([1.0, 1.0], [0.1, math.nan], [0.0, math.nan]), "fc1", LOOK)
    (removed,) = [trace for trace in chart.figure.data if trace.name == "removed"]
    assert removed.y == (0.1, None)


def test_scores_have_other_colours_in_the_dark():
    def colours(look):
        chart = weight_scores(scored([1.0], [0.1], [0.5]), "fc1", look)
        return [trace.line.color for trace in chart.figure.data if trace.name]

    assert len(set(colours(LOOK))) == 3 and not set(colours(LOOK)) & set(colours(Look("dark", STYLES)))


def test_a_layer_without_scores_is_said():
    with pytest.raises(Missing, match="fc1"):
        weight_scores(layers(replacing("r", 1)), "fc1", LOOK)
