"""Criteria as data: differences and their intervals, what is told apart in words, overlaps of removals."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bench.figures import (
    Missing,
    aliases,
    beside_criteria,
    coincidences,
    criteria,
    few_at_the_end,
    overlap_in_time,
    overlap_map,
    same_results,
    settings_map,
    verdicts,
)
from bench.figures.criteria.paired import differences
from tests.figure_data import LOOK, identifier, runs

#: The 97.5th percentile of Student's t for two degrees of freedom.
T2 = 4.302652729911275


def configuration(criterion, accuracy, sparsity=0.9, **more):
    label = f"ssvi sparsity={sparsity:g} criterion={criterion}"
    return {"criterion": criterion, "accuracy": accuracy, "sparsity": sparsity, "config_label": label, **more}


REFERENCE = configuration("abs_mean", [0.90, 0.91, 0.92])
#: Differences of exactly 2 points less a thousandth, give or take that: told apart, and well.
BETTER = configuration("snr", [0.919, 0.93, 0.941])
NOISY = configuration("snr_exp", [0.88, 0.93, 0.91])
CONTROL = {
    "method": "static_vi", "criterion": None, "sparsity": 0.9, "accuracy": [0.5, 0.51, 0.52],
    "config_label": "static_vi sparsity=0.9",
}  # fmt: skip
DENSE = {**CONTROL, "method": "dense_vi", "sparsity": 0.0, "config_label": "dense_vi"}


def to_first(table):
    """Everything is compared with the first configuration."""
    return {config_id: identifier(0) for config_id in table["config_id"].unique()}


def draw(*configurations, score="accuracy", **more):
    table = runs(*configurations)
    return criteria(table, score, to_first(table), LOOK, **more)


def marks(chart):
    """The marks by name."""
    return {trace.name: trace for trace in chart.figure.data if trace.name}


# -- differences ------------------------------------------------------------------------------


def test_a_mark_is_the_mean_paired_difference_with_its_interval():
    chart = draw(REFERENCE, BETTER, NOISY)
    snr, noisy = marks(chart)["snr"], marks(chart)["snr_exp"]
    assert snr.x == pytest.approx((2.0,)) and noisy.x == pytest.approx((-1 / 3,))
    # differences of 1.9, 2.0 and 2.1 points, and of -2, 2 and -1
    assert snr.error_x.array == pytest.approx((T2 * 0.1 / math.sqrt(3),))
    assert noisy.error_x.array == pytest.approx((T2 * math.sqrt(13 / 3) / math.sqrt(3),))
    assert chart.figure.layout.xaxis.title.text == "difference in accuracy (points) → better"


def test_filled_marks_are_those_that_holm_leaves():
    found = marks(draw(REFERENCE, BETTER, NOISY))
    assert found["snr"].marker.symbol == "circle" and found["snr_exp"].marker.symbol == "pentagon-open"
    row = draw(REFERENCE, BETTER, NOISY).data.set_index("name").loc["snr"]
    # t = 2.0 / (0.1 / sqrt 3) = 34.6 on two degrees of freedom; two comparisons
    assert row["p"] == pytest.approx(1 / 1200 * (1 - 0.00125), rel=1e-3)
    assert row["p_holm"] == pytest.approx(2 * row["p"])


def test_criteria_keep_order_and_colour_whatever_is_shown():
    both = draw(REFERENCE, NOISY, BETTER)
    alone = draw(REFERENCE, NOISY)
    assert both.figure.layout.yaxis.ticktext == ("snr", "snr_exp")
    colour = marks(both)["snr_exp"].marker.color
    assert colour == marks(alone)["snr_exp"].marker.color == LOOK.criteria["snr_exp"]["hue"]
    assert LOOK.criterion.ordered(["zeta", "snr", "abs_mean", "alpha", "snr"]) == [
        "abs_mean",
        "snr",
        "alpha",
        "zeta",
    ]


def test_a_panel_a_sparsity_and_recipe_with_one_range():
    second = [configuration("abs_mean", [0.5, 0.5, 0.5], 0.98), configuration("snr", [0.4, 0.5, 0.6], 0.98)]
    table = runs(REFERENCE, BETTER, *second)
    references = {identifier(n): identifier(n - n % 2) for n in range(4)}
    chart = criteria(table, "accuracy", references, LOOK)
    texts = [note.text for note in chart.figure.layout.annotations]
    assert texts[0].startswith("<b>default · sparsity 0.9</b><br>0 is abs_mean: 91.00 ± ")
    assert texts[1].startswith("<b>default · sparsity 0.98</b><br>0 is abs_mean: 50.00 ± 0.00 %")
    assert chart.figure.layout.xaxis.range == chart.figure.layout.xaxis2.range
    low, high = chart.figure.layout.xaxis.range
    half = T2 * 10 / math.sqrt(3)  # of -10, 0 and 10 points
    assert low < -half and high > half
    assert chart.figure.layout.xaxis2.title.text and not chart.figure.layout.xaxis.title.text


def test_two_references_of_one_recipe_and_sparsity_are_told_apart_by_their_settings():
    other = [{**one, "config_label": f"{one['config_label']} budget=flops"} for one in (REFERENCE, BETTER)]
    table = runs(REFERENCE, BETTER, *other)
    found = differences(table, "accuracy", {identifier(1): identifier(0), identifier(3): identifier(2)})
    assert list(found["group"]) == [
        "default · sparsity 0.9 · by abs_mean",
        "default · sparsity 0.9 · by abs_mean · equal FLOPs",
    ]


def test_a_control_stands_apart_and_does_not_set_the_range():
    chart = draw(REFERENCE, BETTER, NOISY, CONTROL, DENSE)
    assert chart.figure.layout.yaxis.ticktext == ("snr", "snr_exp", "static_vi")  # dense is no control here
    assert chart.figure.layout.xaxis.range[0] > -10
    assert "static_vi" not in marks(chart)
    (text,) = [note.text for note in chart.figure.layout.annotations if "◀" in note.text]
    assert text == "◀ −40.00 ± 0.00 points"


def test_another_method_with_a_criterion_of_its_own_is_not_left_out():
    """Such as a method of another package that is derived from ssvi, whatever its criterion."""
    own = {**CONTROL, "method": "ssvi_own", "criterion": "own"}
    same = {**own, "criterion": "abs_mean", "config_label": "ssvi_own abs_mean"}
    chart = draw(REFERENCE, BETTER, own, same)
    assert chart.figure.layout.yaxis.ticktext == ("snr", "ssvi_own · own", "ssvi_own · abs_mean")
    told = verdicts(chart.data, "accuracy", LOOK)
    assert any(": ssvi_own, with own, " in line for line in told)


def test_what_has_no_pair_is_said_not_drawn_as_zero():
    chart = draw(REFERENCE, BETTER, {**NOISY, "status": "failed", "accuracy": [math.nan] * 3})
    assert "snr_exp" not in marks(chart) and chart.figure.layout.yaxis.ticktext == ("snr", "snr_exp")
    assert "no finished pair of runs" in [note.text for note in chart.figure.layout.annotations]


def test_single_seeds_on_request():
    chart = draw(REFERENCE, BETTER, single_seeds=True)
    (seeds,) = [trace for trace in chart.figure.data if trace.marker.symbol == "line-ns"]
    assert seeds.x == pytest.approx((1.9, 2.0, 2.1))
    assert not [trace for trace in draw(REFERENCE, BETTER).figure.data if trace.marker.symbol == "line-ns"]


def test_a_criterion_that_is_not_run_is_named_beside_the_one_it_equals():
    chart = draw(REFERENCE, BETTER, aliases={"snr_abs": "snr"})
    assert chart.figure.layout.yaxis.ticktext == ("snr = snr_abs",)


def test_labels_are_text_not_markup():
    evil = configuration("<b>x</b>", [0.9, 0.9, 0.9])
    assert draw(REFERENCE, evil).figure.layout.yaxis.ticktext == ("&lt;b&gt;x&lt;/b&gt;",)


@pytest.mark.parametrize(
    ("configurations", "words"),
    [
        ([REFERENCE], "criteria_ablation"),
        ([REFERENCE, CONTROL], "criteria_ablation"),  # a control alone compares no criteria
        ([REFERENCE, configuration("snr", [0.9] * 3, sparsity=0.5)], "criteria_ablation"),
        ([REFERENCE, {**BETTER, "status": "running"}], "unfinished"),
    ],
)
def test_nothing_to_compare_is_said(configurations, words):
    with pytest.raises(Missing, match=words):
        draw(*configurations)


def test_a_single_seed_has_no_interval_and_nothing_is_told_apart():
    chart = draw(*({**one, "accuracy": one["accuracy"][:1]} for one in (REFERENCE, BETTER)))
    assert marks(chart)["snr"].error_x.array == (0,) and marks(chart)["snr"].marker.symbol == "circle-open"
    (sentence,) = verdicts(chart.data, "accuracy", LOOK)
    assert "single seed" in sentence


# -- words ------------------------------------------------------------------------------------


def test_words_name_what_is_told_apart_and_which_way():
    table = runs(REFERENCE, BETTER, NOISY, CONTROL)
    sentences = verdicts(differences(table, "accuracy", to_first(table)), "accuracy", LOOK)
    assert sentences[0].startswith(
        "default · sparsity 0.9: in accuracy, snr is better than abs_mean (+2.00 ± 0.25 points, p = "
    )
    assert "; snr_exp is undecided (these seeds show differences from " in sentences[0]
    assert sentences[0].endswith(" points on) (3 seeds).")
    assert sentences[1].endswith(
        "static_vi, without a criterion, is worse than abs_mean (−40.00 ± 0.00 points, p = 0)."
    )


def test_words_name_what_is_equivalent():
    """Its differences are 0.01, 0 and -0.01 points; the margin of accuracy is half a point."""
    near = configuration(
        "mean_abs", [value + 1e-4 * (number - 1) for number, value in enumerate(REFERENCE["accuracy"])]
    )
    table = runs(REFERENCE, near)
    found = differences(table, "accuracy", to_first(table))
    (sentence,) = verdicts(found, "accuracy", LOOK)
    assert "compared with abs_mean in accuracy, mean_abs is equivalent to it within ± 0.5 points" in sentence
    chart = draw(REFERENCE, near)
    assert marks(chart)["mean_abs"].marker.symbol != "circle-open" and "1 is equivalent" in chart.alt


def test_lower_is_better_for_nll():
    table = runs(*({**one, "nll": one["accuracy"]} for one in (REFERENCE, BETTER)))
    (sentence,) = verdicts(differences(table, "nll", to_first(table)), "nll", LOOK)
    assert "snr is worse than abs_mean (+0.020 ± 0.002 nats" in sentence


def test_words_say_when_nothing_is_told_apart_and_what_holm_took_back():
    close = configuration("mean_abs", [0.904, 0.916, 0.925])  # 0.4, 0.6 and 0.5 points: p = 0.013
    table = runs(REFERENCE, close, NOISY, *(configuration(f"z{n}", NOISY["accuracy"]) for n in range(4)))
    (sentence,) = verdicts(differences(table, "accuracy", to_first(table)), "accuracy", LOOK)
    assert (
        "compared with abs_mean in accuracy, mean_abs, snr_exp, z0, z1, z2 and z3 are undecided" in sentence
    )
    assert "alone, 1 would differ, but not among 6 comparisons) (3 seeds)." in sentence


def test_criteria_that_gave_the_same_model_are_said_to():
    a, b = ({**one, "nll": nll} for one, nll in ((REFERENCE, [0.1, 0.2, 0.3]), (BETTER, [0.1, 0.2, 0.4])))
    table = runs(a, b)
    (sentence,) = same_results(table, differences(table, "accuracy", to_first(table)), LOOK)
    assert sentence.startswith("abs_mean and snr gave the same NLL") and "under 2 of 3 seeds" in sentence
    table = runs(a, {**b, "nll": [0.5, 0.6, 0.7]})
    assert same_results(table, differences(table, "accuracy", to_first(table)), LOOK) == []


def test_what_a_plan_leaves_out_is_said_once():
    kept = {"run_id": identifier(1), "labels": {"criterion": "snr"}, "omitted": None, "alias_of": None}
    left = {
        "labels": {"criterion": "snr_abs"},
        "omitted": "ranks as snr; see ssvi",
        "alias_of": identifier(1),
    }
    dense = {"labels": {"criterion": "snr"}, "omitted": "sparsity 0 is dense VI", "alias_of": identifier(1)}
    (alias,) = aliases([kept, left, left, dense, {"labels": None, "omitted": "no", "alias_of": None}])
    assert (alias.name, alias.of, alias.why) == ("snr_abs", "snr", "ranks as snr")
    assert alias.words.startswith("snr_abs removes the same weights as snr, and is not run on its own")


# -- overlaps ---------------------------------------------------------------------------------


def pairs(*rows):
    """Rows of ``criteria_pairs``: run, step, layer, the two criteria, iou."""
    columns = ["run_id", "step", "layer", "criterion_a", "criterion_b", "iou"]
    frame = pd.DataFrame(rows, columns=columns)
    frame = frame.assign(stage="train", epoch=frame["step"], rank_correlation=0.5, criterion_used="abs_mean")
    names = ["run_id", "stage", "layer", "criterion_a", "criterion_b", "criterion_used"]
    return frame.astype(dict.fromkeys(names, "category")).astype({"step": "Int64", "epoch": "Int64"})


PAIRS = pairs(
    ("r0", 1, "fc1", "abs_mean", "snr", 1.0), ("r0", 1, "fc2", "abs_mean", "snr", 0.5),
    ("r0", 9, "fc1", "abs_mean", "snr", 0.4), ("r0", 9, "fc2", "abs_mean", "snr", 0.3),
    ("r1", 1, "fc1", "abs_mean", "snr", 0.8), ("r1", 1, "fc2", "abs_mean", "snr", 0.7),
    ("r1", 9, "fc1", "abs_mean", "snr", 0.6), ("r1", 9, "fc2", "abs_mean", "snr", 0.5),
)  # fmt: skip


def test_the_map_is_symmetric_and_a_mean_over_layers_updates_and_runs():
    (heat,) = overlap_map(PAIRS, LOOK).figure.data
    assert [list(row) for row in heat.z] == [[None, pytest.approx(0.6)], [pytest.approx(0.6), None]]
    assert (heat.zmin, heat.zmax) == (0, 1) and heat.text[0][1] == "0.60"
    chart = overlap_map(PAIRS, LOOK)
    # means of 0.55 and 0.65 over two runs: half width 12.706 * 0.0707 / sqrt 2
    assert chart.data["iou_half_width"].iloc[0] == pytest.approx(12.706 * 0.05, rel=1e-4)
    assert chart.figure.layout.yaxis.ticktext == ("<b>abs_mean</b><br>(used)", "snr")


@pytest.mark.parametrize(
    ("layer", "moment", "iou"), [("fc1", "all", 0.7), (None, "first", 0.75), (None, "last", 0.45)]
)
def test_the_map_of_a_layer_or_a_moment(layer, moment, iou):
    (heat,) = overlap_map(PAIRS, LOOK, layer, moment).figure.data
    assert heat.z[0][1] == pytest.approx(iou)


def test_what_is_less_than_one_is_never_written_as_one():
    (heat,) = overlap_map(pairs(("r0", 1, "fc1", "abs_mean", "snr", 0.9999)), LOOK).figure.data
    assert heat.text[0][1] == "> 0.99"


def test_overlap_through_training_is_a_line_a_criterion():
    more = pairs(("r0", 1, "fc1", "mean_abs", "snr", 0.2), ("r0", 9, "fc1", "mean_abs", "snr", 0.1))
    chart = overlap_in_time(pd.concat([PAIRS.astype(object), more.astype(object)]), "snr", LOOK)
    first, second = chart.figure.data  # two seeds have no band
    assert (first.name, second.name) == ("abs_mean", "mean_abs")
    assert first.x == (1, 9) and first.y == pytest.approx((0.75, 0.45)) and second.y == (0.2, 0.1)
    assert first.line.color == LOOK.criteria["abs_mean"]["hue"] and first.line.dash != second.line.dash
    with pytest.raises(Missing, match="mean_exp"):
        overlap_in_time(PAIRS, "mean_exp", LOOK)


def test_three_seeds_have_a_band():
    third = PAIRS[PAIRS["run_id"] == "r1"].astype(object).assign(run_id="r2")
    chart = overlap_in_time(pd.concat([PAIRS.astype(object), third]), "snr", LOOK, single_seeds=True)
    band, *thin, line = chart.figure.data
    assert band.fill == "toself" and band.mode == "lines" and len(thin) == 3
    # 0.75 each at the first update
    assert band.y[0] == pytest.approx(0.75) and line.y[0] == pytest.approx(0.75)


def test_no_overlaps_are_said_to_be_missing():
    with pytest.raises(Missing, match="criteria_ablation"):
        overlap_map(PAIRS.head(0), LOOK)
    with pytest.raises(Missing, match="conv9"):
        overlap_map(PAIRS, LOOK, "conv9")
    assert coincidences(PAIRS.head(0), LOOK) == []


def test_degrees_of_coincidence_in_words():
    found = pairs(
        ("r0", 1, "fc1", "mean_abs", "mean_exp", 1.0), ("r1", 1, "fc1", "mean_abs", "mean_exp", 1.0),
        ("r0", 1, "fc1", "abs_mean", "mean_abs", 0.9999), ("r1", 1, "fc1", "abs_mean", "mean_abs", 0.9957),
        ("r0", 1, "fc1", "abs_mean", "snr", 1.0), ("r1", 1, "fc1", "abs_mean", "snr", 0.888),
        ("r0", 1, "fc1", "snr", "mean_abs", 0.5),
        ("r0", 1, "fc1", "abs_mean", "snr_exp", 0.02), ("r0", 1, "fc1", "snr", "snr_exp", 0.1),
    )  # fmt: skip
    same, nearly, mostly, hardly = coincidences(found, LOOK)
    assert same == "The same weights, at every recorded update (1 layer, 2 seeds): mean_abs and mean_exp."
    assert "abs_mean and mean_abs (IoU 0.995 or more)" in nearly
    assert mostly == "Mostly the same weights: abs_mean and snr (IoU 0.94 on average, down to 0.88)."
    assert hardly.startswith("Hardly any weights in common: snr_exp and each of the others (IoU 0.06 on")
    assert hardly.endswith("up to 0.10).")


# -- criteria beside other settings -----------------------------------------------------------


def test_a_cell_is_the_mean_at_equal_other_settings_and_blue_is_better_than_its_column():
    table = runs(
        configuration("abs_mean", [0.90, 0.92]),
        configuration("snr", [0.94, 0.96]),
        configuration("abs_mean", [0.70, 0.72], 0.98),
        configuration("snr", [0.60, 0.62], 0.98),
        {**configuration("snr", [0.1, 0.2], 0.5), "config_label": "ssvi sparsity=0.5 criterion=snr M=1"},
        CONTROL,
    )
    assert beside_criteria(table) == ["sparsity"]
    chart = settings_map(table, "accuracy", "sparsity", LOOK)
    (cells,) = chart.figure.data
    names, heads = chart.figure.layout.yaxis.ticktext, chart.figure.layout.xaxis.ticktext
    place = {name: number for number, name in enumerate(names)}
    assert heads == ("90 %", "98 %") and set(names) == {"abs_mean", "snr"}
    assert tuple(cells.text[place["snr"]]) == ("95.00", "61.00")
    assert cells.z[place["snr"]] == pytest.approx((0.02, -0.05)) and cells.zmax == pytest.approx(0.05)
    assert "the best is snr at 90 %, 95.00" in chart.alt
    lower = settings_map(table.assign(nll=table["accuracy"]), "nll", "sparsity", LOOK)
    assert lower.figure.data[0].z[place["snr"]] == pytest.approx((-0.02, 0.05))


def test_criteria_without_lambda_have_one_cell_and_no_map_is_made_of_one_criterion():
    labels = ["mean_exp lam=1", "mean_exp lam=10", "snr lam=1"]
    table = runs(
        *({**configuration(name.split()[0], [0.9, 0.91]), "config_label": f"ssvi criterion={name}"}
          for name in labels)
    )  # fmt: skip
    assert beside_criteria(table) == ["lam"]
    chart = settings_map(table, "accuracy", "lam", LOOK)
    assert chart.figure.layout.xaxis.ticktext == ("λ 1", "λ 10")
    blank = chart.figure.data[0].text[chart.figure.layout.yaxis.ticktext.index("snr")]
    assert tuple(blank) == ("90.50", "")
    alone = table[table["criterion"] == "mean_exp"]
    assert beside_criteria(alone) == []
    with pytest.raises(Missing, match="two values of λ"):
        settings_map(alone, "accuracy", "lam", LOOK)


def test_how_few_weights_the_last_updates_move_is_said():
    rows = [
        {"run_id": identifier(seed), "stage": "train", "step": step, "layer": layer, "slots": 1000,
         "removed": removed}
        for seed in (0, 1)
        for step, removed in ((10, 300), (20, 50), (30, 1), (40, 0))
        for layer in ("fc1", "fc2")
    ]  # fmt: skip
    layers = pd.DataFrame(rows).astype({"run_id": "category", "stage": "category", "layer": "category"})
    said = few_at_the_end(layers)
    assert "removes 600 weights (30 % of the slots), the last 2 weights (0.1 % of the slots)" in said
    assert few_at_the_end(layers[layers["step"] == 10]) == few_at_the_end(layers.head(0)) == ""
