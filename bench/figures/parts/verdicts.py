"""Say what a comparison showed: that two configurations differ, are equivalent, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import signed
from bench.statistics.seeds import margin_of


def by_how_much(row: Mapping[Any, Any], axis: Axis) -> str:
    """Return the difference of a row of ``bench.statistics.paired`` with its half width and its unit."""
    return f"{signed(row['difference'], row['half_width'], axis.digits, axis.factor)} {axis.step}".rstrip()


def said(row: Mapping[Any, Any], axis: Axis) -> str:
    """Say the verdict of a row of ``bench.statistics.paired``, with what it rests on."""
    digits = axis.digits + 1
    if row["verdict"] == "differs":
        return f"differs (p = {row['p_holm']:.2g})"
    if row["verdict"] == "equivalent":
        return f"equivalent (p = {row['p_equivalent']:.2g})"
    if row["smallest"] != row["smallest"]:
        return "undecided: one pair shows nothing"
    smallest = f"{row['smallest'] * axis.factor:.{digits}f} {axis.step}".rstrip()
    return f"undecided (p = {row['p_holm']:.2g}); differences from {smallest} on would have shown"


def within(score: str) -> str:
    """Say the margin of equivalence of ``score`` in words, with a space before; nothing if it has none."""
    margin, axis = margin_of(score), axes()[score]
    return f" within ± {margin * axis.factor:g} {axis.step}".rstrip() if margin == margin else ""


def tally(verdicts: pd.Series) -> str:
    """Say how many there are of each kind, as ``2 differ, 1 is equivalent and 3 are undecided``."""
    number = {name: int((verdicts == name).sum()) for name in ("differs", "equivalent", "undecided")}
    verbs = {"differs": ("differs", "differ"), "equivalent": ("is equivalent", "are equivalent")}
    verbs["undecided"] = ("is undecided", "are undecided")
    parts = [f"{count} {verbs[name][count != 1]}" for name, count in number.items()]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
