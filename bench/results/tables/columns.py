"""What the columns of the tables are: names, order and types, and their definitions in words."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

#: The tables of a suite; ``runs`` has a row a run, the others are long.
TABLES = ("runs", "metrics", "history", "layers", "criteria_pairs", "calibration", "selective", "stages")


def definitions() -> dict[str, dict[str, dict[str, Any]]]:
    """``bench/columns.yaml``: table, column, then type, unit, definition, source and better.

    ``metrics.metric`` and ``history.metric`` define the values of those columns, which have no type.
    """
    text = files("bench").joinpath("columns.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built with it
    loaded: dict[str, dict[str, dict[str, Any]]] = yaml.load(text, loader)
    return loaded


@cache
def kinds(table: str) -> dict[str, str]:
    """The columns of ``table`` in order, each with its type as the definitions name it."""
    return {column: entry["type"] for column, entry in definitions()[table].items()}
