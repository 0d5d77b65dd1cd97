"""What the columns of the tables are: names, order and types, and their definitions in words."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml

#: The tables of a suite; ``runs`` has a row a run, the others are long.
TABLES = ("runs", "metrics", "history", "layers", "criteria_pairs", "calibration")

_ARROW = {
    "string": pa.string(),
    "name": pa.dictionary(pa.int32(), pa.string()),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}
_PANDAS = {
    pa.string(): pd.StringDtype(na_value=float("nan")),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


def definitions() -> dict[str, dict[str, dict[str, Any]]]:
    """``bench/columns.yaml``: table, column, then ``type``, ``unit``, ``definition``, ``source`` and ``better``.

    ``metrics.metric`` and ``history.metric`` define the values of those columns, which have no type.
    """
    text = files("bench").joinpath("columns.yaml").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, dict[str, Any]]] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return loaded


@cache
def kinds(table: str) -> dict[str, str]:
    """The columns of ``table`` in order, each with its type as the definitions name it."""
    return {column: entry["type"] for column, entry in definitions()[table].items()}


def arrow_type(kind: str) -> pa.DataType:
    """How a type is stored."""
    return _ARROW[kind]


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The data frame of ``table``: nullable integers and booleans, NaN for a missing number or text."""
    return table.to_pandas(types_mapper=_PANDAS.get)
