"""Draw and tell whether criteria rank alike on all networks, and where the weights of a transformer go."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval
from bench.results.words import counted
from bench.statistics.agreement import RankAgreement, rank_agreement
from bench.statistics.multiple import ALPHA
from bench.statistics.seeds import LEVEL, half_width

#: What the layers of a transformer's blocks belong to, by the last part of their names.
_KINDS = dict.fromkeys(("query", "key", "value", "out"), "attention") | dict.fromkeys(
    ("fc1", "fc2"), "MLP blocks"
)
_ALLOCATION = "config.method.allocation"
#: Fewest criteria, and settings, whose rankings are compared.
_FEWEST = 4
#: Height of a row of a figure, and of its axes and legend, in pixels.
_ROW, _REST = 44, 150


def alike(runs: pd.DataFrame, score: str) -> list[str]:
    """Tell whether criteria rank alike on several networks and data sets."""
    try:
        names, criteria, found = _agreement(runs, score)
    except Missing:
        return []
    verdict = "differs from 0" if found.p < ALPHA else "undecided"
    return [
        f"The rankings of {criteria} criteria on {len(names)} networks and data sets have a mean rank "
        f"correlation of {found.mean:.2f}, {LEVEL:.0%} interval over seeds {found.mean_low:.2f} to "
        f"{found.mean_high:.2f}, p = {found.p:.2g} against random rankings: {verdict}."
    ]


def rank_map(runs: pd.DataFrame, score: str = "nll", look: Look | None = None) -> Chart:
    """Draw the rank correlation of criteria between every two networks and data sets.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite and scale.
    score
        Column of ``runs``.
    look
        Colours.

    Raises
    ------
    Missing
        Fewer than four criteria have scores in fewer than four settings.
    """
    look, axis = look or Look.of(runs), axes()[score]
    names, criteria, found = _agreement(runs, score)
    rows = [
        {"first": names[i], "second": names[j], "correlation": found.pairs[i, j],
         "low": found.low[i, j], "high": found.high[i, j]}
        for i in range(len(names)) for j in range(i)
    ]  # fmt: skip
    data = pd.DataFrame(rows)
    figure = look.figure(height=_ROW * len(names) + _REST, legend=False)
    figure.add_trace(
        go.Heatmap(
            x=[escaped(name) for name in data["second"]], y=[escaped(name) for name in data["first"]],
            z=data["correlation"].round(3).tolist(), zmin=-1, zmax=1, colorscale="RdBu", xgap=2, ygap=2,
            text=[f"{value:.1f}" for value in data["correlation"]], texttemplate="%{text}",
            customdata=data[["low", "high"]].round(2).to_numpy().tolist(),
            colorbar={"title": {"text": "rank correlation"}, "thickness": 12},
            hovertemplate=(
                "%{y}<br>%{x}<br>rank correlation %{z:.2f}, " + f"{LEVEL:.0%} interval "
                "%{customdata[0]} to %{customdata[1]}<extra></extra>"
            ),
        )
    )  # fmt: skip
    figure.update_xaxes(tickangle=40, showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return Chart(
        title=f"Do criteria rank alike on all networks by {axis.name}?",
        figure=figure,
        data=data,
        how=(
            f"Spearman's correlation of the mean {axis.name} of {criteria} criteria on one network and data "
            f"set with that on another; 1: the same order. The {LEVEL:.0%} intervals (in the tooltips) are "
            "percentiles over resampled seeds: where the criteria hardly differ, seeds decide the order, and "
            "the interval is wide. A criterion with several configurations counts by their mean."
        ),
        alt=" ".join(alike(runs, score)),
    )


def _agreement(runs: pd.DataFrame, score: str) -> tuple[list[str], int, RankAgreement]:
    """Return names of settings, the number of criteria that all have, and the agreement of their rankings."""
    done = runs[(runs["status"] == "done") & runs[score].notna()].dropna(subset=["criterion"])
    names, tables = [], []
    for (dataset, network), part in done.groupby(["dataset", "network"], sort=False, observed=True):
        names.append(f"{dataset} · {network}")
        tables.append(
            part.astype({"criterion": str})
            .replace({score: [float("inf"), -float("inf")]}, float("nan"))
            .pivot_table(index="seed", columns="criterion", values=score)
            .dropna()
        )
    criteria = sorted(set.intersection(*(set(table.columns) for table in tables))) if tables else []
    if len(tables) < _FEWEST or len(criteria) < _FEWEST or any(table.empty for table in tables):
        raise Missing(
            f"Rankings are compared from {_FEWEST} criteria on {_FEWEST} networks and data sets on: "
            "python -m bench.grid --suite architectures"
        )
    return names, len(criteria), rank_agreement([table[criteria].to_numpy(float) for table in tables])


def blocks(runs: pd.DataFrame, layers: pd.DataFrame) -> list[str]:
    """Tell how many weights attention and MLP blocks have under one budget for all layers."""
    try:
        ratio = _of_uniform(runs, layers, "kind")
    except Missing:
        return []
    told = [f"{name} {interval(float(v.mean()), half_width(v), 2)}" for name, v in ratio.groupby("kind")]
    return [
        f"With one budget for all layers, as multiples of their weights under the uniform allocation: "
        f"{', '.join(told)} (n = {ratio.index.get_level_values('seed').nunique()} seeds)."
    ]


def layer_types(runs: pd.DataFrame, layers: pd.DataFrame, look: Look | None = None) -> Chart:
    """Draw the density of each type of layer of a transformer under one budget for all layers.

    Parameters
    ----------
    runs, layers
        The tables of these names, of one data set and network.
    look
        Colours.

    Raises
    ------
    Missing
        There are no runs of both allocations, or the network has no blocks of attention.
    """
    look, ratio = look or Look.of(runs), _of_uniform(runs, layers, "leaf")
    uniform = float(1 - runs.loc[runs[_ALLOCATION].astype(str) == "uniform", "sparsity"].astype(float).mean())
    data = pd.DataFrame(
        [
            {"type": leaf, "of": _KINDS.get(str(leaf), "other"), "density": uniform * float(values.mean()),
             "half_width": uniform * half_width(values), "n": len(values)}
            for leaf, values in ratio.groupby("leaf")
        ]
    ).sort_values(["of", "density"], ascending=[True, False])  # fmt: skip
    figure = look.figure(height=_ROW * len(data) + _REST)
    method = str(runs["method"].iloc[0])
    for of, symbol in zip(sorted(data["of"].unique()), ("circle", "diamond", "square"), strict=False):
        mine = data[data["of"] == of]
        figure.add_trace(
            go.Scatter(
                x=(100 * mine["density"]).round(4).tolist(), y=[escaped(name) for name in mine["type"]],
                mode="markers", name=of,
                marker={"symbol": symbol, "size": 10, "color": look.colour(method)},
                error_x={"type": "data", "array": (100 * mine["half_width"]).fillna(0).tolist()},
                customdata=mine["n"].tolist(),
                hovertemplate="<b>%{y}</b><br>density %{x:.2f} %, n = %{customdata}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_vline(x=100 * uniform, line={"color": look.soft, "dash": "dot"})
    figure.update_xaxes(title_text="density (% of the weights of these layers)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    ends = data.sort_values("density")
    return Chart(
        title="Where do the weights go under one budget for all layers?",
        figure=figure,
        data=data,
        how=(
            "Layers whose names end alike count together. Mean over criteria and seeds at the end of "
            f"training under the allocation global, with the {LEVEL:.0%} t-interval over seeds; dotted: the "
            "density under the allocation uniform. Layers that keep all their weights are not drawn."
        ),
        alt=(
            f"Of {counted(len(data), 'type')} of layers, {ends['type'].iloc[-1]} has the highest density, "
            f"{100 * ends['density'].iloc[-1]:.1f} %, and {ends['type'].iloc[0]} the lowest, "
            f"{100 * ends['density'].iloc[0]:.1f} %; uniform: {100 * uniform:.1f} %."
        ),
    )


def _of_uniform(runs: pd.DataFrame, layers: pd.DataFrame, by: str) -> pd.Series:
    """Return the slots under the allocation ``global`` as multiples of those under ``uniform``.

    Both have the same seed and criterion. The result is the mean over criteria, by seed and by ``by``:
    ``kind`` (attention or MLP blocks) or ``leaf`` (the last part of a layer's name).
    """
    missing = Missing("No transformer here was trained under the allocations uniform and global.")
    if _ALLOCATION not in runs:
        raise missing
    last = layers.sort_values("step", kind="stable").drop_duplicates(["run_id", "layer"], keep="last")
    name = last["layer"].astype(str).str.rpartition(".")
    table = last.assign(leaf=name[2], kind=name[2].map(_KINDS).where(name[0] != ""))
    known = runs.drop_duplicates("run_id")[["run_id", "seed", "criterion", _ALLOCATION]]
    table = table.astype({"run_id": str}).merge(known.astype({"run_id": str}), on="run_id")
    if table["kind"].nunique() < 2:
        raise missing
    slots = table.dropna(subset=[by]).pivot_table(
        index=[by, "criterion", "seed"], columns=_ALLOCATION, values="slots", aggfunc="sum", observed=True
    )
    if not {"global", "uniform"} <= set(slots.columns):
        raise missing
    return (slots["global"] / slots["uniform"]).dropna().groupby([by, "seed"]).mean()
