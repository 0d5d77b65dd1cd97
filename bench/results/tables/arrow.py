"""Parse the JSON lines and lists of run folders into checked arrow tables.

``checked`` defines which values a column may hold. Thousands of runs have millions of rows, so that arrow
parses plainly written rows of many runs at once; Python parses unusual ones, which then go through
``checked``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from bench.results.files import StoreError, parse_rows
from bench.results.tables.columns import kinds

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
_LARGEST = 2**63
#: Bytes that arrow parses at a time; a line must be shorter than two such blocks.
_BLOCK = 2**20
#: Longer strings are refused.
LONGEST = 10_000
#: More rows of one run in one table are refused. No run has nearly as many, and an empty row takes far more
#: bytes in memory than in the file.
MOST_ROWS = 2**22
NEWLINE = b"\n"

#: The values of each column, by name.
Columns = dict[str, list[Any]]


def arrow_type(kind: str) -> pa.DataType:
    """Return the arrow type for the type of a column in ``bench/columns.yaml``."""
    return _ARROW[kind]


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert to a data frame: integers and truth values are nullable, missing numbers and texts are NaN."""
    return table.to_pandas(types_mapper=_PANDAS.get)


def checked(values: Sequence[Any], kind: str, where: str) -> list[Any]:
    """Convert ``values`` to the Python values of a column type.

    Parameters
    ----------
    values
        Values from JSON; None means null.
    kind
        A type of ``bench/columns.yaml``.
    where
        Start of the message of an error.

    Raises
    ------
    StoreError
        A value is not of this type; the message shows it.
    """
    found = _converted(values, kind)
    if found is None:
        wrong = next(value for value in values if _converted([value], kind) is None)
        raise StoreError(f"{where}: expected {kind}, got {repr(wrong)[:60]}")
    return found


def columns(rows: Sequence[Any], table: str, where: str) -> Columns:
    """Convert rows to the columns of ``table`` except ``run_id``.

    Missing keys become null, unknown keys are ignored.

    Raises
    ------
    StoreError
        A row is not a mapping or a value has the wrong type; the message starts with ``where``.
    """
    if not all(type(row) is dict for row in rows):
        raise StoreError(f"{where}: not a list of rows")
    return {
        name: checked([row.get(name) for row in rows], kind, f"{where}: {name}")
        for name, kind in kinds(table).items()
        if name != "run_id"
    }


def table_of(parts: Mapping[str, Columns], table: str) -> pa.Table:
    """Join the columns of several runs, given by run id, into one arrow table with ``run_id`` first."""
    kept = {name: kind for name, kind in kinds(table).items() if name != "run_id"}
    arrays = [
        pa.array([value for part in parts.values() for value in part[name]], _parsed_type(kind))
        for name, kind in kept.items()
    ]
    lengths = [len(part[next(iter(kept))]) for part in parts.values()]
    return _with_run_ids(pa.table(arrays, list(kept)), table, list(parts), lengths)


def parse_lines(blobs: Mapping[str, bytes], table: str) -> tuple[pa.Table, dict[str, str]]:
    """Parse the complete JSON lines of several runs into one table.

    Parameters
    ----------
    blobs
        The lines of each run, by run id.
    table
        Name of the table.

    Returns
    -------
    tuple
        The table, and for each broken run, which is left out of it, the reason by run id.
    """
    broken = {
        run_id: f"{table}.jsonl: {blob.count(NEWLINE)} rows; the limit is {MOST_ROWS}"
        for run_id, blob in blobs.items()
        if len(blob) > MOST_ROWS and blob.count(NEWLINE) > MOST_ROWS
    }
    blobs = {run_id: blob for run_id, blob in blobs.items() if run_id not in broken}
    quick = _parse_plain(blobs, table) if all(map(_is_plain, blobs.values())) else None
    if quick is not None:
        return quick, broken
    tables = []
    for run_id, blob in blobs.items():
        try:
            part = columns(parse_rows(blob, f"{table}.jsonl"), table, f"{table}.jsonl")
            tables.append(table_of({run_id: part}, table))
        except StoreError as error:
            broken[run_id] = str(error)
    return (pa.concat_tables(tables) if tables else empty(table)), broken


def parse_lists(blobs: Mapping[str, Sequence[bytes]], tables: Sequence[str]) -> dict[str, pa.Table] | None:
    """Parse the lists of rows in the JSON documents of several runs by arrow's own parser.

    Parameters
    ----------
    blobs
        JSON objects of each run, by run id, each with a list of rows for each table.
    tables
        Names of the tables.

    Returns
    -------
    dict or None
        The table of all runs by name; None if arrow refuses a document, or if one is not written as plainly
        as runs write it, so that arrow might read it differently from Python.
    """
    documents = [blob for found in blobs.values() for blob in found]
    if not all(map(_is_one_line, documents)):
        return None
    data = b"".join(documents)
    if not data:
        return {table: empty(table) for table in tables}
    fields = {table: pa.list_(pa.struct(_fields(table))) for table in tables}
    parsed = _read_json(data, pa.schema(fields), max(map(len, documents)))
    if parsed is None or parsed.num_rows != len(documents):
        return None
    lists = {table: parsed.column(table).combine_chunks() for table in tables}
    rows = sum(len(part.flatten()) for part in lists.values())
    # the numbers of braces and brackets show that other keys of the objects hold no nested values
    whole = data.count(b"{") == len(documents) + rows
    if not whole or data.count(b"[") != sum(len(part) - part.null_count for part in lists.values()):
        return None
    found = {}
    for table, part in lists.items():
        plain = pa.table(part.flatten().flatten(), [name for name, _ in _fields(table)])
        if not all(map(_is_usual, plain.columns)):
            return None
        each = iter(pc.fill_null(pc.list_value_length(part), 0).to_pylist())
        lengths = [sum(next(each) for _ in found) for found in blobs.values()]
        found[table] = _with_run_ids(plain, table, list(blobs), lengths)
    return found


def empty(table: str) -> pa.Table:
    """Return ``table`` without rows."""
    return pa.schema([(name, arrow_type(kind)) for name, kind in kinds(table).items()]).empty_table()


def _is_plain(blob: bytes) -> bool:
    """Tell whether every line starts with the only object on it, in ASCII, without lists or unusual content.

    All parsers read such lines alike. The number of parsed rows shows later whether each line was complete.
    """
    if not blob:
        return True
    data = np.frombuffer(blob, np.uint8)
    starts = np.flatnonzero(data[:-1] == ord("\n")) + 1
    objects = np.count_nonzero(data == ord("{"))
    begun = blob[:1] == b"{" and bool(np.all(data[starts] == ord("{")))
    return begun and objects == len(starts) + 1 and b"[" not in blob and not _is_unusual(blob)


def _is_one_line(blob: bytes) -> bool:
    """Tell whether ``blob`` is one line of ASCII without unusual content; lists are allowed."""
    return blob[:1] == b"{" and blob.find(b"\n") == len(blob) - 1 and not _is_unusual(blob)


def _is_unusual(blob: bytes) -> bool:
    """Tell whether there are escapes, characters beyond ASCII, or NaN or Inf, which arrow reads though
    standard JSON has neither."""
    # searching for a single letter first is many times as fast
    return (
        not blob.isascii()
        or b"\\" in blob
        or (b"N" in blob and b"NaN" in blob)
        or (b"I" in blob and b"Inf" in blob)
    )


def _fields(table: str) -> list[tuple[str, pa.DataType]]:
    """Return the columns of ``table`` except ``run_id``, with the types for parsing."""
    return [(name, _parsed_type(kind)) for name, kind in kinds(table).items() if name != "run_id"]


def _read_json(data: bytes, schema: pa.Schema, longest: int) -> pa.Table | None:
    """Parse lines of JSON, none longer than ``longest`` bytes, by arrow; None if it refuses one."""
    parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pa.json.ReadOptions(block_size=max(_BLOCK, longest))
    try:
        return pa.json.read_json(pa.BufferReader(data), read_options=read, parse_options=parse)
    except pa.ArrowException:
        return None


def _parse_plain(blobs: Mapping[str, bytes], table: str) -> pa.Table | None:
    """Parse plain lines by arrow's own parser; None if it refuses one or a value is unusual."""
    data = b"".join(blobs.values())
    if not data:
        return empty(table)
    parsed = _read_json(data, pa.schema(_fields(table)), 0)
    lengths = [blob.count(b"\n") for blob in blobs.values()]
    if parsed is None or parsed.num_rows != sum(lengths) or not all(map(_is_usual, parsed.columns)):
        return None
    return _with_run_ids(parsed, table, list(blobs), lengths)


def _parsed_type(kind: str) -> pa.DataType:
    """Return the arrow type for parsing, in which names are not dictionaries yet."""
    return arrow_type("string" if kind == "name" else kind)


def _is_usual(column: pa.ChunkedArray) -> bool:
    """Tell whether every number is finite and no text is too long."""
    if pa.types.is_floating(column.type):
        return pc.all(pc.is_finite(column)).as_py() in (True, None)
    if pa.types.is_string(column.type):
        return (pc.max(pc.binary_length(column)).as_py() or 0) <= LONGEST
    return True


def _with_run_ids(parsed: pa.Table, table: str, run_ids: list[str], lengths: list[int]) -> pa.Table:
    """Add ``run_id`` to ``parsed``, which has ``lengths`` rows of each run in turn, and encode names."""
    filled = [(run_id, length) for run_id, length in zip(run_ids, lengths, strict=True) if length]
    indices = np.repeat(np.arange(len(filled), dtype=np.int32), [length for _, length in filled])
    names = pa.DictionaryArray.from_arrays(pa.array(indices), pa.array([r for r, _ in filled], pa.string()))
    result = {"run_id": names}
    for name, kind in kinds(table).items():
        if name != "run_id":
            column = parsed.column(name)
            result[name] = column.dictionary_encode() if kind == "name" else column
    return pa.table(result)


def _converted(values: Sequence[Any], kind: str) -> list[Any] | None:
    """Convert ``values`` to the type ``kind``; None if one does not fit."""
    present = [value for value in values if value is not None]
    types = set(map(type, present))
    if kind in ("string", "name"):
        fits = types <= {str} and max(map(len, present), default=0) <= LONGEST
    elif kind == "boolean":
        fits = types <= {bool}
    elif kind == "integer":
        if float in types and all(v.is_integer() for v in present if type(v) is float):
            return _converted([int(v) if type(v) is float else v for v in values], kind)
        fits = types <= {int} and min(present, default=0) >= -_LARGEST and max(present, default=0) < _LARGEST
    else:
        if int in types:
            return _converted([_as_float(v) if type(v) is int else v for v in values], kind)
        fits = types <= {float} and all(map(math.isfinite, present))
    return list(values) if fits else None


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
