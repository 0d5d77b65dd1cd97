"""Write and read tables as parquet files with the types of ``bench/columns.yaml``, and ``runs`` also as CSV.

Each file is written under another name and renamed when it is complete. Pages carry checksums.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.results.files import MAX_BYTES, StoreError, read_bytes, replacing, shell_path, write_bytes
from bench.results.tables.arrow import arrow_type, empty, to_pandas
from bench.results.tables.columns import TABLES, kinds

#: Tables that older versions did not write, each with a metric that exactly the runs with rows in it have.
_LATER = {"selective": "aurc"}
#: Last columns of a table that older versions did not write; they are null there.
_LATER_COLUMNS = {"layers": ("regrown", "age_q50", "removed_age_q50")}
#: Numbers that change when a file is changed or replaced.
Stamp = tuple[int, ...]
_SUFFIX = ".parquet"
#: A table may have this many values, plus this many for each byte of its file.
_CELLS, _CELLS_PER_BYTE = 2**26, 16


class Damaged(Exception):
    """Report a stored table that cannot be read, or is not the one that was written."""


def paths(folder: Path) -> dict[str, Path]:
    """Return the paths of the tables in the folder of a suite and of ``runs.csv``, by name."""
    return {name: folder / f"{name}{_SUFFIX}" for name in TABLES} | {"runs.csv": folder / "runs.csv"}


def stamp(path: Path | str) -> Stamp:
    """Return size, times and inode of a regular file; an empty tuple if there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    if not stat.S_ISREG(found.st_mode):
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@contextlib.contextmanager
def writer(path: Path, schema: pa.Schema, level: int | None = None) -> Iterator[pq.ParquetWriter]:
    """Write ``path`` part by part; the file is replaced when the block ends, and unchanged if it fails.

    ``level`` is that of the compression; None is quick.
    """
    numbers = {field.name for field in schema if pa.types.is_floating(field.type)}
    with (
        replacing(path) as file,
        pq.ParquetWriter(
            pa.PythonFile(file, mode="w"),
            schema,
            compression="zstd",
            compression_level=level,
            # bytes of many numbers that stand at the same place are alike
            use_byte_stream_split=sorted(numbers),
            use_dictionary=[name for name in schema.names if name not in numbers],
            write_page_checksum=True,
        ) as sink,
    ):
        yield sink


def schema_of(name: str) -> pa.Schema:
    """Return the columns of the table ``name``; for ``runs`` without the ``config.`` columns."""
    return pa.schema([(column, arrow_type(kind)) for column, kind in kinds(name).items()])


def write_runs(folder: Path, table: pa.Table) -> None:
    """Write the table ``runs`` as parquet and as CSV into the folder of a suite."""
    where = paths(folder)
    with writer(where["runs"], table.schema) as sink:
        sink.write_table(table)
    write_bytes(where["runs.csv"], to_pandas(table).to_csv(index=False).encode())


def read(folder: Path, names: Sequence[str] = TABLES) -> dict[str, pd.DataFrame]:
    """Read the tables ``names`` from the folder of a suite.

    ``selective`` is empty if an older version wrote the tables and no run had rows for it, and columns that
    an older version did not write are null.

    Raises
    ------
    StoreError
        A table is missing, broken or of another version; the message says which command writes it anew.
    """
    command = (
        f"python -m bench.collect --suite {folder.name} --results {shell_path(folder.parent)} --recompute"
    )
    remedy = f"{command} writes it anew"
    tables = {}
    for name in names:
        path = paths(folder)[name]
        data = read_bytes(path)
        if data is None and _was_never_written(folder, name):
            tables[name] = to_pandas(empty(name))
            continue
        if data is None:
            raise StoreError(f"{path}: no such file; {remedy}")
        try:
            found, fixed = _small(data, path).schema_arrow, list(schema_of(name))
            later = [field for field in fixed if field.name in _LATER_COLUMNS.get(name, ())]
            absent = [] if any(field.name in found.names for field in later) else later
            fixed = fixed[: len(fixed) - len(absent)]
            if [(field.name, field.type) for field in found][: len(fixed)] != [
                (field.name, field.type) for field in fixed
            ]:
                raise StoreError(f"{path}: columns of another version; {remedy}")
            texts = [field.name for field in found if field.type == pa.string()]
            # repeated texts are read once each, until the length of all of them together has been checked
            table = pq.read_table(
                pa.BufferReader(data), page_checksum_verification=True, read_dictionary=texts
            )
            if sum(map(_text_bytes, table.columns)) > MAX_BYTES:
                raise StoreError(f"{path}: more than {MAX_BYTES} bytes of text; {remedy}")
            table = table.cast(found)
            for field in absent:
                table = table.append_column(field, pa.nulls(len(table), field.type))
            tables[name] = to_pandas(table)
        except (pa.ArrowException, OSError, ValueError):
            raise StoreError(f"{path}: not a table; {remedy}") from None
    return tables


def _was_never_written(folder: Path, name: str) -> bool:
    """Tell whether a table is missing because an older version did not write it, not because it was lost."""
    if name not in _LATER:
        return False
    metrics = read(folder, ["metrics"])["metrics"]["metric"]
    return not metrics.eq(_LATER[name]).any()


def _small(data: bytes, path: Path) -> pq.ParquetFile:
    """Open a table without loading it; raise ``StoreError`` if it is far larger than its file.

    A column that repeats one value takes almost no space in a file, however many rows it has.
    """
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    cells = file.metadata.num_rows * max(file.metadata.num_columns, 1)
    if cells > (most := _CELLS + _CELLS_PER_BYTE * len(data)):
        raise StoreError(f"{path}: {cells} values in {len(data)} bytes; the limit is {most}")
    return file


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Count the bytes of the texts of a column, repeated ones each time."""
    if not pa.types.is_dictionary(column.type):
        return 0
    return sum(
        pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0 for chunk in column.chunks
    )


class Slices:
    """Read rows of a stored table with one row group in memory at a time.

    Raises
    ------
    Damaged
        The file cannot be read or does not have the columns of ``schema``.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        with self._read():
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            if not self._file.schema_arrow.equals(schema):
                raise Damaged(f"{path}: columns of another version")
            sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._bounds = [0, *itertools.accumulate(sizes)]
        self._last: tuple[int, pa.Table] | None = None

    @property
    def stop(self) -> int:
        """Return the number of rows."""
        return self._bounds[-1]

    def is_group(self, start: int, stop: int) -> bool:
        """Tell whether the rows from ``start`` to ``stop`` (exclusive) are exactly one row group."""
        at = bisect.bisect_left(self._bounds, start)
        return self._bounds[at : at + 2] == [start, stop]

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return the rows from ``start`` to ``stop`` (exclusive); a whole row group comes back as written."""
        pieces = [self._schema.empty_table()]
        group = max(bisect.bisect_right(self._bounds, start) - 1, 0)
        while start < stop:
            end = min(stop, self._bounds[group + 1])
            pieces.append(self._group(group).slice(start - self._bounds[group], end - start))
            start, group = end, group + 1
        return pieces[1] if len(pieces) == 2 else pa.concat_tables(pieces)

    def _group(self, group: int) -> pa.Table:
        if self._last is None or self._last[0] != group:
            with self._read():
                self._last = group, self._file.read_row_group(group)
        return self._last[1]

    @contextlib.contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            raise Damaged(f"{self._path}: {error}") from None
