"""Draw panels of reliability diagrams: accuracy against confidence, with the examples per bin below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.chart import Look, escaped, translucent
from bench.figures.parts.configurations import whose

#: Number of panels in a row (two are readable on narrow screens); start of the second and width of each, as
#: shares of the figure's width.
_COLUMNS, _PITCH, _WIDTH = 2, 0.54, 0.46
#: Heights in a panel, from below, in pixels: ticks, counts, gap, diagram, each line of the heading, space.
_TICKS, _COUNTS, _GAP, _DIAGRAM, _LINE, _SPACE = 26, 56, 12, 180, 16, 14
_BELOW = 100


def panels(headings: Sequence[str], look: Look) -> go.Figure:
    """Make empty panels with the diagonal, each under a heading; the caller sets the range of counts.

    Parameters
    ----------
    headings
        One for each panel, in plotly's HTML with lines separated by ``<br>``.
    look
        Colours.
    """
    rows = -(-len(headings) // _COLUMNS)
    lines = max(heading.count("<br>") for heading in headings) + 1
    pitch = _TICKS + _COUNTS + _GAP + _DIAGRAM + _LINE * lines + _SPACE
    figure = look.figure(height=pitch * rows + _BELOW)
    figure.update_layout(margin={"t": 0, "b": _BELOW, "r": 12})
    style = figure.layout.xaxis.to_plotly_json()
    font = style["title"]["font"]
    axes: dict[str, Any] = {}
    notes: list[dict[str, Any]] = []
    diagonals: list[go.Scatter] = []
    for place, heading in enumerate(headings):
        row, column = divmod(place, _COLUMNS)
        left, bottom, first = column * _PITCH, (rows - row - 1) * pitch + _TICKS, column == 0
        counts = [bottom, bottom + _COUNTS]
        diagram = [counts[1] + _GAP, counts[1] + _GAP + _DIAGRAM]
        x, upper, lower = _axis_names(place)
        is_last = place + _COLUMNS >= len(headings)
        axes |= {
            f"xaxis{x}": style | {
                "domain": [left, left + _WIDTH], "anchor": f"y{lower}", "range": [-2, 102], "dtick": 50,
                "title": {"text": "confidence (%)" if is_last else "", "font": font},
            },
            f"yaxis{upper}": style | {
                "domain": [end / (pitch * rows) for end in diagram], "anchor": f"x{x}", "dtick": 25,
                "range": [-3, 103], "showticklabels": first,
                "title": {"text": "accuracy (%)" if first else "", "font": font},
            },
            f"yaxis{lower}": style | {
                "domain": [end / (pitch * rows) for end in counts], "anchor": f"x{x}", "type": "log",
                "showticklabels": first, "title": {"text": "examples" if first else "", "font": font},
            },
        }  # fmt: skip
        notes.append(
            {
                "xref": "paper", "yref": "paper", "x": left, "y": diagram[1] / (pitch * rows),
                "xanchor": "left", "yanchor": "bottom", "align": "left", "showarrow": False,
                "text": heading, "font": {"size": 12, "color": look.ink},
            }
        )  # fmt: skip
        diagonals.append(
            go.Scatter(
                x=[0, 100], y=[0, 100], mode="lines", xaxis=f"x{x}", yaxis=f"y{upper}", hoverinfo="skip",
                line={"color": look.soft, "width": 1, "dash": "dash"}, name="calibrated",
                showlegend=place == 0,
            )
        )  # fmt: skip
    # added all at once: with each single addition plotly would check all earlier ones again
    figure.update_layout(axes | {"annotations": notes})
    figure.add_traces(diagonals)
    return figure


def add_keys(figure: go.Figure, few: int, look: Look) -> None:
    """Add a legend in the colour of text, since other colours stand for methods."""
    ink = look.ink
    for name, symbol in (
        ("a bin, with its 95 % Wilson interval", "circle"),
        (f"under {few} examples a run", "circle-open"),
    ):
        figure.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="markers", name=name, hoverinfo="skip",
                marker={"symbol": symbol, "size": 8, "color": ink, "line": {"width": 1.5, "color": ink}},
            )
        )  # fmt: skip


def add_panel(figure: go.Figure, place: int, bins: pd.DataFrame, few: int, look: Look) -> None:
    """Draw the bins of one configuration into a panel.

    Parameters
    ----------
    figure
        The figure that ``panels`` made.
    place
        Number of the panel, from 0.
    bins
        Rows of one configuration (see ``calibration.bins``).
    few
        Bins with fewer examples per run than this get hollow marks.
    look
        Colours and markers.
    """
    x_name, upper, lower = _axis_names(place)
    above, below = (
        {"xaxis": f"x{x_name}", "yaxis": f"y{upper}"},
        {"xaxis": f"x{x_name}", "yaxis": f"y{lower}"},
    )
    method = str(bins["method"].iloc[0])
    colour, solid = look.colour(method), look.marker(method)
    counts = bins["per_seed"].tolist()
    full = bins["per_seed"] >= few
    known = bins[full]
    figure.add_trace(
        go.Scatter(
            x=_pieces((100 * known["confidence"]).tolist(), (100 * known["confidence"]).tolist()),
            y=_pieces((100 * known["confidence"]).tolist(), (100 * known["accuracy"]).tolist()),
            mode="lines", line={"color": translucent(colour, 0.35), "width": 6}, hoverinfo="skip", name="gap",
            showlegend=False, **above,
        )
    )  # fmt: skip
    # nearly empty bins are drawn faintly: they say little, although their gaps and whiskers are the largest
    figure.add_trace(_marks(bins[~full], f"{solid}-open", colour, translucent(colour, 0.45), look, above))
    figure.add_trace(_marks(known, solid, colour, colour, look, above))
    figure.add_trace(
        go.Scatter(
            x=_pieces((100 * bins["lower"]).tolist(), (100 * bins["upper"]).tolist()),
            y=_pieces(counts, counts), mode="lines", name="examples a run",
            line={"color": colour, "width": 4}, hoverinfo="skip", showlegend=False, **below,
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[0, 100], y=[few, few], mode="lines", hoverinfo="skip", name=f"{few} examples",
            line={"color": look.soft, "width": 1, "dash": "dot"}, showlegend=False, **below,
        )
    )  # fmt: skip


def _marks(
    bins: pd.DataFrame, symbol: str, colour: str, whiskers: str, look: Look, axes: dict[str, str]
) -> go.Scatter:
    """Draw accuracy against confidence, with Wilson intervals."""
    accuracy, low, high = 100 * bins["accuracy"], 100 * bins["low"], 100 * bins["high"]
    texts = {
        "name": [escaped(look.configuration(label)) for label in bins["config_label"]],
        "interval": [f"{start:.1f} to {end:.1f}" for start, end in zip(low, high, strict=True)],
        "gap": [f"{100 * gap:+.1f}" for gap in bins["gap"]],
        "count": [f"{count:,.1f}" for count in bins["per_seed"]],
        "seeds": bins["seeds"].tolist(),
    }
    return go.Scatter(
        x=(100 * bins["confidence"]).tolist(), y=accuracy.tolist(), mode="markers",
        name=look.label(str(bins["method"].iloc[0])) if len(bins) else "",
        marker={"symbol": symbol, "size": 8, "color": colour, "line": {"width": 1.5, "color": colour}},
        error_y={
            "type": "data", "array": (high - accuracy).tolist(), "arrayminus": (accuracy - low).tolist(),
            "color": whiskers, "thickness": 1, "width": 2,
        },
        customdata=list(zip(*texts.values(), strict=True)),
        meta=whose(bins),
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>accuracy %{y:.1f} % (%{customdata[1]})<br>confidence %{x:.1f} %"
            "<br>gap %{customdata[2]} points"
            "<br>%{customdata[3]} examples a run, n = %{customdata[4]} runs<extra></extra>"
        ),
        showlegend=False,
        **axes,
    )  # fmt: skip


def _axis_names(place: int) -> tuple[str, str, str]:
    """Return the suffixes of plotly's names for a panel's x axis, its upper y axis and its lower y axis."""
    upper, lower = 2 * place + 1, 2 * place + 2
    return "" if place == 0 else str(place + 1), "" if upper == 1 else str(upper), str(lower)


def _pieces(starts: list[float], ends: list[float]) -> list[float | None]:
    """Join line segments for one trace: start, end, a break."""
    return [value for pair in zip(starts, ends, strict=True) for value in (*pair, None)]
