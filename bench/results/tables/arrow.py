"""Long tables from the run folders' JSON lines and lists: checked columns in arrow.

``checked`` says what a row may hold. Thousands of runs have millions of rows, so plain
ones are parsed by arrow, many runs at once; whatever is unusual goes through ``checked``.
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
#: Bytes that arrow parses at a time; it needs a line to be shorter than two of them.
_BLOCK = 2**20
#: Longer strings are refused.
LONGEST = 10_000
#: Rows of one run in one table: no run has nearly as many, and an empty row takes far more memory than bytes.
MOST_ROWS = 2**22
NEWLINE = b"\n"

Columns = dict[str, list[Any]]


def arrow_type(kind: str) -> pa.DataType:
    """How the type of a column is stored."""
    return _ARROW[kind]


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """The data frame of ``table``: nullable integers and truth values, NaN for a missing number or text."""
    return table.to_pandas(types_mapper=_PANDAS.get)


def checked(values: Sequence[Any], kind: str, where: str) -> list[Any]:
    """``values`` (None allowed) as the Python values of a column type; ``StoreError`` for a wrong one."""
    found = _converted(values, kind)
    if found is None:
        wrong = next(value for value in values if _converted([value], kind) is None)
        raise StoreError(f"{where}: expected {kind}, got {repr(wrong)[:60]}")
    return found


def columns(rows: Sequence[Any], table: str, where: str) -> Columns:
    """The columns of ``table`` but ``run_id`` from rows; a missing key is null, others are ignored."""
    if not all(type(row) is dict for row in rows):
        raise StoreError(f"{where}: not a list of rows")
    return {
        name: checked([row.get(name) for row in rows], kind, f"{where}: {name}")
        for name, kind in kinds(table).items()
        if name != "run_id"
    }


def table_of(parts: Mapping[str, Columns], table: str) -> pa.Table:
    """One arrow table, ``run_id`` first, from the columns of several runs."""
    kept = {name: kind for name, kind in kinds(table).items() if name != "run_id"}
    arrays = [
        pa.array([value for part in parts.values() for value in part[name]], _parsed_type(kind))
        for name, kind in kept.items()
    ]
    lengths = [len(part[next(iter(kept))]) for part in parts.values()]
    return _with_run_ids(pa.table(arrays, list(kept)), table, list(parts), lengths)


def parse_lines(blobs: Mapping[str, bytes], table: str) -> tuple[pa.Table, dict[str, str]]:
    """The table of several runs from their complete JSON lines, and why each broken one is left out."""
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


def parse_lists(blobs: Mapping[str, bytes], tables: Sequence[str]) -> dict[str, pa.Table] | None:
    """The tables of several runs from the lists of rows in one JSON object of each, by arrow's own parser.

    None where it finds fault with any of them, or where they are not as plainly written as runs write them.
    """
    if not all(map(_is_one_line, blobs.values())):
        return None
    data = b"".join(blobs.values())
    if not data:
        return {table: empty(table) for table in tables}
    fields = {table: pa.list_(pa.struct(_fields(table))) for table in tables}
    parsed = _read_json(data, pa.schema(fields), max(map(len, blobs.values())))
    if parsed is None or parsed.num_rows != len(blobs):
        return None
    lists = {table: parsed.column(table).combine_chunks() for table in tables}
    rows = sum(len(part.flatten()) for part in lists.values())
    # so that nothing else is nested in the objects, whatever other keys they have
    whole = data.count(b"{") == len(blobs) + rows
    if not whole or data.count(b"[") != sum(len(part) - part.null_count for part in lists.values()):
        return None
    found = {}
    for table, part in lists.items():
        plain = pa.table(part.flatten().flatten(), [name for name, _ in _fields(table)])
        if not all(map(_is_usual, plain.columns)):
            return None
        lengths = pc.fill_null(pc.list_value_length(part), 0).to_pylist()
        found[table] = _with_run_ids(plain, table, list(blobs), lengths)
    return found


def empty(table: str) -> pa.Table:
    """``table`` without a row."""
    return pa.schema([(name, arrow_type(kind)) for name, kind in kinds(table).items()]).empty_table()


def _is_plain(blob: bytes) -> bool:
    """Whether every line begins the only object on it, in ASCII, without what is unusual.

    All parsers read such lines alike; that each is complete shows in the number of rows they give.
    """
    if not blob:
        return True
    data = np.frombuffer(blob, np.uint8)
    starts = np.flatnonzero(data[:-1] == ord("\n")) + 1
    objects = np.count_nonzero(data == ord("{"))
    begun = blob[:1] == b"{" and bool(np.all(data[starts] == ord("{")))
    return begun and objects == len(starts) + 1 and b"[" not in blob and not _is_unusual(blob)


def _is_one_line(blob: bytes) -> bool:
    """Whether it is a line of ASCII without what is unusual, lists apart."""
    return blob[:1] == b"{" and blob.find(b"\n") == len(blob) - 1 and not _is_unusual(blob)


def _is_unusual(blob: bytes) -> bool:
    """Whether there are escapes, signs beyond ASCII, or numbers that are not standard JSON though arrow reads
    them."""
    # a single letter is looked for many times as fast
    return (
        not blob.isascii()
        or b"\\" in blob
        or (b"N" in blob and b"NaN" in blob)
        or (b"I" in blob and b"Inf" in blob)
    )


def _fields(table: str) -> list[tuple[str, pa.DataType]]:
    """The columns of ``table`` but ``run_id``, as they are parsed."""
    return [(name, _parsed_type(kind)) for name, kind in kinds(table).items() if name != "run_id"]


def _read_json(data: bytes, schema: pa.Schema, longest: int) -> pa.Table | None:
    """What arrow reads in lines of JSON, none longer than ``longest``; None where it finds fault with any."""
    parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pa.json.ReadOptions(block_size=max(_BLOCK, longest))
    try:
        return pa.json.read_json(pa.BufferReader(data), read_options=read, parse_options=parse)
    except pa.ArrowException:
        return None


def _parse_plain(blobs: Mapping[str, bytes], table: str) -> pa.Table | None:
    """The table of plain lines by arrow's own parser; None where it finds fault with any of them."""
    data = b"".join(blobs.values())
    if not data:
        return empty(table)
    parsed = _read_json(data, pa.schema(_fields(table)), 0)
    lengths = [blob.count(b"\n") for blob in blobs.values()]
    if parsed is None or parsed.num_rows != sum(lengths) or not all(map(_is_usual, parsed.columns)):
        return None
    return _with_run_ids(parsed, table, list(blobs), lengths)


def _parsed_type(kind: str) -> pa.DataType:
    """The type before names become dictionaries."""
    return arrow_type("string" if kind == "name" else kind)


def _is_usual(column: pa.ChunkedArray) -> bool:
    """Whether every number is finite, no text too long."""
    if pa.types.is_floating(column.type):
        return pc.all(pc.is_finite(column)).as_py() in (True, None)
    if pa.types.is_string(column.type):
        return (pc.max(pc.binary_length(column)).as_py() or 0) <= LONGEST
    return True


def _with_run_ids(parsed: pa.Table, table: str, run_ids: list[str], lengths: list[int]) -> pa.Table:
    """``parsed``, whose rows are ``lengths`` of each run in turn, with ``run_id`` and dictionaries."""
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
