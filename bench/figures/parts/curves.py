"""Draw lines with bands: one line per configuration with means over seeds along an axis."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis
from bench.figures.parts.bands import FEWEST
from bench.figures.parts.chart import Look, escaped, interval, translucent
from bench.figures.parts.configurations import whose
from bench.figures.parts.last_stage import finished
from bench.statistics.seeds import summarise


def along(runs: pd.DataFrame, rows: pd.DataFrame, x: str, value: str) -> pd.DataFrame:
    """Average ``value`` over seeds at each ``x``.

    Parameters
    ----------
    runs
        The table ``runs``.
    rows
        One row for each run and value of ``x``.
    x, value
        Columns of ``rows``.

    Returns
    -------
    pandas.DataFrame
        Columns ``config_id``, ``config_label``, ``method``, ``sparsity``, ``x``, ``mean``, ``half_width`` (of
        the 95 % t-interval) and ``n`` (number of seeds), in the order of ``runs`` and ``x``.
    """
    runs = finished(runs)
    rows = rows.astype({"run_id": str}).drop_duplicates(["run_id", x])
    wide = rows.pivot(index="run_id", columns=x, values=value).sort_index(axis=1)
    columns = dict(enumerate(wide.columns))
    wide = wide.reindex(runs["run_id"].astype(str)).astype("float64").set_axis(runs.index)
    wide.columns = pd.Index([f"at_{number}" for number in columns])
    found = summarise(pd.concat([runs, wide], axis=1), metrics=list(wide.columns))
    known = found[["config_id", "config_label", "method", "sparsity"]]
    parts = [
        known.assign(
            x=place, mean=found[f"at_{number}_mean"], half_width=found[f"at_{number}_half_width"],
            n=found[f"at_{number}_n"],
        )
        for number, place in columns.items()
    ]  # fmt: skip
    if not parts:
        return known.iloc[:0].assign(x=[], mean=[], half_width=[], n=[])
    order = {config_id: number for number, config_id in enumerate(found["config_id"])}
    long = pd.concat(parts, ignore_index=True).dropna(subset="mean")
    key = long["config_id"].map(order)
    return long.assign(_order=key).sort_values(["_order", "x"]).drop(columns="_order").reset_index(drop=True)


def add_seeds(
    figure: go.Figure,
    runs: pd.DataFrame,
    rows: pd.DataFrame,
    x_axis: Axis,
    y_axis: Axis,
    value: str,
    look: Look,
) -> None:
    """Add a thin line for each run of ``rows``, with the columns of ``x_axis`` and ``value``."""
    x = x_axis.column
    known = runs.drop_duplicates("run_id").set_index("run_id")
    rows = rows.astype({"run_id": str}).sort_values(["run_id", x])
    for config_id, mine in rows.groupby(rows["run_id"].map(known["config_id"].astype(str)), sort=False):
        pieces = [part for _, part in mine.groupby("run_id", sort=False)]
        colour = look.colour(str(known["method"][pieces[0]["run_id"].iloc[0]]))
        figure.add_trace(
            go.Scatter(
                x=[place for part in pieces for place in [*(part[x] * x_axis.factor), None]],
                y=[height for part in pieces for height in [*(part[value] * y_axis.factor), None]],
                mode="lines", line={"color": translucent(colour, 0.5), "width": 1}, hoverinfo="skip",
                name="single seeds", legendgroup=str(config_id), showlegend=False,
                meta=whose(runs[runs["config_id"] == config_id]),
            )
        )  # fmt: skip


def add_curves(
    figure: go.Figure,
    table: pd.DataFrame,
    x_axis: Axis,
    y_axis: Axis,
    names: Mapping[str, str],
    dashes: Mapping[str, str],
    look: Look,
) -> None:
    """Add a line for each configuration of ``table`` (see ``along``), and a band of its intervals."""
    for config_id in table["config_id"].drop_duplicates():
        mine = table[table["config_id"] == config_id]
        method = str(mine["method"].iloc[0])
        colour = look.colour(method)
        x, mean = mine["x"] * x_axis.factor, mine["mean"] * y_axis.factor
        half_width = mine["half_width"] * y_axis.factor
        known = half_width.notna() & (mine["n"] >= FEWEST)
        if known.any():
            # an interval may exceed possible values, but its band is cut there; these scores are at least 0
            possible = None if y_axis.most is None else y_axis.most * y_axis.factor
            low = (mean - half_width)[known].clip(lower=0)
            high = (mean + half_width)[known].clip(upper=possible)
            figure.add_trace(
                go.Scatter(
                    x=[*x[known], *x[known][::-1]], y=[*low, *high[::-1]], mode="lines", fill="toself",
                    fillcolor=translucent(colour), line={"width": 0}, hoverinfo="skip", showlegend=False,
                    legendgroup=config_id, meta=whose(mine),
                )
            )  # fmt: skip
        told = escaped(look.configuration(mine["config_label"].iloc[0]))
        texts = [
            interval(value, half, y_axis.digits, y_axis.factor)
            for value, half in zip(mine["mean"], mine["half_width"], strict=True)
        ]
        figure.add_trace(
            go.Scatter(
                x=x.tolist(), y=mean.tolist(), mode="lines+markers", name=names[str(config_id)],
                legendgroup=config_id, meta=whose(mine),
                line={"color": colour, "dash": dashes[str(config_id)], "width": 3 if method == "ssvi" else 2},
                marker={"symbol": look.marker(method), "size": 8, "color": colour, "maxdisplayed": 6},
                customdata=[[text, int(n)] for text, n in zip(texts, mine["n"], strict=True)],
                hovertemplate=(
                    f"<b>{told}</b><br>{x_axis.name} %{{x:.4~g}} "
                    f"{x_axis.unit}<br>{y_axis.name} %{{customdata[0]}} {y_axis.unit}<br>n = "
                    f"%{{customdata[1]}}<extra></extra>"
                ),
            )
        )  # fmt: skip
