"""Draw how two configurations differ under each seed, and which pairs of several differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Chart, Look, Missing, signed
from bench.figures.parts.configurations import chosen_runs, short_names, whose
from bench.figures.parts.verdicts import by_how_much, said, within
from bench.statistics.seeds import by_seed, margin_of, paired, pairwise

#: Shade of a verdict in the matrix, between the background and the accent.
_SHADES = {"undecided": 0.0, "equivalent": 0.5, "differs": 1.0}
_ROW_PIXELS = 56
#: Pixels between two rows of cells, where the name of the lower one stands, to fit narrow screens.
_GAP = 26


def verdict(runs: pd.DataFrame, one: str, other: str, score: str, look: Look) -> str:
    """Say in a sentence whether configuration ``one`` is better than ``other``, with what it rests on.

    Raises
    ------
    Missing
        The two are the same, or share no seed that has the score.
    """
    row, axis = _row(runs, one, other, score), axes()[score]
    known = runs.drop_duplicates("config_id").set_index("config_id")["config_label"]
    mine, theirs = (look.configuration(known[name]) for name in (one, other))
    is_better = (row["difference"] > 0) == (axis.better == "higher")
    how = {
        "differs": f"is {'better' if is_better else 'worse'} than",
        "equivalent": f"is equivalent{within(score)} to",
    }.get(str(row["verdict"]), "may be better or worse than")
    value = by_how_much(row, axis)
    return f"In {axis.name} {mine} {how} {theirs}: {value} (n = {row['n']} pairs), {said(row, axis)}."


def seed_differences(runs: pd.DataFrame, one: str, other: str, score: str, look: Look | None = None) -> Chart:
    """Draw the difference of two configurations under each seed that both have, and their mean.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    one, other
        Two different ``config_id``.
    score
        Column of ``runs``.
    look
        Colours and names.

    Raises
    ------
    Missing
        The two are the same, or share no seed that has the score.
    """
    look = look or Look.of(runs)
    row, axis = _row(runs, one, other, score), axes()[score]
    table = by_seed(runs[runs["config_id"].isin([one, other])], score)[[one, other]].dropna()
    found = pd.DataFrame({"seed": table.index, "difference": table[one] - table[other]})
    first = runs[runs["config_id"] == one].iloc[0]
    colour = look.colour(str(first["method"]))
    figure = look.figure(height=230, legend=False)
    margin = margin_of(score) * axis.factor
    if margin == margin:
        figure.add_vrect(x0=-margin, x1=margin, fillcolor=look.soft, opacity=0.12, line={"width": 0})
    figure.add_vline(x=0, line={"color": look.ink, "width": 1})
    figure.add_trace(
        go.Scatter(
            x=(found["difference"] * axis.factor).tolist(), y=["each seed"] * len(found), mode="markers",
            marker={"symbol": f"{look.marker(str(first['method']))}-open", "size": 10, "color": colour},
            customdata=found["seed"].tolist(), meta=whose(first.to_frame().T),
            hovertemplate=f"seed %{{customdata}}: %{{x:+.{axis.digits}f}} {axis.step}<extra></extra>",
        )
    )  # fmt: skip
    half = row["half_width"] * axis.factor
    figure.add_trace(
        go.Scatter(
            x=[row["difference"] * axis.factor], y=["mean"], mode="markers",
            marker={"symbol": look.marker(str(first["method"])), "size": 13, "color": colour},
            error_x={"type": "data", "array": [0 if half != half else half], "color": colour, "width": 6},
            meta=whose(first.to_frame().T),
            hovertemplate=(
                f"mean %{{x:+.{axis.digits}f}} {axis.step}<br>n = {row['n']} pairs<extra></extra>"
            ),
        )
    )  # fmt: skip
    arrow = {"higher": " → the first is better", "lower": " ← the first is better"}.get(axis.better or "", "")
    unit = f" ({axis.step})" if axis.step else ""
    figure.update_xaxes(title_text=f"difference of {axis.name}{unit}{arrow}")
    figure.update_yaxes(range=[-0.6, 1.6], showgrid=False)
    return Chart(
        title=f"How does {axis.name} differ under each seed?",
        figure=figure,
        data=found.assign(n=int(row["n"])),
        how=(
            "Open marks: the first configuration minus the second under the same seed. Filled: their mean "
            f"with its 95 % t-interval. Shaded: differences that do not matter{within(score)}."
        ),
        alt=verdict(runs, one, other, score, look),
    )


def matrix_of_pairs(
    runs: pd.DataFrame, config_ids: Sequence[str], score: str, look: Look | None = None
) -> Chart:
    """Draw for all pairs of configurations whether they differ, with p values corrected for all of them.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    config_ids
        The configurations, in order.
    score
        Column of ``runs``.
    look
        Colours and names.

    Raises
    ------
    Missing
        Fewer than two of the configurations have the score.
    """
    look = look or Look.of(runs)
    axis = axes()[score]
    mine = chosen_runs(runs, config_ids)
    mine = mine[(mine["status"] == "done") & mine[score].notna()]
    order = [name for name in config_ids if name in set(mine["config_id"])]
    if len(order) < 2:
        raise Missing(f"A comparison in pairs needs two configurations with {axis.name}.")
    found = pairwise(mine, score)
    names = short_names(mine, look)
    cells = {}
    for row in found.to_dict("records"):
        for sign, key in ((1, (row["config_id"], row["other"])), (-1, (row["other"], row["config_id"]))):
            cells[key] = {**row, "difference": sign * row["difference"]}
    shades = [[_SHADES[cells[a, b]["verdict"]] if a != b else None for b in order] for a in order]
    # without the 0 before the point, a dozen fit beside each other on a phone
    texts = [
        [_p(cells[a, b]["p_adjusted"]).replace("0.", ".").replace(" ", "") if a != b else "" for b in order]
        for a in order
    ]
    hovers = [
        [
            f"<b>{names[a]}</b> less <b>{names[b]}</b><br>{axis.name} "
            f"{signed(cells[a, b]['difference'], float('nan'), axis.digits, axis.factor)} {axis.step}"
            f"<br>{cells[a, b]['verdict']}, corrected p {_p(cells[a, b]['p_adjusted'])}"
            if a != b else ""
            for b in order
        ]
        for a in order
    ]  # fmt: skip
    low, high = ("#FFFFFF", "#9CC9D3") if look.mode == "light" else ("#0E1117", "#1F5A66")
    figure = look.figure(height=130 + _ROW_PIXELS * len(order), legend=False)
    figure.add_trace(
        go.Heatmap(
            z=shades, text=texts, texttemplate="%{text}", textfont={"color": look.ink, "size": 11},
            customdata=hovers, hovertemplate="%{customdata}<extra></extra>", colorscale=[[0, low], [1, high]],
            zmin=0, zmax=1, showscale=False, xgap=2, ygap=_GAP,
            meta=whose(mine.drop_duplicates("config_id")),
        )
    )  # fmt: skip
    ticks = {"tickvals": list(range(len(order))), "showgrid": False, "showline": False, "ticks": ""}
    # numbers repeat the rows, since names would overlap
    numbers = [str(place + 1) for place in range(len(order))]
    figure.update_yaxes(range=[len(order) - 0.5, -0.75], **{**ticks, "showticklabels": False})
    figure.update_xaxes(ticktext=numbers, side="top", **ticks)
    figure.update_layout(
        margin={"t": 40, "b": 20, "l": 12},
        annotations=[
            {
                "xref": "paper", "x": 0, "xanchor": "left", "y": place - 0.5, "yanchor": "middle",
                "showarrow": False, "text": f"{place + 1}  {names[name]}",
                "font": {"size": 13, "color": look.ink},
            }
            for place, name in enumerate(order)
        ],
    )  # fmt: skip
    labels = mine.drop_duplicates("config_id").set_index("config_id")["config_label"].astype(str)
    data = found.assign(config_label=found["config_id"].map(labels), other_label=found["other"].map(labels))
    differ = int((found["verdict"] == "differs").sum())
    seeds = mine.groupby("config_id", observed=True)["seed"].nunique()
    return Chart(
        title=f"Which pairs differ in {axis.name}?",
        figure=figure,
        data=data.assign(n=data["config_id"].map(seeds)),
        how=(
            "A cell has the p value of the paired t-test of its row and column (Welch's where they share "
            f"fewer than two seeds), after Shaffer's correction for the {len(found)} pairs. Dark: they "
            f"differ at 5 %; medium: equivalent{within(score)}, by two one-sided tests after Holm's "
            "correction; empty: undecided."
        ),
        alt=f"Of {len(found)} pairs {differ} differ in {axis.name} after correction.",
    )


def _row(runs: pd.DataFrame, one: str, other: str, score: str) -> Mapping[Any, Any]:
    """Return the paired comparison of two configurations, alone in its family."""
    if one == other:
        raise Missing("Choose two different configurations.")
    found = paired(runs[runs["config_id"].isin([one, other])], score, {one: other})
    if found.empty:
        raise Missing(f"These two configurations share no seed that has {axes()[score].name}.")
    return dict(found.iloc[0])


def _p(value: float) -> str:
    if value != value:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.2g}"
