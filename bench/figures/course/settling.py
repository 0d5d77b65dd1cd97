"""Draw whether the subspace comes to rest: its overlap with the final one, and what that is worth."""

from __future__ import annotations

import html
import math

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.bands import FEWEST, over_seeds
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval, signed, translucent
from bench.figures.parts.configurations import MOST_CHOSEN, dashes, short_names, whose
from bench.figures.parts.varied import varied
from bench.figures.parts.verdicts import said
from bench.results.words import counted
from bench.statistics.nonparametric import rank_correlation
from bench.statistics.seeds import LEVEL, half_width, paired, summarise

_IOU = "iou_halfway"
#: Share of the steps at which a subspace is called as settled as its IoU to the final one is large.
HALFWAY = 0.5


def settled(history: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the overlap of earlier subspaces of each run with its final one.

    Parameters
    ----------
    history, runs
        The tables of these names.

    Returns
    -------
    pandas.DataFrame
        One row for each run and update that was compared: ``run_id``, ``config_id``, ``step``, ``share`` (of
        the steps of training) and ``iou_final``.

    Raises
    ------
    Missing
        No run recorded it.
    """
    known = runs.drop_duplicates("run_id")
    known = known.set_index(known["run_id"].astype(str))
    # the table is long, and texts are slower than the categories they are stored as
    mine = history[history["run_id"].isin(known.index)]
    rows = mine[mine["metric"] == "iou_final"]
    if rows.empty:
        raise Missing(
            "No overlap with a final subspace was recorded here; runs of this suite have it: "
            "python -m bench.grid --suite subspace_evolution"
        )
    ids = rows["run_id"].astype(str)
    steps = mine.groupby("run_id", observed=True)["step"].max()
    steps.index = steps.index.astype(str)
    return pd.DataFrame(
        {
            "run_id": ids,
            "config_id": ids.map(known["config_id"].astype(str)),
            "step": rows["step"].astype("int64"),
            "share": rows["step"].astype("float64") / ids.map(steps).astype("float64"),
            "iou_final": rows["value"].astype("float64"),
        }
    ).reset_index(drop=True)


def settling(history: pd.DataFrame, runs: pd.DataFrame, look: Look | None = None) -> Chart:
    """Draw the IoU of earlier subspaces with the final one over training, a line per configuration.

    At most ``MOST_CHOSEN`` configurations are drawn, in the order of ``runs``.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.
    look
        Colours and markers.

    Raises
    ------
    Missing
        No run recorded it.
    """
    look, table = look or Look.of(runs), settled(history, runs)
    chosen = runs.drop_duplicates("config_id")
    chosen = chosen[chosen["config_id"].astype(str).isin(table["config_id"])]
    left_out = max(0, len(chosen) - MOST_CHOSEN)
    chosen = chosen.head(MOST_CHOSEN)
    ids, methods = chosen["config_id"].astype(str).tolist(), chosen["method"].astype(str).tolist()
    names, lines = short_names(chosen, look), dashes(ids, methods, look)
    found = over_seeds(table, ["config_id", "share"], ["iou_final"]).sort_values(["config_id", "share"])
    figure, at_middle = look.figure(), []
    for config_id, method in zip(ids, methods, strict=True):
        mine = found[found["config_id"] == config_id]
        colour, name = look.colour(method), names[config_id]
        mean, half = mine["iou_final_mean"], mine["iou_final_half_width"]
        if int(mine["iou_final_n"].min()) >= FEWEST and len(mine) > 1:
            x = mine["share"].tolist()
            figure.add_trace(
                go.Scatter(
                    x=[*x, *x[::-1]], y=[*(mean + half).clip(upper=1), *(mean - half).clip(lower=0)[::-1]],
                    mode="lines", line={"width": 0}, fill="toself", fillcolor=translucent(colour, 0.12),
                    legendgroup=config_id, showlegend=False, hoverinfo="skip",
                )
            )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=mine["share"].tolist(), y=mean.round(4).tolist(), mode="lines+markers", name=name,
                legendgroup=config_id, line={"color": colour, "dash": lines[config_id], "width": 2},
                marker={"symbol": look.marker(method), "size": 7, "color": colour},
                meta=whose(chosen[chosen["config_id"] == config_id]),
                customdata=[
                    ["" if math.isnan(h) else f" ± {h:.3f}", int(n)]
                    for h, n in zip(half, mine["iou_final_n"], strict=True)
                ],
                hovertemplate=(
                    f"<b>{name}</b><br>IoU to the final %{{y:.3f}}%{{customdata[0]}}<br>%{{x:.0%}} of the "
                    "steps, n = %{customdata[1]}<extra></extra>"
                ),
            )
        )  # fmt: skip
        at_middle.append(f"{html.unescape(name)} {_at(mine, HALFWAY):.2f}")
    figure.update_xaxes(title_text="share of the steps of training", range=[0, 1.02], tickformat=".0%")
    figure.update_yaxes(title_text="IoU to the final subspace", range=[0, 1.03])
    labels = chosen.set_index("config_id")["config_label"]
    found["config_label"] = found["config_id"].map(labels)
    rest = f" {counted(left_out, 'configuration')} more are not drawn." if left_out else ""
    return Chart(
        title="Does the subspace settle?",
        figure=figure,
        data=found[found["config_label"].notna()].reset_index(drop=True),
        how=(
            "The intersection over union of the active set after an update and the one at the end of "
            "training, over all layers together, for about 20 updates of each run; mean over seeds, and the "
            f"95 % t-interval from {FEWEST} seeds on. A subspace that settles early is near 1 early; one "
            f"that moves to the end rises there only.{rest}"
        ),
        alt=f"IoU to the final subspace in the middle of training: {'; '.join(at_middle)}.",
    )


def rest(history: pd.DataFrame, runs: pd.DataFrame, look: Look) -> list[str]:
    """Tell how near its final one the subspace is half-way, by length of training; nothing if none varies.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.
    look
        Names of methods.

    Raises
    ------
    Missing
        No run recorded it.
    """
    middle = _middle(settled(history, runs)).set_index("run_id")["iou_final"]
    table = runs.assign(**{_IOU: runs["run_id"].astype(str).map(middle)}).dropna(subset=[_IOU])
    found = summarise(table, metrics=[_IOU]).set_index("config_id")
    axis, told, densities = Axis(_IOU, "IoU", digits=2), [], []
    for line in varied(table):
        if line.setting != "training.epochs":
            continue
        ends = list(line.config_ids.items())
        rows = found.loc[[config_id for _, config_id in ends]]
        means = zip(line.config_ids, rows[f"{_IOU}_mean"], rows[f"{_IOU}_half_width"], strict=True)
        each = [f"{interval(mean, half, 2)} in {epochs:g}" for epochs, mean, half in means]
        (pair,) = paired(table, _IOU, {ends[-1][1]: ends[0][1]}).to_dict("records")
        until = line.others.get("method.replace_until")
        name = look.name(line.method) + (f" with updates in {until:.0%} of the steps" if until else "")
        told.append(
            f"{name}: {', '.join(each)}; {signed(pair['difference'], pair['half_width'], 2)} from the "
            f"shortest to the longest, n = {pair['n']} pairs: {said(pair, axis)}"
        )
        densities += table[table["config_id"].isin(line.config_ids.values())]["density"].tolist()
    if not told:
        return []
    chance = max(density / (2 - density) for density in densities)
    return [
        f"IoU of the subspace half-way with the final one, by epochs of training (chance: {chance:.2f}). "
        f"{'. '.join(told)}."
    ]


def turnover(layers: pd.DataFrame, runs: pd.DataFrame, look: Look) -> list[str]:
    """Tell the scores of kept, removed and added slots at the first and the last update, and what comes back.

    Numbers are of the longest training of each method and criterion whose length varies. Layers count by
    their slots.

    Parameters
    ----------
    layers, runs
        The tables of these names, of one data set and network.
    look
        Names of methods.
    """
    told = []
    for line in varied(runs):
        criteria = runs[runs["config_id"].isin(line.config_ids.values())]["criterion"].dropna().unique()
        if line.setting != "training.epochs" or len(criteria) != 1:
            continue
        epochs, config_id = list(line.config_ids.items())[-1]
        mine = layers[layers["run_id"].isin(runs.loc[runs["config_id"] == config_id, "run_id"])]
        mine = mine[mine["removed_q50"].notna() & mine["added_q50"].notna()]
        if mine.empty:
            continue
        ends = {"first": mine.groupby("run_id", observed=True)["step"].transform("min")}
        ends["last"] = mine.groupby("run_id", observed=True)["step"].transform("max")
        scores = []
        for name, step in ends.items():
            rows = mine[mine["step"] == step]
            each = [
                f"{group} {(rows[f'{group}_q50'] * rows['slots']).sum() / rows['slots'].sum():.3g}"
                for group in ("kept", "removed", "added")
            ]
            scores.append(f"{', '.join(each)} at the {name} update")
        until = line.others.get("method.replace_until")
        back = mine.groupby("run_id", observed=True)[["regrown", "replaced"]].sum()
        share = (back["regrown"] / back["replaced"]).rename("share")
        mean, half = float(share.mean()), half_width(share)
        told.append(
            f"{look.name(line.method)}, {epochs:g} epochs"
            + (f" with updates in {until:.0%} of the steps" if until else "")
            + f": median {criteria[0]} of slots {'; '.join(scores)}. Of the weights that were added, "
            f"{interval(mean, half, 1, 100)} % had been removed before (n = {len(share)} runs)."
        )
    return told


def _middle(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each run that is nearest to the middle of its training."""
    away = table.assign(away=(table["share"] - HALFWAY).abs()).sort_values("away", kind="stable")
    return away.drop_duplicates("run_id").drop(columns="away")


def worth(history: pd.DataFrame, runs: pd.DataFrame, score: str = "nll", look: Look | None = None) -> Chart:
    """Draw the score of each run against how settled its subspace was in the middle of training.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.
    score
        Column of ``runs``.
    look
        Colours and markers.

    Raises
    ------
    Missing
        Fewer than four runs recorded it.
    """
    look, axis, table = look or Look.of(runs), axes()[score], settled(history, runs)
    middle = _middle(table)
    scores = runs.drop_duplicates("run_id").assign(run_id=lambda rows: rows["run_id"].astype(str))
    found = middle.merge(scores[["run_id", "config_label", "method", "seed", score]], on="run_id")
    found = found.dropna(subset=[score]).sort_values(["config_id", "seed"])
    if len(found) < 4:
        raise Missing("Fewer than four finished runs here recorded the overlap with their final subspace.")
    figure = look.figure()
    for method in look.ordered(found["method"].astype(str)):
        mine = found[found["method"] == method]
        told = mine["config_label"].map(look.configuration).map(escaped)
        figure.add_trace(
            go.Scatter(
                x=mine["iou_final"].round(4).tolist(), y=(mine[score] * axis.factor).round(6).tolist(),
                mode="markers", name=look.label(method), showlegend=True, meta=whose(mine),
                customdata=list(zip(told, mine["seed"].tolist(), strict=True)),
                marker={"symbol": look.marker(method), "size": 8, "color": look.colour(method)},
                hovertemplate=(
                    "<b>%{customdata[0]}</b>, seed %{customdata[1]}<br>IoU %{x:.3f}<br>"
                    f"{axis.name} %{{y:.{axis.digits}f}}<extra></extra>"
                ),
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="IoU to the final subspace in the middle of training")
    figure.update_yaxes(title_text=axis.title)
    within = _within(found, score)
    return Chart(
        title=f"Does a subspace that settles early predict {axis.name}?",
        figure=figure,
        data=found.reset_index(drop=True),
        how=(
            "A mark is a run. The correlation is that of ranks within configurations (each value less the "
            "mean of its configuration), so that it does not compare methods or lengths of training; its "
            f"{LEVEL:.0%} interval is Fisher's, with one degree of freedom less for each configuration."
        ),
        alt=within,
    )


def _within(found: pd.DataFrame, score: str) -> str:
    """Say the rank correlation within configurations, with its interval."""
    correlation = rank_correlation(found["iou_final"], found[score], found["config_id"])
    if correlation is None:
        return f"{counted(len(found), 'run')}: too few in each configuration for a correlation."
    value, low, high = correlation
    verdict = "undecided" if low <= 0 <= high else "differs from 0"
    return (
        f"Within configurations, the rank correlation of {axes()[score].name} and the IoU is {value:.2f}, "
        f"{LEVEL:.0%} interval {low:.2f} to {high:.2f}, n = {len(found)} runs: {verdict}."
    )


def _at(rows: pd.DataFrame, share: float) -> float:
    """Return the mean at the update nearest to ``share`` of the steps."""
    nearest = (rows["share"] - share).abs().to_numpy().argmin()
    return float(rows["iou_final_mean"].to_numpy()[nearest])
