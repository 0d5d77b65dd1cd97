"""Tables on disk: parquet with the types of ``bench/columns.yaml``, and ``runs`` as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.columns import TABLES, kinds
from bench.files import StoreError, read_bytes, write_bytes
from bench.rows import arrow_type, to_pandas


def paths(folder: Path) -> dict[str, Path]:
    """Where the tables of a suite lie, by name, and ``runs.csv``."""
    return {name: folder / f"{name}.parquet" for name in TABLES} | {"runs.csv": folder / "runs.csv"}


def write(folder: Path, tables: Mapping[str, pd.DataFrame]) -> dict[str, Path]:
    """Write ``tables`` as parquet, ``runs`` as CSV too, each file atomically; returns ``paths``."""
    where = paths(folder)
    for name in TABLES:
        frame = tables[name]
        table = pa.Table.from_pandas(frame, schema=_schema(name, frame), preserve_index=False)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_bytes(where[name], sink.getvalue())
    write_bytes(where["runs.csv"], tables["runs"].to_csv(index=False).encode())
    return where


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables that ``write`` wrote; ``StoreError`` when one is missing, broken or of another version."""
    command = f"python -m bench.collect --suite {folder.name} --results {folder.parent} --recompute"
    remedy = f"{command} writes it anew"
    tables = {}
    for name in TABLES:
        path = paths(folder)[name]
        data = read_bytes(path)
        if data is None:
            raise StoreError(f"{path}: no such file; {remedy}")
        try:
            table = pq.read_table(pa.BufferReader(data))
            fixed = [(column, arrow_type(kind)) for column, kind in kinds(name).items()]
            if [(field.name, field.type) for field in table.schema][: len(fixed)] != fixed:
                raise StoreError(f"{path}: columns of another version; {remedy}")
            tables[name] = to_pandas(table)
        except (pa.ArrowException, OSError, ValueError):
            raise StoreError(f"{path}: not a table; {remedy}") from None
    return tables


def _schema(name: str, frame: pd.DataFrame) -> pa.Schema:
    """The types that the definitions give, and for ``config.*`` those of the frame."""
    fixed = kinds(name)
    found = pa.Schema.from_pandas(frame[[c for c in frame.columns if c not in fixed]], preserve_index=False)
    plain = {pa.large_string(): pa.string()}
    others = [(field.name, plain.get(field.type, field.type)) for field in found]
    return pa.schema([*((column, arrow_type(kind)) for column, kind in fixed.items()), *others])
