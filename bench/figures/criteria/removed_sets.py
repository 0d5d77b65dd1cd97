"""Compare the sets of weights that criteria would remove at the same update: overlaps and their course."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.bands import FEWEST, over_seeds
from bench.figures.parts.chart import Chart, Look, Missing, escaped, translucent

#: Moments that the heat map can show, and their names.
MOMENTS = {"all": "all updates", "first": "the first update", "last": "the last update"}
#: Criteria remove "nearly the same weights" from this least IoU on, "mostly the same" from this mean IoU on,
#: and "hardly any in common" up to this mean IoU.
_NEARLY, _MOSTLY, _HARDLY = 0.99, 0.9, 0.1
_HOW = (
    "**IoU**: of the sets of weights that two criteria would remove at the same update of the same run, what "
    "is in both over what is in either; 1: the same weights, 0: none in common. Both sets have the size of "
    "what the run's own criterion removes. The run itself follows that criterion alone: what another one's "
    "own training would lead to isn't in here. Late updates remove few weights, a small layer one or none: "
    "IoU then takes few values, and jumps."
)


def overlap_map(
    pairs: pd.DataFrame, look: Look | None = None, layer: str | None = None, moment: str = "all"
) -> Chart:
    """Draw a heat map of the IoU of the sets that each two criteria would remove.

    Parameters
    ----------
    pairs
        Rows of the table ``criteria_pairs`` of the runs of one configuration.
    look
        Colours and names; None for those that the table carries.
    layer
        Name of a layer; None for the mean over layers with equal weights.
    moment
        One of ``MOMENTS``.

    Raises
    ------
    Missing
        If nothing was recorded.
    """
    look = look or Look.of(pairs)
    rows = _of_layer(pairs, layer)
    if moment != "all":
        steps = rows.groupby("run_id", observed=True)["step"]
        rows = rows[rows["step"] == steps.transform("min" if moment == "first" else "max")]
    keys = ["run_id", "criterion_a", "criterion_b"]
    runs = rows.groupby(keys, observed=True)[["iou", "rank_correlation"]].mean().reset_index()
    found = over_seeds(runs, keys[1:], ["iou", "rank_correlation"])
    known = look.criterion
    order = known.ordered([*found["criterion_a"].astype(str), *found["criterion_b"].astype(str)])
    texts, cells, hovers = _square(found, order, known)
    used = _used(pairs)
    ticks = [f"<b>{known.label(n)}</b><br>(used)" if n == used else known.label(n) for n in order]
    figure = look.figure(height=150 + 52 * len(order), legend=False)
    figure.add_trace(
        go.Heatmap(
            x=list(range(len(order))), y=list(range(len(order))), z=cells, text=texts, customdata=hovers,
            texttemplate="%{text}", textfont={"size": 14}, colorscale="Cividis", zmin=0, zmax=1,
            xgap=2, ygap=2,
            hovertemplate="%{customdata}<extra></extra>", hoverongaps=False,
            showscale=False,
        )
    )  # fmt: skip
    places = list(range(len(order)))
    figure.update_xaxes(tickvals=places, ticktext=[tick.replace("_", "_<br>") for tick in ticks], side="top")
    figure.update_xaxes(showgrid=False, showline=False, ticks="", tickangle=0)
    figure.update_yaxes(tickvals=places, ticktext=ticks, autorange="reversed", showgrid=False, ticks="")
    figure.update_yaxes(showline=False)
    figure.update_layout(margin={"t": 75, "b": 10})
    where = f"layer {layer}" if layer else "all layers"
    lowest = found.sort_values("iou_mean", kind="stable").iloc[0]
    return Chart(
        title="Would the criteria remove the same weights?",
        figure=figure,
        data=found,
        how=(
            f"Light cells are near 1, dark ones near 0. Mean IoU over {MOMENTS[moment]} "
            f"recorded{' and layers' if layer is None else ''} of a run, then over runs; the 95 % "
            f"t-interval over seeds and n in the tooltip and the data.\n\n{_how(look)} **Rank correlation** "
            "(tooltip): Spearman's, of the scores of the layer's active weights."
        ),
        alt=(
            f"IoU of removed sets of {len(order)} criteria in {where}; the lowest is "
            f"{lowest['iou_mean']:.2f}, of {_pair(lowest, known)}."
        ),
    )


def overlap_in_time(
    pairs: pd.DataFrame,
    against: str,
    look: Look | None = None,
    layer: str | None = None,
    single_seeds: bool = False,
) -> Chart:
    """Draw the IoU of the sets that one criterion and each other would remove, over training.

    Parameters
    ----------
    pairs, look, layer
        As for ``overlap_map``.
    against
        The criterion with which all others are compared.
    single_seeds
        Whether to draw a thin line for each run too.

    Raises
    ------
    Missing
        If nothing was recorded.
    """
    look = look or Look.of(pairs)
    rows = _of_layer(pairs, layer)
    a, b = rows["criterion_a"].astype(str), rows["criterion_b"].astype(str)
    rows = rows.assign(criterion=b.where(a == against, a))[(a == against) | (b == against)]
    if rows.empty:
        raise Missing(f"No overlap of {look.criterion.name(against)} with other criteria was recorded here.")
    keys = ["criterion", "stage", "step"]
    runs = rows.groupby(["run_id", *keys], observed=True)[["epoch", "iou"]].mean().reset_index()
    found = over_seeds(runs, keys, ["iou"])
    epochs = runs.groupby(keys, observed=True)["epoch"].mean().rename("epoch").reset_index()
    found = found.merge(epochs, on=keys).sort_values(keys).reset_index(drop=True)
    figure = look.figure(height=430)
    known = look.criterion
    order, reference = known.ordered(found["criterion"]), known.name(against)
    for name in order:
        colour = known.colour(name)
        mine = found[found["criterion"] == name].astype({"step": float, "epoch": float})
        banded = mine[mine["iou_n"] >= FEWEST]
        if len(banded) > 1:
            figure.add_trace(_band(banded, colour, name))
        if single_seeds:
            for _, run in runs[runs["criterion"] == name].groupby("run_id", observed=True):
                figure.add_trace(_thin(run.sort_values("step"), colour, name))
        figure.add_trace(
            go.Scatter(
                x=mine["step"].tolist(), y=mine["iou_mean"].tolist(), mode="lines+markers",
                name=known.label(name), legendgroup=name,
                line={"color": colour, "dash": known.dash(name), "width": 2},
                marker={"symbol": known.marker(name), "size": 8, "color": colour},
                customdata=[
                    [f"{epoch:.0f}", "" if math.isnan(half) else f" ± {half:.3f}", int(n)]
                    for epoch, half, n in zip(
                        mine["epoch"], mine["iou_half_width"], mine["iou_n"], strict=True
                    )
                ],
                hovertemplate=(
                    f"<b>{escaped(reference)} and {known.label(name)}</b><br>IoU %{{y:.3f}}%{{customdata[1]}}"
                    "<br>step %{x:,} (epoch %{customdata[0]}), n = %{customdata[2]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    figure.update_yaxes(title_text=f"IoU with {escaped(reference)}", range=[-0.03, 1.03])
    figure.update_xaxes(title_text="training step", tickformat=",", rangemode="tozero")
    where = "of the chosen layer" if layer else "the mean over all layers, each counting alike"
    ends = (
        found.sort_values("step")
        .groupby("criterion")
        .agg(first=("iou_mean", "first"), last=("iou_mean", "last"))
    )
    words = [
        f"{known.name(name)} from {ends['first'][name]:.2f} to {ends['last'][name]:.2f}" for name in order
    ]
    return Chart(
        title=f"Does the agreement with {reference} change in training?",
        figure=figure,
        data=found,
        how=(
            f"A mark is an update that was recorded (about 20 a stage, evenly in the logarithm): {where}, "
            f"mean over seeds. Bands: 95 % t-interval over seeds, from {FEWEST} on; n in the "
            f"tooltip.\n\n{_how(look)}"
        ),
        alt=f"IoU with {reference} from the first recorded update to the last: {', '.join(words)}.",
    )


def few_at_the_end(layers: pd.DataFrame) -> str:
    """Say in plain text how many weights the first and the last recorded update remove; empty if as many.

    Parameters
    ----------
    layers
        Rows of the table ``layers`` of the runs of one configuration, of one layer or of all.
    """
    keys = ["run_id", "stage", "step"]
    sums = layers.groupby(keys, observed=True, sort=False)[["slots", "removed"]].sum().reset_index()
    moved = sums[sums["removed"] > 0].sort_values("step")
    if moved.empty:
        return ""
    ends = moved.groupby("run_id", observed=True)
    first, last = (
        part[["slots", "removed"]].mean().astype("float64") for part in (ends.first(), ends.last())
    )
    if last["removed"] >= first["removed"]:
        return ""
    said = [
        f"{end['removed']:,.0f} weights ({100 * end['removed'] / end['slots']:.2g} % of the slots)"
        for end in (first, last)
    ]
    return (
        f"The first recorded update removes {said[0]}, the last {said[1]}: two criteria that order the "
        "lowest few weights differently then have an overlap near 0, although both would keep nearly the "
        "same others. A fall at the end says that few slots move, more than that the criteria part."
    )


def coincidences(pairs: pd.DataFrame, look: Look | None = None) -> list[str]:
    """Say in plain text which criteria remove the same weights, a sentence for each degree of agreement.

    The least IoU over layers, recorded updates and seeds decides what is (nearly) the same; the mean IoU
    decides what is mostly the same or hardly in common.

    Parameters
    ----------
    pairs
        Rows of the table ``criteria_pairs`` of the runs of one configuration.
    look
        Names of criteria.
    """
    look = look or Look.of(pairs)
    recorded = pairs.dropna(subset="iou")
    if recorded.empty:
        return []
    groups = recorded.groupby(["criterion_a", "criterion_b"], observed=True)["iou"]
    found = groups.agg(["mean", "min", "max"]).reset_index()
    basis = (
        f"{_counted(recorded['layer'].nunique(), 'layer')}, {_counted(recorded['run_id'].nunique(), 'seed')}"
    )
    said: dict[str, list[str]] = {}
    for row in found.to_dict("records"):
        names = _pair(row, look.criterion)
        if row["min"] == 1:
            said.setdefault("The same weights", []).append(names)
        elif row["min"] >= _NEARLY:
            said.setdefault("Nearly the same weights", []).append(
                f"{names} (IoU {_floor(row['min'], 3)} or more)"
            )
        elif row["mean"] >= _MOSTLY:
            text = f"{names} (IoU {_text(row['mean'])} on average, down to {_floor(row['min'], 2)})"
            said.setdefault("Mostly the same weights", []).append(text)
    if hardly := _hardly(found, look.criterion):
        said["Hardly any weights in common"] = hardly
    order = (
        "The same weights",
        "Nearly the same weights",
        "Mostly the same weights",
        "Hardly any weights in common",
    )
    return [
        f"{degree}, at every recorded update ({basis}): {'; '.join(said[degree])}."
        if number < 2
        else f"{degree}: {'; '.join(said[degree])}."
        for number, degree in enumerate(order)
        if degree in said
    ]


def _hardly(found: pd.DataFrame, look: Look) -> list[str]:
    """Describe pairs with hardly any weights in common; a criterion with only such pairs is named once."""
    low = found[found["mean"] <= _HARDLY]
    a, b = found["criterion_a"].astype(str), found["criterion_b"].astype(str)
    words, said = [], pd.Series(False, index=found.index)
    names = look.ordered([*a, *b])
    for name in names if len(names) > 2 else []:
        mine = (a == name) | (b == name)
        if found.index[mine].isin(low.index).all() and not said[mine].any():
            said |= mine
            words.append(f"{look.name(name)} and each of the others ({_span(found[mine])})")
    words += [f"{_pair(low.loc[at], look)} ({_span(low.loc[[at]])})" for at in low.index if not said[at]]
    return words


def _span(rows: pd.DataFrame) -> str:
    return f"IoU {rows['mean'].mean():.2f} on average, up to {rows['max'].max():.2f}"


def _of_layer(pairs: pd.DataFrame, layer: str | None) -> pd.DataFrame:
    rows = pairs if layer is None else pairs[pairs["layer"].astype(str) == layer]
    if rows.empty:
        where = f" in layer {layer}" if layer else ""
        raise Missing(
            f"No overlaps of criteria were recorded{where}. Finished runs of ssvi have them, unless "
            "max_steps cut them short: python -m bench.grid --suite criteria_ablation"
        )
    return rows


def _used(pairs: pd.DataFrame) -> str:
    return str(pairs["criterion_used"].iloc[0])


def _how(look: Look) -> str:
    """Say how overlaps are computed, and which criteria are not recorded on their own."""
    same = [
        f"{look.criterion.name(name)} ranks exactly as {look.criterion.name(known['ranks_as'])}, and is not "
        "recorded apart from it."
        for name, known in look.criteria.items()
        if known.get("ranks_as")
    ]
    return " ".join([_HOW, *same])


def _pair(row: Mapping[Any, Any] | pd.Series, look: Look) -> str:
    """Name the two criteria of a row; look: that of criteria."""
    return f"{look.name(row['criterion_a'])} and {look.name(row['criterion_b'])}"


def _square(
    found: pd.DataFrame, order: Sequence[str], look: Look
) -> tuple[list[list[str]], list[list[float | None]], list[list[str]]]:
    """Return texts, values and tooltips of the heat map; it is symmetric, and its diagonal is empty."""
    place = {name: number for number, name in enumerate(order)}
    size = len(order)
    texts = [[""] * size for _ in order]
    cells: list[list[float | None]] = [[None] * size for _ in order]
    hovers = [[""] * size for _ in order]
    for row in found.to_dict("records"):
        a, b = place[str(row["criterion_a"])], place[str(row["criterion_b"])]
        half = "" if math.isnan(row["iou_half_width"]) else f" ± {row['iou_half_width']:.3f}"
        rank = row["rank_correlation_mean"]
        hover = (
            f"<b>{escaped(_pair(row, look))}</b>"
            f"<br>IoU {row['iou_mean']:.3f}{half}, n = {row['iou_n']}"
            f"<br>rank correlation {'–' if math.isnan(rank) else f'{rank:.3f}'}"
        )
        for x, y in ((a, b), (b, a)):
            texts[y][x], cells[y][x], hovers[y][x] = _text(row["iou_mean"]), row["iou_mean"], hover
    return texts, cells, hovers


def _floor(iou: float, digits: int) -> str:
    """Format an IoU, rounded down, so that it is a lower bound."""
    return f"{math.floor(iou * 10**digits) / 10**digits:.{digits}f}"


def _text(iou: float) -> str:
    """Format an IoU with two digits, but never as 1.00 if it is less than 1."""
    return "1" if iou == 1 else "> 0.99" if iou >= 0.995 else f"{iou:.2f}"


def _band(rows: pd.DataFrame, colour: str, name: str) -> go.Scatter:
    low, high = rows["iou_mean"] - rows["iou_half_width"], rows["iou_mean"] + rows["iou_half_width"]
    x = rows["step"].tolist()
    return go.Scatter(
        x=[*x, *x[::-1]], y=[*high.tolist(), *low.tolist()[::-1]], mode="lines", line={"width": 0},
        fill="toself", fillcolor=translucent(colour), legendgroup=name, showlegend=False, hoverinfo="skip",
    )  # fmt: skip


def _thin(run: pd.DataFrame, colour: str, name: str) -> go.Scatter:
    return go.Scatter(
        x=run["step"].astype(float).tolist(), y=run["iou"].tolist(), mode="lines", hoverinfo="skip",
        line={"color": translucent(colour, 0.5), "width": 1}, legendgroup=name, showlegend=False,
    )  # fmt: skip


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
