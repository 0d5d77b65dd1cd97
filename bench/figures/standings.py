"""Arrange a ranking as a table to read: one row a method, below which its configurations unfold."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import quote

import pandas as pd

from bench.figures.leaderboard import SHORT, leaderboard
from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import Look
from bench.figures.parts.verdicts import within
from bench.results import names

#: Columns beside the score.
COLUMNS = ("accuracy", "ece", "train_flops_ratio", "compression_vs_dense_vi")
#: The verdicts of ``leaderboard`` as readers see them: about a configuration and the best of as many seeds.
VERDICTS = {"best": "● best", "worse": "▽ differs", "equivalent": "≈ equivalent", "undecided": "○ undecided"}
#: Names of the columns that are no metrics.
INTERVAL, SMALLEST = "95 % interval", "shows from"
#: Before the method's name of a row that is unfolded.
_UNFOLDED = "↳ "
_ARROWS = {"higher": " ↑", "lower": " ↓"}
_DENSITY = "density_mean"
#: Least share of removed weights of a configuration that counts as sparse.
_SPARSE = 1e-6
#: Size of the picture of an interval, in pixels.
_WIDE, _HIGH = 96, 24


@dataclass(frozen=True)
class Standings:
    """Hold a table to read.

    Parameters
    ----------
    board
        Rows of ``leaderboard`` in the order of the table.
    table
        What readers see: numbers in the units of ``axes``, and pictures of intervals as ``data:`` addresses.
    told
        Decimal places and definition of the columns with numbers.
    """

    board: pd.DataFrame
    table: pd.DataFrame
    told: dict[str, tuple[int, str]]


def compared(runs: pd.DataFrame, score: str, sparse: bool = False) -> pd.DataFrame:
    """Rank configurations, each among those with as many seeds.

    Parameters
    ----------
    runs, score
        As in ``leaderboard``.
    sparse
        Whether to leave out configurations that ``densest_sparse`` does not count as sparse.

    Returns
    -------
    pandas.DataFrame
        The table of ``leaderboard`` with ``COLUMNS``.

    Raises
    ------
    Missing
        No configuration has the score.
    """
    if sparse:
        runs = runs[runs["density"] <= densest_sparse(runs)]
    return leaderboard(runs, score, (*COLUMNS, "density"), of_equal_n=True)


def densest_sparse(runs: pd.DataFrame) -> float:
    """Return the greatest measured density of a configuration that counts as sparse.

    It is the greatest one among finished runs that were asked for a sparsity, since they say which densities
    the comparison is about; a method whose sparsity is an outcome may be far denser. Where none was asked for
    one, all that have lost weights are sparse.

    Parameters
    ----------
    runs
        The table ``runs``.
    """
    asked = runs.loc[(runs["sparsity"] > 0) & (runs["status"] == "done"), "density"].max()
    return 1 - _SPARSE if pd.isna(asked) else min(float(asked) + _SPARSE, 1 - _SPARSE)


def standings(
    board: pd.DataFrame,
    score: str,
    look: Look,
    unfolded: Container[str] | None = (),
    references: Container[str] = (),
) -> Standings:
    """Arrange what ``compared`` returns: the best configuration of each method, best first.

    Parameters
    ----------
    board
        What ``compared`` returns.
    score
        The column that decides.
    look
        Names and colours of methods.
    unfolded
        Methods whose other configurations follow; None gives all configurations in the order of the score.
    references
        ``config_id`` of configurations that the suite compares others with; they are marked.
    """
    rows = board if unfolded is None else _folded(board, unfolded)
    first = ~rows["method"].duplicated() | (unfolded is None)
    table = pd.DataFrame(
        {
            "method": [
                f"{'' if is_first else _UNFOLDED}{look.name(str(method))}"
                + (" (reference)" if config_id in references else "")
                for is_first, method, config_id in zip(first, rows["method"], rows["config_id"], strict=True)
            ],
            "sparsity %": (100 * (1 - rows[_DENSITY])).astype(float).round(2).to_numpy(),
        }
    )
    labels = rows["config_label"].astype(str).tolist()
    settings = [names.settings(label) for label in labels]
    budgets = [names.parts({k: v for k, v in found.items() if k == "budget"}, {}) for found in settings]
    others = [
        names.parts({k: v for k, v in found.items() if k not in ("budget", "sparsity")}, look.criteria)
        + ([rest] if (rest := names.remainder(label)) else [])
        for found, label in zip(settings, labels, strict=True)
    ]
    # a column says nothing where all rows agree
    for head, parts in (("budget", budgets), ("settings", others)):
        texts = list(map(names.BETWEEN.join, parts))
        if len(set(texts)) > 1:
            table[head] = texts
    table["n"] = rows["n"].astype(int).to_numpy()
    told: dict[str, tuple[int, str]] = {}
    axis = axes()[score]
    head = _head(axis)
    table[head] = _in_units(rows[f"{score}_mean"], axis)
    told[head] = axis.digits, f"{axis.title}. {axis.definition}"
    table[INTERVAL] = _pictures(rows, score, look)
    table["verdict"] = [VERDICTS.get(str(verdict), "–") for verdict in rows["verdict"]]
    table[SMALLEST] = _in_units(rows["smallest"], axis)
    told[SMALLEST] = axis.digits, f"smallest difference of {axis.name} to the best that would have shown"
    for metric in COLUMNS:
        if metric != score:
            other = axes()[metric]
            table[_head(other)] = _in_units(rows[f"{metric}_mean"], other)
            told[_head(other)] = other.digits, f"{other.title}. {other.definition}"
    return Standings(rows.reset_index(drop=True), table, told)


def in_words(board: pd.DataFrame, score: str) -> str:
    """Say what the verdicts of ``compared`` mean and how many there are of each."""
    count = board["verdict"].value_counts()
    differ, alike, undecided = (int(count.get(name, 0)) for name in ("worse", "equivalent", "undecided"))
    return (
        f"Of {len(board)} configurations {differ} differ from the best with as many seeds (▽: at least one "
        f"is significantly better), {alike} are equivalent to it{within(score)} (≈), and {undecided} are "
        f"undecided (○: the seeds show neither; {SMALLEST}: the smallest difference that would have shown). "
        "Paired t-tests on shared seeds and two one-sided tests, at 5 % after Shaffer's and Holm's "
        "correction over all pairs, so that the best may have been chosen on the same data."
    )


def _folded(board: pd.DataFrame, unfolded: Container[str]) -> pd.DataFrame:
    """Keep the best configuration of each method, of those with its most seeds, and all of ``unfolded``."""
    most = board["n"] == board.groupby("method", observed=True)["n"].transform("max")
    leaders = board[most].drop_duplicates("method")
    parts = []
    for index, method in leaders["method"].items():
        parts.append(leaders.loc[[index]])
        if method in unfolded:
            parts.append(board[(board["method"] == method) & (board.index != index)])
    return pd.concat(parts)


def _pictures(rows: pd.DataFrame, score: str, look: Look) -> list[str]:
    """Draw each mean with its interval on one scale; dotted is the best mean."""
    mean = rows[f"{score}_mean"].astype(float)
    half = rows[f"{score}_half_width"].astype(float).fillna(0.0)
    low, high = float((mean - half).min()), float((mean + half).max())
    reach = (high - low) or 1.0
    best = float(mean.min() if axes()[score].better == "lower" else mean.max())

    def place(value: float) -> float:
        return round(8 + (_WIDE - 16) * (value - low) / reach, 1)

    return [
        "data:image/svg+xml;utf8,"
        + quote(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{_HIGH}">'
            f'<path d="M{place(best)} 1V23" stroke="{look.soft}" stroke-dasharray="2 2"/>'
            f'<path d="M{place(m - h)} 12H{place(m + h)}" stroke="{look.colour(method)}" stroke-width="2"/>'
            f'<circle cx="{place(m)}" cy="12" r="4.5" fill="{look.colour(method)}"/></svg>'
        )
        for m, h, method in zip(mean, half, rows["method"].astype(str), strict=True)
    ]


def _in_units(values: pd.Series, axis: Axis) -> pd.Series:
    return pd.Series(pd.to_numeric(values, errors="coerce").to_numpy(float) * axis.factor)


def _head(axis: Axis) -> str:
    unit = " %" if axis.unit == "%" else ""
    return f"{SHORT.get(axis.column, axis.name)}{unit}{_ARROWS.get(axis.better or '', '')}"
