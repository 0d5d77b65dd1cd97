"""Draw how a score responds to each setting that a suite varies, the others being equal."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis, axes, whiskers
from bench.figures.parts.chart import Chart, Look, Missing, escaped
from bench.figures.parts.configurations import MOST_CHOSEN, dashes, whose
from bench.figures.parts.varied import Response, setting_name, varied
from bench.results import names
from bench.results.words import counted
from bench.statistics.seeds import summarise
from bench.statistics.splits import scope

#: Panels in a row, start of the second and width of each as shares of the figure, height of a row in pixels.
_COLUMNS, _PITCH, _WIDTH, _ROW, _BELOW = 2, 0.54, 0.46, 330, 110


def responses(runs: pd.DataFrame, score: str = "nll", look: Look | None = None) -> Chart:
    """Draw a panel for each setting that varies: the score at its values, with 95 % t-intervals.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    score
        Column of ``runs``.
    look
        Colours and markers.

    Raises
    ------
    Missing
        No two configurations differ in one setting only.
    """
    look, axis = look or Look.of(runs), axes()[score]
    found = summarise(runs, metrics=[score]).dropna(subset=[f"{score}_mean"]).set_index("config_id")
    panels: dict[str, list[Response]] = {}
    for response in varied(runs):
        known = {value: each for value, each in response.config_ids.items() if each in found.index}
        if len(known) > 1:
            panels.setdefault(response.setting, []).append(
                Response(response.setting, response.method, response.others, known)
            )
    if not panels:
        raise Missing("No two configurations here differ in one setting only.")
    rows = -(-len(panels) // _COLUMNS)
    figure = look.figure(height=_ROW * rows + _BELOW)
    style = figure.layout.xaxis.to_plotly_json()
    parts: list[pd.DataFrame] = []
    keys: set[str] = set()
    for place, (setting, lines) in enumerate(panels.items()):
        lines.sort(key=lambda line: -len(line.config_ids))
        kept = lines[:MOST_CHOSEN]
        _place(figure, place, rows, setting, axis, style, len(lines) - len(kept))
        names, looks = (
            _names(kept, look),
            dashes([str(i) for i in range(len(kept))], [k.method for k in kept], look),
        )
        for number, line in enumerate(kept):
            mine = found.loc[list(line.config_ids.values())]
            table = pd.DataFrame(
                {
                    "setting": setting, "line": names[number], "value": [_text(v) for v in line.config_ids],
                    "config_id": mine.index, "method": line.method,
                    "config_label": mine["config_label"].to_numpy(), "mean": mine[f"{score}_mean"].to_numpy(),
                    "half_width": mine[f"{score}_half_width"].to_numpy(), "n": mine[f"{score}_n"].to_numpy(),
                }
            )  # fmt: skip
            parts.append(table)
            trace = _line(table, place, line.method, looks[str(number)], axis, look)
            trace.showlegend = names[number] not in keys
            keys.add(names[number])
            figure.add_trace(trace)
    data = pd.concat(parts, ignore_index=True)
    spread = data.groupby("setting", sort=False)["mean"].agg(lambda means: means.max() - means.min())
    widest = spread.sort_values(ascending=False).index[0]
    return Chart(
        title=f"Which settings does {axis.name} respond to?",
        figure=figure,
        data=data,
        how=(
            "In a panel, one setting varies; the others are equal along each line. A mark "
            f"is the mean {axis.name} over seeds, with its 95 % t-interval (n in the tooltip), not corrected "
            f"for the number of configurations. At most {MOST_CHOSEN} lines a panel, those with most values "
            f"first. "
            f"{scope(runs)}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"{axis.name} for {counted(len(panels), 'setting')}. Its mean varies most with "
            f"{setting_name(widest)}: by {spread[widest] * axis.factor:.{axis.digits}f} {axis.step}".rstrip()
            + "."
        ),
    )


def _place(
    figure: go.Figure, place: int, rows: int, setting: str, axis: Axis, style: dict[str, Any], left_out: int
) -> None:
    """Make the axes of a panel."""
    row, column = divmod(place, _COLUMNS)
    number = "" if place == 0 else str(place + 1)
    font = style["title"]["font"]
    left, top, height = column * _PITCH, 1 - row / rows, 1 / rows
    more = f" ({left_out} more not drawn)" if left_out else ""
    shape = {
        f"xaxis{number}": style | {
            "domain": [left, left + _WIDTH], "anchor": f"y{number}", "type": "category",
            "title": {"text": escaped(setting_name(setting) + more), "font": font},
        },
        f"yaxis{number}": style | {
            "domain": [top - 0.72 * height, top], "anchor": f"x{number}",
            "title": {"text": axis.title if column == 0 else "", "font": font},
            # one scale, so that panels can be compared
            **({"matches": "y"} if place else {}),
        },
    }  # fmt: skip
    figure.update_layout(shape)


def _line(table: pd.DataFrame, place: int, method: str, dash: str, axis: Axis, look: Look) -> go.Scatter:
    number = "" if place == 0 else str(place + 1)
    colour, halves = look.colour(method), table["half_width"].astype("float64") * axis.factor
    return go.Scatter(
        x=table["value"].map(_tick).tolist(), y=(table["mean"] * axis.factor).round(6).tolist(),
        mode="lines+markers",
        name=escaped(table["line"].iloc[0]), legendgroup=str(table["line"].iloc[0]),
        line={"color": colour, "dash": dash, "width": 1.5}, xaxis=f"x{number}", yaxis=f"y{number}",
        marker={"symbol": look.marker(method), "size": 8, "color": colour},
        error_y={
            **whiskers(table["mean"], table["half_width"].astype("float64"), axis),
            "thickness": 1, "width": 3,
        },
        meta=whose(table),
        customdata=[
            [escaped(look.configuration(label)), "" if half != half else f" ± {half:.{axis.digits}f}", n]
            for label, half, n in zip(table["config_label"], halves, table["n"], strict=True)
        ],
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>{axis.name} %{{y:.{axis.digits}f}}%{{customdata[1]}}, "
            "n = %{customdata[2]}<extra></extra>"
        ),
    )  # fmt: skip


def _names(lines: list[Response], look: Look) -> list[str]:
    """Name lines by their methods and by the settings in which they differ."""
    differ = [
        key
        for key in lines[0].others
        if any(
            line.method == other.method and line.others[key] != other.others[key]
            for line, other in itertools.combinations(lines, 2)
        )
    ]
    told = [[f"{_symbol(key)} {_text(line.others[key])}" for key in differ] for line in lines]
    return [", ".join([look.name(line.method), *parts]) for line, parts in zip(lines, told, strict=True)]


def _tick(value: str) -> str:
    """Break the words of a value that is a name, so that neighbouring ticks do not overlap."""
    return escaped(value).replace("_", "<br>")


def _symbol(setting: str) -> str:
    return names.SYMBOLS.get(setting.rpartition(".")[2]) or setting_name(setting)


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
