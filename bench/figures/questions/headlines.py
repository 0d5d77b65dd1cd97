"""Say in a few sentences what the results of a suite show, each with what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from bench.figures.overview import differences
from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import Look, Missing, interval
from bench.figures.parts.verdicts import by_how_much, said, within
from bench.figures.standings import compared, densest_sparse
from bench.results.words import counted


@dataclass(frozen=True)
class Headline:
    """Hold a sentence, and the page that shows the evidence.

    Parameters
    ----------
    words
        Plain text with number of seeds, interval and verdict.
    page
        Name of the page.
    where
        What its address says beside the filters.
    """

    words: str
    page: str
    where: Mapping[str, str]


def headlines(
    runs: pd.DataFrame,
    references: Mapping[str, str],
    score: str,
    look: Look | None = None,
    everything: pd.DataFrame | None = None,
) -> list[Headline]:
    """Say which configuration is best, which of the sparse ones, and what differs most from its reference.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    references
        ``config_id`` of each configuration's reference, by ``config_id``.
    score
        Column of ``runs``.
    look
        Names of methods.
    everything
        All runs whose comparisons with a reference are one family; None for ``runs``.

    Raises
    ------
    Missing
        No finished run has the score.
    """
    look, axis = look or Look.of(runs), axes()[score]
    board = compared(runs, score)
    # the best of few seeds is likelier to be so by luck
    most = board[board["n"] == board["n"].max()]
    best = most.iloc[0]
    group = most["verdict"].value_counts()
    differ, alike, open_ = (int(group.get(name, 0)) for name in ("worse", "equivalent", "undecided"))
    found = [
        Headline(
            f"The best {axis.name} of {len(most)} configurations with {best['n']} seeds is that of "
            f"{_valued(best, score, axis, look)}; of the others {differ} differ from it, {alike} are "
            f"equivalent{within(score)} and {open_} are undecided.",
            "leaderboard",
            {},
        )
    ]
    densest = densest_sparse(runs)
    sparse = most[most["density_mean"] <= densest]
    if len(sparse) and sparse.index[0] != most.index[0]:
        first = sparse.iloc[0]
        smaller = f"{first['compression_vs_dense_vi_mean']:.3g} × smaller than dense VI"
        verdict = {
            "worse": "worse than the best", "equivalent": f"equivalent to it{within(score)}",
            "undecided": "undecided whether worse than the best",
        }.get(str(first["verdict"]), "not compared")  # fmt: skip
        found.append(
            Headline(
                f"Of the sparse ones, with at most {100 * densest:.3g} % of the weights, it is "
                f"{_valued(first, score, axis, look)}, {smaller}: {verdict}.",
                "leaderboard",
                {"leaderboard_sparse": "true"},
            )
        )
    return [*found, *_clearest(runs, runs if everything is None else everything, references, score, look)]


def _clearest(
    runs: pd.DataFrame, everything: pd.DataFrame, references: Mapping[str, str], score: str, look: Look
) -> list[Headline]:
    """Say which configuration differs most clearly from its reference; nothing if none is compared."""
    axis = axes()[score]
    try:
        found = differences(everything, references, score, set(runs["config_id"]))
    except Missing:
        return []
    tested = found.dropna(subset=["p_holm"]).sort_values("p_holm", kind="stable")
    if tested.empty:
        return []
    row = tested.iloc[0].to_dict()
    mine, theirs = (look.configuration(row[f"{name}_label"]) for name in ("config", "reference"))
    return [
        Headline(
            f"Of {counted(len(tested), 'comparison')} with a reference the clearest is {mine} against "
            f"{theirs}: {by_how_much(row, axis)} (n = {row['n']} pairs), {said(row, axis)}.",
            "significance",
            {"significance_one": mine, "significance_other": theirs},
        )
    ]


def _valued(row: pd.Series, score: str, axis: Axis, look: Look) -> str:
    value = interval(row[f"{score}_mean"], row[f"{score}_half_width"], axis.digits, axis.factor)
    with_unit = f"{value} {axis.unit}".rstrip()
    return f"{look.configuration(row['config_label'])}, {with_unit} (n = {row['n']})"
