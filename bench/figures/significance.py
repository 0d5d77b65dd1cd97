"""Compare two configurations by several tests, and rank configurations over data sets."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Chart, Look, Missing, escaped
from bench.results.tables.columns import SCORES
from bench.statistics.nonparametric import (
    TooFew,
    average_ranks,
    bootstrap_interval,
    interquartile_mean,
    superiority,
    wilcoxon,
)
from bench.statistics.seeds import by_seed, paired
from bench.statistics.splits import overlap

#: The parts of a label about data set and network, over which configurations are compared here.
_PLACE = re.compile(r" (dataset|network)=\S+")
_COLUMNS = ("what", "value", "low", "high", "p", "n", "words")
_NO_NUMBER = float("nan")
_NOTHING = (_NO_NUMBER, _NO_NUMBER, _NO_NUMBER, _NO_NUMBER)


def compare(runs: pd.DataFrame, one: str, other: str, score: str = SCORES[0]) -> pd.DataFrame:
    """Compute in several ways how much better configuration ``one`` is than ``other``.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    one, other
        Two different ``config_id``.
    score
        Column of ``runs``.

    Returns
    -------
    pandas.DataFrame
        One row per way: ``what`` (its name), ``value``, ``low`` and ``high`` (95 % interval), ``p`` (NaN if
        there is none), ``n`` (seeds), ``words`` (why there is no number, if there are too few seeds). If the
        two share no seed, there is one row of an unpaired comparison, and ``n`` is the smaller number of
        seeds.

    Raises
    ------
    Missing
        One of the two has no score, or both are the same.
    """
    axis = axes()[score]
    mine = runs[runs["config_id"].isin([one, other])]
    table = by_seed(mine, score)
    if not {one, other} <= set(table.columns) or one == other:
        raise Missing(f"Choose two different configurations that have {axis.name}.")
    pairs = table[[one, other]].dropna()
    share = float(overlap(mine[mine["status"] == "done"]).max())
    if pairs.empty:
        found = superiority(table[one], table[other], axis.better or "higher", share=share)
        what = f"probability that {axis.name} of a run is better, not paired: the two share no seed"
        fewer = int(table[[one, other]].notna().sum().min())
        rows = [(what, *found, _NO_NUMBER, fewer, "")]
        return pd.DataFrame(rows, columns=list(_COLUMNS))
    n = len(pairs)
    rows = [_mean_difference(mine, one, other, score, axis.factor)]
    found = superiority(pairs[one], pairs[other], axis.better or "higher", paired=True, share=share)
    what = f"probability that {axis.name} is better under the same seed"
    rows.append((what, *found, _NO_NUMBER, n, ""))
    try:
        p = wilcoxon(pairs[one], pairs[other], share)
        rows.append(("Wilcoxon signed-rank test", _NO_NUMBER, _NO_NUMBER, _NO_NUMBER, p, n, ""))
    except TooFew as error:
        rows.append(("Wilcoxon signed-rank test", *_NOTHING, n, str(error)))
    try:
        differences = axis.factor * (pairs[one] - pairs[other]).to_numpy()
        mean = bootstrap_interval(differences, np.mean, share=share)
        rows.append(("mean difference, percentile bootstrap", *mean, _NO_NUMBER, n, ""))
    except TooFew as error:
        rows.append(("mean difference, percentile bootstrap", *_NOTHING, n, str(error)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def ranks(runs: pd.DataFrame, score: str = SCORES[0], look: Look | None = None) -> Chart:
    """Draw average ranks over test sets with Nemenyi's critical difference, best first (Demšar 2006).

    Parameters
    ----------
    runs
        The table ``runs`` of one suite and scale, with all test sets.
    score
        Column of ``runs``.
    look
        Colours and markers.

    Raises
    ------
    Missing
        There are too few test sets or configurations.
    """
    look = look or Look.of(runs)
    axis = axes()[score]
    table = _by_setting(runs, score)
    try:
        found = average_ranks(table, axis.better or "higher")
    except TooFew as error:
        raise Missing(str(error)) from None
    order = found.ranks.sort_values(kind="stable")
    best = float(order.iloc[0])
    data = pd.DataFrame({"configuration": order.index, "rank": order.to_numpy()})
    data["method"] = [str(name).partition(" ")[0] for name in data["configuration"]]
    data["tied_with_best"] = data["rank"] - best < found.critical_difference
    figure = look.figure(height=100 + 26 * len(data), legend=False)
    for tied, marks in data.groupby("tied_with_best"):
        figure.add_trace(
            go.Scatter(
                x=marks["rank"].tolist(),
                y=marks.index.tolist(),
                mode="markers",
                marker={
                    "symbol": [look.marker(m, hollow=not tied) for m in marks["method"]],
                    "size": 11, "color": [look.colour(m) for m in marks["method"]], "line": {"width": 2},
                },
                hovertemplate="%{text}: mean rank %{x:.2f}<extra></extra>",
                text=[escaped(look.configuration(name)) for name in marks["configuration"]],
            )
        )  # fmt: skip
    figure.add_vrect(
        x0=best, x1=best + found.critical_difference, fillcolor=look.soft, opacity=0.15, line={"width": 0}
    )
    figure.update_xaxes(title_text=f"mean rank by {axis.name} over {len(table)} test sets ← better")
    figure.update_yaxes(
        tickvals=data.index.tolist(),
        ticktext=[escaped(look.configuration(name)) for name in data["configuration"]],
        range=[len(data) - 0.4, -0.6], showgrid=False,
    )  # fmt: skip
    return Chart(
        title="Would it hold on other data sets?",
        figure=figure,
        data=data,
        how=(
            f"Configurations are ranked by mean {axis.name} on each of {len(table)} test sets, and the ranks "
            "averaged; the shaded region is Nemenyi's critical difference from the best at 5 %. Friedman's "
            f"test that all rank alike: p = {found.p:.2g}. A test set counts once, however many seeds it has."
        ),
        alt=f"Mean ranks of {len(data)} configurations over {len(table)} test sets; best: "
        f"{look.configuration(order.index[0])}.",
    )


def middle(runs: pd.DataFrame, score: str = SCORES[0]) -> pd.DataFrame:
    """Compute interquartile means over the runs of all test sets, with a stratified bootstrap.

    Scores are divided by the mean over all configurations on the same test set, so that an easy test set does
    not outweigh a hard one (Agarwal et al. 2021).

    Parameters
    ----------
    runs
        The table ``runs`` of one suite and scale, with all test sets.
    score
        Column of ``runs``.

    Returns
    -------
    pandas.DataFrame
        One row per configuration: ``configuration``, ``value``, and the 95 % interval ``low``, ``high``.

    Raises
    ------
    Missing
        A configuration has too few seeds, or there is only one test set.
    """
    done = _done(runs, score)
    if done["setting"].nunique() < 2:
        raise Missing("An interquartile mean over data sets needs at least 2 of them, and has 1.")
    usual = done.groupby("setting", observed=True)[score].transform("mean")
    done["relative"] = done[score] / usual
    done["overlap"] = overlap(done)
    rows = []
    for name, mine in done.groupby("configuration", sort=False, observed=True):
        settings = {str(key): part for key, part in mine.groupby("setting", observed=True)}
        scores = {key: part["relative"].to_numpy() for key, part in settings.items()}
        share = {key: float(part["overlap"].max()) for key, part in settings.items()}
        try:
            rows.append((name, *interquartile_mean(scores, share=share)))
        except TooFew as error:
            raise Missing(str(error)) from None
    return pd.DataFrame(rows, columns=["configuration", "value", "low", "high"])


def _mean_difference(
    runs: pd.DataFrame, one: str, other: str, score: str, factor: float
) -> tuple[str, float, float, float, float, int, str]:
    row = paired(runs, score, {one: other}).iloc[0]
    mean, half = factor * float(row["difference"]), factor * float(row["half_width"])
    words = "" if row["n"] > 1 else "A t-interval needs at least 2 seeds, and has 1."
    return (
        "mean difference, paired by seed, t-interval",
        mean,
        mean - half,
        mean + half,
        row["p"],
        int(row["n"]),
        words,
    )


def _done(runs: pd.DataFrame, score: str) -> pd.DataFrame:
    done = runs[runs["status"] == "done"].dropna(subset=[score]).copy()
    done["setting"] = done["dataset"].astype(str) + " · " + done["network"].astype(str)
    done["configuration"] = [_PLACE.sub("", str(label)) for label in done["config_label"]]
    return done


def _by_setting(runs: pd.DataFrame, score: str) -> pd.DataFrame:
    """Average over seeds: one row per test set, one column per configuration."""
    done = _done(runs, score)
    means = done.groupby(["setting", "configuration"], sort=False, observed=True)[score].mean()
    return means.unstack("configuration")
