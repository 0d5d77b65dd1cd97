"""Read the definitions of all columns: names, order, types, units and meaning."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

#: The tables of a suite. ``runs`` has one row per run and scale; the others are long.
TABLES = ("runs", "metrics", "history", "layers", "criteria_pairs", "calibration", "selective", "stages")
#: Columns of ``runs`` by which configurations can be ranked.
SCORES = ("accuracy", "nll", "brier", "ece")
#: Predictors by which configurations can be compared, and their names for readers.
PREDICTORS = {"samples": "averaged samples", "mean": "mean network"}


@cache
def definitions() -> dict[str, dict[str, dict[str, Any]]]:
    """Load ``bench/columns.yaml``, once in a process, as reading it takes tens of milliseconds.

    Returns
    -------
    dict
        Shared by all callers, which must not change it. By table and column: type, unit, definition, source
        and better. The keys ``metrics.metric`` and ``history.metric`` define the possible values of these two
        columns; such entries have no type.
    """
    text = files("bench").joinpath("columns.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast loader, if PyYAML was built with it
    loaded: dict[str, dict[str, dict[str, Any]]] = yaml.load(text, loader)
    return loaded


@cache
def kinds(table: str) -> dict[str, str]:
    """Return the type of each column of ``table``, in order, as ``bench/columns.yaml`` names it."""
    return {column: entry["type"] for column, entry in definitions()[table].items()}
