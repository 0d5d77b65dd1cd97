"""Draw dot plots: one row per configuration, with its name above its marks to fit narrow screens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis, whiskers
from bench.figures.parts.chart import Look, escaped, interval, translucent
from bench.figures.parts.configurations import whose

#: Greatest number of readable rows; ``rest`` tells readers how many are left out.
MOST_ROWS = 30
_ROW_PIXELS = 56
#: From so many rows on the axis also stands above them, since the one below is out of sight.
_AXIS_ABOVE = 8
#: Heights of a row's name and of its marks above the middle of the row, in rows.
_NAME_AT, _MARKS_AT = 0.31, -0.15


@dataclass(frozen=True)
class Marks:
    """Describe one kind of mark in every row.

    Parameters
    ----------
    stem
        Start of the column names ``<stem>_mean``, ``<stem>_half_width`` and ``<stem>_n``.
    name
        Name for readers.
    shape
        ``filled`` or ``open`` (the method's marker), or ``tick`` (a short line without whiskers, for
        comparison).
    lane
        Height above the marks' usual place, in rows, so that whiskers of two kinds do not overlap.
    """

    stem: str
    name: str
    shape: str = "filled"
    lane: float = 0.0


def dot_plot(
    table: pd.DataFrame,
    marks: Sequence[Marks],
    axis: Axis,
    names: Mapping[str, str],
    look: Look,
    seeds: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw each row of ``table`` from the top, with the given marks and their whiskers.

    Parameters
    ----------
    table
        Columns ``config_id``, ``config_label``, ``method`` and those of ``marks``.
    marks
        Kinds of marks.
    axis
        The horizontal axis.
    names
        Names by ``config_id`` (see ``short_names``).
    look
        Colours and markers.
    seeds
        Runs with ``config_id``, ``seed`` and the stems of ``marks``, drawn as small dots; None for no dots.
    """
    rows = table.reset_index(drop=True)
    figure = look.figure(height=110 + _ROW_PIXELS * len(rows), legend=len(marks) > 1)
    figure.update_layout(margin={"l": 12})
    keys = {kind.name: kind for kind in marks}
    traces = [_trace(rows, kind, axis, look) for kind in marks]
    if seeds is not None:
        traces = [_seeds(rows, seeds, kind, axis, look) for kind in marks if kind.shape != "tick"] + traces
    figure.add_traces(traces + [_key(kind, look) for kind in keys.values()])
    # added all at once: with each single addition plotly would check all earlier ones again
    figure.update_layout(
        annotations=[
            {
                "xref": "paper", "x": 0, "xanchor": "left", "xshift": 4, "y": _NAME_AT - number,
                "yanchor": "middle", "align": "left", "showarrow": False, "text": names[config_id],
                "font": {"size": 13, "color": look.ink},
            }
            for number, config_id in enumerate(rows["config_id"].astype(str))
        ],
        shapes=[
            {
                "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": -number - 0.5, "y1": -number - 0.5,
                "line": {"color": figure.layout.xaxis.gridcolor, "width": 1}, "layer": "below",
            }
            for number in range(len(rows))
        ],
    )  # fmt: skip
    figure.update_yaxes(range=[-len(rows) + 0.5, 0.5], showticklabels=False, showgrid=False, ticks="")
    low, high = _extent(rows, marks, axis, seeds)
    pad = 0.04 * (high - low) or 0.5
    # the axis is horizontal, so that the arrow to "better" points right or left
    title = axis.title.replace("↑", "→").replace("↓", "←")
    figure.update_xaxes(title_text=title, range=[low - pad, high + pad])
    if len(rows) >= _AXIS_ABOVE:
        above = {"overlaying": "x", "matches": "x", "side": "top", "showgrid": False}
        figure.update_layout(xaxis2=figure.layout.xaxis.to_plotly_json() | above, margin={"t": 60})
        figure.update_layout(height=figure.layout.height + 40)
        # an axis is drawn only if a trace has it
        figure.add_trace(go.Scatter(x=[None], y=[None], xaxis="x2", showlegend=False, hoverinfo="skip"))
    return figure


def described(stems: Sequence[str]) -> list[str]:
    """Return the columns of configurations and of marks with these stems, which are the data of a plot."""
    what = ["config_id", "config_label", "method", "sparsity"]
    return what + [f"{stem}_{part}" for stem in stems for part in ("mean", "half_width", "n")]


def rest(table: pd.DataFrame) -> str:
    """Return a sentence about rows of ``table`` that the plot has no room for; empty if it shows all."""
    left_out = len(table) - MOST_ROWS
    return f" The {left_out} behind these are in the data below, not in the picture." if left_out > 0 else ""


def _trace(rows: pd.DataFrame, kind: Marks, axis: Axis, look: Look) -> go.Scatter:
    mean, half_width = rows[f"{kind.stem}_mean"], rows[f"{kind.stem}_half_width"]
    is_tick = kind.shape == "tick"
    colours = [look.soft if is_tick else look.colour(str(method)) for method in rows["method"]]
    return go.Scatter(
        x=(mean * axis.factor).tolist(),
        y=[_MARKS_AT + kind.lane - number for number in range(len(rows))],
        mode="markers",
        name=kind.name,
        meta=whose(rows),
        showlegend=False,
        marker={
            "symbol": [_symbol(kind, look.marker(str(method))) for method in rows["method"]],
            "size": 9 if is_tick else 10, "color": colours, "line": {"width": 2, "color": colours},
        },
        error_x=None if is_tick else {
            **whiskers(mean, half_width, axis),
            "color": look.soft, "thickness": 1.3, "width": 3,
        },
        customdata=[
            [escaped(look.configuration(label)), interval(value, half, axis.digits, axis.factor), int(n)]
            for label, value, half, n in zip(
                rows["config_label"], mean, half_width, rows[f"{kind.stem}_n"].fillna(0), strict=True
            )
        ],
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>{kind.name}: %{{customdata[1]}} {axis.unit}"
            "<br>n = %{customdata[2]}<extra></extra>"
        ),
    )  # fmt: skip


def _seeds(rows: pd.DataFrame, seeds: pd.DataFrame, kind: Marks, axis: Axis, look: Look) -> go.Scatter:
    """Draw a small dot for each run, at the height of its configuration's mark."""
    places = {config_id: place for place, config_id in enumerate(rows["config_id"])}
    mine = seeds[seeds["config_id"].isin(places) & seeds[kind.stem].notna()]
    return go.Scatter(
        x=(mine[kind.stem] * axis.factor).tolist(),
        y=[_MARKS_AT + kind.lane - places[config_id] for config_id in mine["config_id"]],
        mode="markers",
        name=f"{kind.name}, single seeds",
        meta=whose(mine),
        showlegend=False,
        marker={
            "size": 5,
            "color": [translucent(look.colour(str(method)), 0.6) for method in mine["method"]],
        },
        customdata=mine["seed"].astype(int).tolist(),
        hovertemplate=(
            f"seed %{{customdata}}, {kind.name}: %{{x:.{axis.digits}f}} {axis.unit}<extra></extra>"
        ),
    )


def _key(kind: Marks, look: Look) -> go.Scatter:
    """Make the entry of the legend in the colour of text, since other colours stand for methods."""
    symbol = _symbol(kind, "circle")
    colour = look.soft if kind.shape == "tick" else look.ink
    return go.Scatter(
        x=[None], y=[None], mode="markers", name=kind.name, hoverinfo="skip",
        marker={"symbol": symbol, "size": 10, "color": colour, "line": {"width": 2, "color": colour}},
    )  # fmt: skip


def _symbol(kind: Marks, marker: str) -> str:
    if kind.shape == "tick":
        return "line-ns"
    solid = marker.removesuffix("-open")
    return solid if kind.shape == "filled" else f"{solid}-open"


def _extent(
    rows: pd.DataFrame, marks: Sequence[Marks], axis: Axis, seeds: pd.DataFrame | None
) -> tuple[float, float]:
    """Return the range of marks, whiskers and single seeds in shown values."""
    ends = []
    for kind in marks:
        mean = rows[f"{kind.stem}_mean"]
        reach = 0 if kind.shape == "tick" else rows[f"{kind.stem}_half_width"].fillna(0)
        # an interval may exceed possible values, but the frame does not show those
        ends += [(mean - reach).clip(lower=axis.least), (mean + reach).clip(upper=axis.most)]
        if seeds is not None and kind.shape != "tick":
            ends.append(seeds.loc[seeds["config_id"].isin(rows["config_id"]), kind.stem])
    every = pd.concat(ends).dropna() * axis.factor
    return (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
