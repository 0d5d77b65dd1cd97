"""Answer the question of a suite, and those that its unknown and shifted inputs raise.

This is the one place that answers are made: page, report and docs/findings.md show the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import pandas as pd

from bench.figures.course.convergence import pace
from bench.figures.course.dimension import chosen
from bench.figures.course.settling import rest, turnover, worth
from bench.figures.course.updates import cost_of_updates
from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Look, Missing
from bench.figures.parts.compared import compared
from bench.figures.questions.answer import Answer
from bench.figures.questions.networks import alike, blocks
from bench.figures.questions.ranges import gains, ranges
from bench.figures.questions.selection import recovered
from bench.figures.questions.unknown_inputs import beside
from bench.results.files import StoreError

Tables = Callable[[str], pd.DataFrame]


def answers(
    table: Tables,
    references: Mapping[str, str],
    score: str = "nll",
    look: Look | None = None,
    predictor: str = "samples",
) -> list[Answer]:
    """Answer the questions of a suite from its tables.

    Parameters
    ----------
    table
        Returns a table of one suite and scale by name; it may raise ``StoreError``.
    references
        ``config_id`` to the ``config_id`` of its reference.
    score
        Column of ``runs`` that the suite ranks by.
    look
        Names of methods.
    predictor
        Whose scores on unknown and shifted inputs to compare.

    Returns
    -------
    list
        The suite's own question first; empty if no run is finished.

    Raises
    ------
    StoreError
        If ``runs`` cannot be read. Another table that cannot be read becomes an answer that says why.
    """
    runs = table("runs")
    look, done = look or Look.of(runs), runs[runs["status"] == "done"]
    if done.empty:
        return []
    parts = [part for _, part in done.groupby(["dataset", "network"], sort=False, observed=True)]
    own = Answer(
        "", [*_own(parts, table, references, score, look), *compared(done, references, axes()[score], look)]
    )
    return [own, *_beside(parts, table, references, predictor, look)]


def _own(
    parts: list[pd.DataFrame], table: Tables, references: Mapping[str, str], score: str, look: Look
) -> Iterator[str]:
    """Yield what the results say of the question of the suite, besides the comparisons with references."""
    for part in parts:
        where = f"{_setting(part)}: " if len(parts) > 1 else ""
        for line in (*gains(part, look), *ranges(part, look)):
            yield where + line
        with suppress(Missing, StoreError):
            yield from (where + line for line in chosen(table("layers"), table("history"), part))
        with suppress(Missing, StoreError):
            yield from (where + line for line in recovered(part, table("metrics"), references, look))
        with suppress(Missing, StoreError):
            if said := pace(table("history"), part, references, look):
                yield from (where + line for line in said)
                every = list(dict.fromkeys(references.values()))
                yield from (where + line for line in cost_of_updates(table("history"), part, every, look))
        with suppress(Missing, StoreError):  # the chart beside the answer says why there is none
            if said := rest(table("history"), part, look):
                yield from (where + line for line in (*said, *turnover(table("layers"), part, look)))
                yield where + worth(table("history"), part, score, look).alt
        with suppress(StoreError):
            yield from (where + line for line in blocks(part, table("layers")))
    yield from alike(pd.concat(parts), score)


def _beside(
    parts: list[pd.DataFrame], table: Tables, references: Mapping[str, str], predictor: str, look: Look
) -> Iterator[Answer]:
    try:
        metrics = table("metrics")
    except StoreError as error:
        yield Answer("Left out", [str(error)])
        return
    for part in parts:
        here = metrics[metrics["run_id"].isin(part["run_id"])]
        yield from beside(_setting(part), part, here, references, predictor, look)


def _setting(runs: pd.DataFrame) -> str:
    """Name the data set and network of ``runs``."""
    return f"{runs['dataset'].iloc[0]} · {runs['network'].iloc[0]}"
