"""The trade-off: panels, lines and names that can be read, fronts with their uncertainty, differences."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
import pytest

from bench.figures import Chart, axes, tradeoff
from bench.figures.parts.axes import ends, whiskers
from bench.figures.parts.chart import log_ticks
from bench.figures.parts.labels import Area, Label, beside
from bench.statistics.front import front_shares
from tests.figure_data import LOOK, identifier, runs

COST = "compression_vs_dense_vi"


def configuration(method="ssvi", at=10.0, accuracy=(0.95, 0.96, 0.97), **more):
    return {"method": method, COST: at, "accuracy": list(accuracy), "nll": 0.3, **more}


def marks(chart):
    """Traces of configurations."""
    return [trace for trace in chart.figure.data if trace.customdata is not None]


def drawn(*configurations, score="accuracy", **more):
    return tradeoff(runs(*configurations), COST, score, LOOK, **more)


def test_marks_at_one_place_are_moved_apart_and_their_tooltips_are_not():
    methods = ("rigl", "ssvi", "dense_vi")
    chart = drawn(*(configuration(method) for method in methods), configuration(at=40.0, sparsity=0.99))
    places = {trace.name: trace.x for trace in marks(chart)}
    near = [places["SSVI"][0], places["Dense VI"][0], places["RigL"][0]]
    assert near == sorted(near) and len(set(near)) == 3 and near[1] == pytest.approx(10.0)
    assert max(near) < 12 and places["SSVI"][1] == 40.0  # alone
    assert [trace.customdata[0][3] for trace in marks(chart)] == ["10"] * 3


def test_each_budget_and_recipe_has_a_panel_with_the_same_axes():
    labels = ("ssvi budget=flops sparsity=0.9", "ssvi budget=epochs sparsity=0.9", "rigl budget=epochs")
    chart = drawn(*(configuration(label.split()[0], config_label=label) for label in labels))
    assert list(chart.data["facet"]) == ["equal FLOPs", "equal epochs", "equal epochs"]
    layout = chart.figure.layout
    assert layout.xaxis.range == layout.xaxis2.range and layout.yaxis.range == layout.yaxis2.range
    assert [(trace.name, trace.yaxis) for trace in marks(chart)] == [
        ("SSVI", "y"), ("RigL", "y"), ("SSVI", "y2"),
    ]  # fmt: skip
    told = [note.text for note in layout.annotations]
    assert "<b>equal epochs</b>" in told and "<b>equal FLOPs</b>" in told
    assert "budget" not in drawn(configuration()).how


def test_lines_of_several_criteria_have_their_colours_and_names():
    chart = drawn(
        *(
            configuration(at=at, config_label=f"ssvi sparsity={at / 100} criterion={name}")
            for name in ("snr", "abs_mean")
            for at in (10.0, 20.0)
        )
    )
    colours = [trace.marker.color for trace in marks(chart)]
    assert colours == [LOOK.criterion.colour("snr"), LOOK.criterion.colour("abs_mean")]
    assert {"SSVI · by snr", "SSVI · by abs_mean"} <= {note.text for note in chart.figure.layout.annotations}
    one = drawn(configuration(config_label="ssvi sparsity=0.9 criterion=snr"))
    assert marks(one)[0].marker.color == LOOK.colour("ssvi")
    assert "SSVI" in {note.text for note in one.figure.layout.annotations}


def test_whiskers_end_where_values_do():
    (mark,) = marks(drawn(configuration(accuracy=(0.98, 1.0, 0.99))))
    assert mark.y[0] + mark.error_y.array[0] == pytest.approx(100.0)
    assert mark.error_y.arrayminus[0] > mark.error_y.array[0]


@pytest.mark.parametrize(
    ("column", "mean", "half", "shown"),
    [
        ("accuracy", 0.99, 0.02, (97.0, 100.0)),
        ("ece", 0.01, 0.02, (0.0, 3.0)),
        ("nll", 0.1, 0.2, (0.0, 0.3)),
        ("posterior_gain_nll", 0.1, 0.2, (-0.1, 0.3)),
        ("accuracy", 0.9, math.nan, (90.0, 90.0)),
    ],
)
def test_whiskers_of_every_chart_end_where_values_do(column, mean, half, shown):
    found = ends(pd.Series([mean]), pd.Series([half]), axes()[column])
    assert tuple(float(end.iloc[0]) for end in found) == pytest.approx(shown)
    drawn = whiskers(pd.Series([mean]), pd.Series([half]), axes()[column])
    middle = mean * axes()[column].factor
    assert (middle - drawn["arrayminus"][0], middle + drawn["array"][0]) == pytest.approx(shown)


def test_titles_of_axes_have_lines_that_a_phone_has_room_for():
    for title in (
        "NLL (nats) ← better",
        "w " * 100,
        "NLL less that of SSVI · 95 % (nats) ← better",
        "long" * 30,
    ):
        figure = go.Figure().update_xaxes(title_text=title)
        told = Chart("", figure, pd.DataFrame(), "", "").figure.layout.xaxis.title.text
        assert told.replace("<br>", " ").replace("\u00a0", " ").strip() == title.strip()
        assert " " not in title.strip() or max(map(len, told.split("<br>"))) <= 42
        assert not any(line.startswith("%") for line in told.split("<br>"))


def test_one_mark_has_ticks_beside_it():
    layout = drawn(configuration(at=13.0)).figure.layout
    low, high = (10**end for end in layout.xaxis.range)
    inside = [tick for tick in layout.xaxis.tickvals if low <= tick <= high]
    assert len(inside) >= 3 and min(inside) < 13 < max(inside)


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (11, 15.5, ["11", "12", "13", "14", "15"]),
        (0.0101, 0.0109, ["0.0102", "0.0104", "0.0106", "0.0108"]),
        (30e3, 90e3, ["40k", "60k", "80k"]),
        (0.04, 1.3, ["0.05", "0.1", "0.2", "0.5", "1"]),
        (0.5, 5000, ["1", "10", "100", "1k"]),
    ],
)
def test_log_axes_of_all_lengths_have_ticks_that_can_be_read(low, high, texts):
    assert log_ticks(low, high)["ticktext"] == texts


def test_a_front_is_as_sure_as_seeds_agree():
    better = configuration(accuracy=(0.95, 0.96, 0.97))
    worse = configuration("rigl", accuracy=(0.90, 0.91, 0.92))
    rival = configuration("dense_vi", accuracy=(0.97, 0.96, 0.93))  # its mean is a little worse
    shares = front_shares(runs(better, worse, rival), COST, "accuracy", "higher", saves=True)
    assert shares[identifier(1)] == 0 and 0.5 < shares[identifier(0)] < 1
    # equal means, as of three draws of seed 1, have both on the front
    assert shares[identifier(0)] + shares[identifier(2)] > 1
    chart = drawn(better, worse, rival)
    assert chart.data["front_share"].tolist() == shares.tolist()
    alone = front_shares(runs(configuration(accuracy=(0.9,))), COST, "accuracy", "higher")
    assert math.isnan(alone[identifier(0)])


def test_rings_are_around_what_is_on_the_front_now_and_then():
    chart = drawn(
        configuration(), configuration("dense_vi", 1.0, (0.97, 0.98, 0.99)), configuration("rigl", 5.0)
    )
    (rings,) = [trace for trace in chart.figure.data if trace.name.startswith("on it")]
    kept = chart.data[chart.data["front_share"] >= 0.05]
    assert len(rings.x) == len(kept) == 2
    assert rings.y == pytest.approx((100 * kept["accuracy_mean"]).tolist())


def test_differences_are_paired_and_from_the_reference_of_each():
    table = runs(
        configuration("dense_vi", 1.0, (0.97, 0.98, 0.99)), configuration(accuracy=(0.96, 0.96, 0.96)),
        configuration("rigl", 5.0, (0.5, 0.5, 0.5)),
    )  # fmt: skip
    chart = tradeoff(table, COST, "accuracy", LOOK, {identifier(1): identifier(0)}, {identifier(1)})
    (mark,) = marks(chart)
    assert mark.y == pytest.approx((-2.0,)) and mark.name == "SSVI"
    assert mark.customdata[0][4] == "<br>less Dense VI"
    (rule,) = chart.figure.layout.shapes
    assert rule.y0 == rule.y1 == 0 and chart.figure.layout.yaxis.range[1] > 0
    assert chart.figure.layout.yaxis.title.text == "accuracy less that of the reference (points) ↑ better"
    assert "front" not in chart.data


def boxes(notes, area, width):
    """Left, right, lower and upper end of each name in pixels."""
    for note in notes:
        x, y = area.pixels(note["x"], note["y"], width)
        ends = sorted(
            (
                x + note["ax"],
                x + note["ax"] + (1 if note["xanchor"] == "left" else -1) * 6 * len(note["text"]),
            )
        )
        yield (*ends, y - note["ay"] - 7, y - note["ay"] + 7)


def overlap(one, other):
    return min(one[1], other[1]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[2], other[2])


@pytest.mark.parametrize("width", [850, 265])
def test_names_cover_neither_marks_nor_each_other(width):
    area = Area(0.0, 1.0, 0.0, 1.0, 410)
    places = [(0.05, 0.5), (0.07, 0.5), (0.09, 0.52), (0.9, 0.5), (0.92, 0.45), (0.97, 0.5)]
    labels = [Label(f"Method {number}", x, y, "#000000") for number, (x, y) in enumerate(places)]
    taken = [(x, y - 0.1, y + 0.1) for x, y in places]
    found = list(boxes(beside(labels, taken, area, LOOK), area, width))
    for number, box in enumerate(found):
        assert box[0] > -5 and box[1] < width + 5 and box[2] > 0 and box[3] < 410
        assert not any(overlap(box, other) for other in found[:number])
        for x, low, high in taken:
            across, bottom = area.pixels(x, low, width)
            assert not overlap(box, (across - 3, across + 3, bottom, area.pixels(x, high, width)[1]))


def test_the_name_of_the_claim_covers_no_mark():
    near = configuration(at=10.5, accuracy=(0.925, 0.93, 0.935))
    chart = drawn(configuration("dense_vi", 1.0, (0.95, 0.96, 0.97)), near)
    (claim,) = [note for note in chart.figure.layout.annotations if note.text.startswith("claimed")]
    assert claim.bgcolor is None and (claim.xanchor == "right" or abs(claim.ay) > 10)
