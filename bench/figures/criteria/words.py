"""Say in sentences how criteria differ from their reference, and which criteria are the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from bench.figures.parts import chart
from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import Look
from bench.figures.parts.verdicts import within
from bench.statistics.seeds import by_seed

#: A row of ``bench.figures.criteria.paired.differences``.
Row = Mapping[Any, Any]


def verdicts(found: pd.DataFrame, score: str, look: Look | None = None, most: int = 8) -> list[str]:
    """Say in plain text what differences show: a sentence for each recipe and sparsity, and each control.

    Parameters
    ----------
    found
        What ``paired.differences`` returns.
    score
        Column of the score.
    look
        Names of methods and criteria; None for those that the table carries.
    most
        Most recipes and sparsities to describe; a last sentence counts the others.
    """
    look = look or Look.of(found)
    axis = axes()[score]
    comparisons = int(found["tests"].iloc[0])
    groups: dict[str, list[Row]] = {}
    for record in found[found["difference"].notna()].to_dict("records"):
        groups.setdefault(record["group"], []).append(record)
    sentences = []
    for group in list(groups)[:most]:
        rivals = [row for row in groups[group] if row["kind"] == "criterion"]
        if rivals:
            sentences.append(f"{group}: {_verdict(rivals, axis, comparisons, look.criterion)}")
        for row in groups[group]:
            if row["kind"] == "control":
                reference = look.criterion.name(row["reference_criterion"])
                compared = _compared(row, axis, reference)
                own = row["criterion"]
                criterion = (
                    f"with {look.criterion.name(own)}" if isinstance(own, str) else "without a criterion"
                )
                text = f"{look.name(row['name'])}, {criterion}, {compared}."
                sentences.append(f"{group}: {text}")
    if len(groups) > most:
        sentences.append(f"Of {len(groups) - most} more recipes and sparsities see the data of the chart.")
    return sentences


def same_results(
    runs: pd.DataFrame, found: pd.DataFrame, look: Look | None = None, most: int = 8
) -> list[str]:
    """Say in plain text which criteria gave the same NLL to the last digit, and under how many seeds.

    Parameters
    ----------
    runs
        The table ``runs``.
    found
        What ``paired.differences`` returns.
    look
        Names of criteria.
    most
        Most recipes and sparsities in a sentence.

    Returns
    -------
    list of str
        A sentence for each pair of criteria.
    """
    look = look or Look.of(runs)
    table = by_seed(runs, "nll")
    rivals = found[found["kind"] == "criterion"]
    same: dict[tuple[str, str], list[str]] = {}
    for group, rows in rivals.groupby("group", sort=False):
        ids = dict(zip(rows["name"], rows["config_id"], strict=True))
        ids[rows["reference_criterion"].iloc[0]] = rows["reference"].iloc[0]
        order = look.criterion.ordered(name for name, config_id in ids.items() if config_id in table)
        for a, b in combinations(order, 2):
            both = table[[ids[a], ids[b]]].dropna().to_numpy()
            if number := int((both[:, 0] == both[:, 1]).sum()):
                same.setdefault((a, b), []).append(f"{group} under {number} of {len(both)} seeds")
    sentences = []
    for (a, b), where in same.items():
        cut = [f"{len(where) - most} more"] if len(where) > most else []
        words = _listed([*where[:most], *cut])
        pair = f"{look.criterion.name(a)} and {look.criterion.name(b)}"
        sentences.append(f"{pair} gave the same NLL to the last digit, as if they were one: {words}.")
    return sentences


@dataclass(frozen=True)
class Alias:
    """A criterion ``name`` that is not run because it ranks as ``of``; ``why`` is the reason in the plan."""

    name: str
    of: str
    why: str

    @property
    def words(self) -> str:
        """The alias as a sentence."""
        return f"{self.name} removes the same weights as {self.of}, and is not run on its own: {self.why}."


def aliases(cells: Sequence[Mapping[str, Any]]) -> list[Alias]:
    """Return the criteria that a plan omits because another one ranks alike; ``cells`` are the plan's."""
    criteria_of = {cell["run_id"]: _criterion(cell) for cell in cells if cell.get("run_id")}
    found: dict[str, Alias] = {}
    for cell in cells:
        mine, theirs = _criterion(cell), criteria_of.get(cell.get("alias_of"))
        if cell.get("omitted") and mine and theirs and mine != theirs:
            found.setdefault(mine, Alias(mine, theirs, str(cell["omitted"]).partition("; see ")[0]))
    return list(found.values())


def _criterion(cell: Mapping[str, Any]) -> str | None:
    name = (cell.get("labels") or {}).get("criterion")
    return None if name is None else str(name)


def signed(row: Row, axis: Axis) -> str:
    """Format a difference with its half-width and unit: ``+0.81 ± 0.32 points``."""
    text = chart.signed(row["difference"], row["half_width"], axis.digits, axis.factor).replace("-", "−")
    return f"{text} {axis.step}".rstrip()


def _direction(row: Row, axis: Axis) -> str:
    if axis.better is None:
        return "higher" if row["difference"] > 0 else "lower"
    return "better" if (row["difference"] > 0) == (axis.better == "higher") else "worse"


def _compared(row: Row, axis: Axis, reference: str) -> str:
    """Say how one row compares with its reference, with the numbers."""
    numbers = signed(row, axis)
    if row["verdict"] == "differs":
        return f"is {_direction(row, axis)} than {reference} ({numbers}, p = {row['p_holm']:.2g})"
    if row["verdict"] == "equivalent":
        return f"is equivalent to {reference}{within(axis.column)} ({numbers})"
    return f"differs from {reference} by {numbers}, which decides nothing"


def _verdict(rows: Sequence[Row], axis: Axis, comparisons: int, look: Look) -> str:
    """Say what the differences of one panel show; every row has a difference, and ``look`` names criteria."""
    reference = look.name(rows[0]["reference_criterion"])
    seeds = _counts([row["n"] for row in rows])
    if all(math.isnan(row["p_holm"]) for row in rows):
        return f"a single seed each, so nothing can be said of differences to {reference} in {axis.name}."
    parts = [
        f"{look.name(row['name'])} {_compared(row, axis, reference)}"
        for row in rows
        if row["verdict"] == "differs"
    ]
    for verdict, words in (("equivalent", f"equivalent to it{within(axis.column)}"), ("undecided", "")):
        mine = [row for row in rows if row["verdict"] == verdict]
        if mine:
            are = "is" if len(mine) == 1 else "are"
            names = _listed([look.name(row["name"]) for row in mine])
            parts.append(f"{names} {are} {words or _undecided(mine, axis, comparisons)}")
    start = "" if any(row["verdict"] == "differs" for row in rows) else f"compared with {reference} "
    return f"{start}in {axis.name}, {'; '.join(parts)} ({seeds})."


def _undecided(rows: Sequence[Row], axis: Axis, comparisons: int) -> str:
    """Say why nothing was decided: what would have shown, and how many intervals exclude 0 if taken alone."""
    smallest = [row["smallest"] for row in rows if not math.isnan(row["smallest"])]
    if not smallest:
        return "undecided"
    most = f"{max(smallest) * axis.factor:.{axis.digits}f} {axis.step}".rstrip()
    alone = sum(abs(row["difference"]) > row["half_width"] for row in rows)
    many = f"; alone, {alone} would differ, but not among {comparisons} comparisons" if alone else ""
    return f"undecided (these seeds show differences from {most} on{many})"


def _counts(n: Sequence[int]) -> str:
    low, high = min(n), max(n)
    return f"{high} seeds" if low == high else f"{low} to {high} seeds"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
