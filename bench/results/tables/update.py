"""Bring the stored tables of a suite up to date by reading only the runs that changed.

A file beside the tables stores the facts of each run (see ``batches``), the stamps of the files that they
were read from, and the stamps of the tables. While the files of a run keep their stamps, its facts come from
this file and its rows from the tables. If the file or a table is damaged or of another version, everything is
read anew. Tables are written one batch of runs at a time, so that memory does not grow with their size.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.results.files import StoreError, clock, locked, read_bytes, remove_leftovers
from bench.results.plans import Planned
from bench.results.run_folder import RunFolder
from bench.results.tables import parquet
from bench.results.tables.batches import LONG, SIZE, facts_schema, read
from bench.results.tables.build import runs_table
from bench.results.tables.columns import definitions
from bench.results.tables.run_reader import FILES, Renewed

#: File with the facts and stamps of the collected runs, beside the tables.
FILE = ".collected.parquet"
_LOCK = ".collecting"
#: Modules that decide how a run folder is read or stored; the tables are made anew when one of them changes.
_DECIDING = (
    *("beside", "files", "run_folder"),
    *("tables/arrow", "tables/batches", "tables/build", "tables/metrics_reader", "tables/parquet"),
    *("tables/run_reader", "tables/update"),
)
#: Two changes of a file within this many nanoseconds may get the same time from the file system.
_TICK = 20_000_000
_STAMP, _HEAD = ".stamp", b"collected"


@dataclass(frozen=True)
class _Before:
    """Hold what was collected before: the plan's digest, and facts with stamps in the order of the tables."""

    plan: str
    facts: pa.Table

    @property
    def stamps(self) -> dict[str, str]:
        """Return the stamp of each run, in order."""
        return dict(zip(*(self.facts.column(name).to_pylist() for name in ("run_id", _STAMP)), strict=True))


def update(
    where: Path,
    planned: Sequence[Planned],
    folder: Callable[[str], RunFolder],
    renewed: Renewed | None = None,
) -> None:
    """Bring the tables in a suite's folder up to date.

    Files whose content would not change are left alone. A lock lets one process at a time do this. On a file
    system without locks two processes may mix their tables; the next call notices this and makes them anew.

    Parameters
    ----------
    where
        Folder of the suite.
    planned
        The runs that the suite asks for.
    folder
        Returns the folder of a run id.
    renewed
        Read every run, make its metrics again by this function (see ``read_run``), and write every table
        anew. None reads only the runs that changed.
    """
    folders = [folder(run_id) for run_id in dict.fromkeys(run.run_id for run in planned)]
    with locked(where / _LOCK):
        remove_leftovers(where)
        stamps, plan = _stamps(where, folders), _digest(repr(planned).encode())
        before = None if renewed is not None else _read(where)
        if before is not None:
            same = list(before.stamps.items()) == list(stamps.items()) and all(stamps.values())
            if same and before.plan == plan:
                return
            # rows are copied from the old tables while the new ones are written; if an old one turns out to
            # be damaged, everything is made anew below
            with contextlib.suppress(parquet.Damaged):
                _write(where, planned, folders, stamps, plan, before)
                return
        _write(where, planned, folders, stamps, plan, None, renewed)


def _write(
    where: Path,
    planned: Sequence[Planned],
    folders: Sequence[RunFolder],
    stamps: Mapping[str, str],
    plan: str,
    before: _Before | None,
    renewed: Renewed | None = None,
) -> None:
    source = _Source(where, before, stamps, renewed)
    facts = [facts_schema().empty_table()]
    paths = parquet.paths(where)
    rewritten = () if source.has_exactly([folder.run_id for folder in folders]) else LONG
    with contextlib.ExitStack() as stack:
        writers = {
            name: stack.enter_context(parquet.writer(paths[name], parquet.schema_of(name)))
            for name in rewritten
        }
        for start in range(0, len(folders), SIZE):
            part, tables = source.batch(folders[start : start + SIZE], rewritten)
            facts.append(part)
            for name, table in tables.items():
                if len(table):
                    writers[name].write_table(table)
    every = pa.concat_tables(facts)
    parquet.write_runs(where, runs_table(planned, every))
    head = {"made": _made(), "plan": plan, "tables": {n: parquet.stamp(p) for n, p in paths.items()}}
    kept = every.append_column(_STAMP, pa.array([stamps[f.run_id] for f in folders], pa.string()))
    kept = kept.replace_schema_metadata({_HEAD: json.dumps(head).encode()})
    with parquet.writer(where / FILE, kept.schema) as sink:
        sink.write_table(kept)


class _Source:
    """Get batches of runs: unchanged runs from what was collected before, others from their folders."""

    def __init__(
        self, where: Path, before: _Before | None, stamps: Mapping[str, str], renewed: Renewed | None
    ) -> None:
        self._renewed = renewed
        self._facts = facts_schema().empty_table() if before is None else before.facts.drop_columns([_STAMP])
        old = {} if before is None else before.stamps
        self._place = {
            run_id: place
            for place, (run_id, stamp) in enumerate(old.items())
            if stamp and stamps.get(run_id) == stamp
        }
        self._runs = list(old)
        self._slices: dict[str, parquet.Slices] = {}
        self._ends: dict[str, list[int]] = {}
        paths = parquet.paths(where)
        for name in LONG if before is not None else ():
            self._slices[name] = parquet.Slices(paths[name], parquet.schema_of(name))
            self._ends[name] = _ends(self._facts.column(f".rows.{name}").to_pylist())
            if self._ends[name][-1] != self._slices[name].stop:
                raise parquet.Damaged(f"{paths[name]}: other rows than were collected")

    def has_exactly(self, run_ids: Sequence[str]) -> bool:
        """Tell whether the stored long tables already hold exactly the runs ``run_ids``, all unchanged."""
        return bool(self._slices) and self._runs == run_ids and len(self._place) == len(run_ids)

    def batch(
        self, folders: Sequence[RunFolder], names: Sequence[str]
    ) -> tuple[pa.Table, dict[str, pa.Table]]:
        """Return the facts of the runs in ``folders``, in order, and their rows of the tables ``names``."""
        fresh = read([folder for folder in folders if folder.run_id not in self._place], self._renewed)
        if len(fresh.facts) == len(folders):
            return fresh.facts, fresh.tables
        known = [self._place[f.run_id] for f in folders if f.run_id in self._place]
        both = pa.concat_tables([self._facts.take(pa.array(known, pa.int64())), fresh.facts])
        at = {run_id: number for number, run_id in enumerate(both.column("run_id").to_pylist())}
        facts = both.take(pa.array([at[folder.run_id] for folder in folders], pa.int64()))
        tables = {}
        for name in names:
            ends = _ends(fresh.facts.column(f".rows.{name}").to_pylist())
            stored, old = self._slices[name], self._ends[name]
            stretches = list(self._stretches(folders))
            pieces = [
                stored.rows(old[first], old[last])
                if known
                else fresh.tables[name].slice(ends[first], ends[last] - ends[first])
                for known, first, last in stretches
            ]
            _, first, last = stretches[0]
            as_it_was = len(stretches) == 1 and stored.is_group(old[first], old[last])
            tables[name] = pieces[0] if as_it_was else _encoded(pieces)
        return facts, tables

    def _stretches(self, folders: Sequence[RunFolder]) -> Iterator[tuple[bool, int, int]]:
        """Group runs that are consecutive in their source.

        Yields whether they were collected before, and the first and last (exclusive) place in the source.
        """
        places, number = [], 0
        for folder in folders:
            place = self._place.get(folder.run_id)
            places.append((place is not None, number if place is None else place))
            number += place is None
        numbered = enumerate(places)
        for (known, _), group in groupby(numbered, lambda item: (item[1][0], item[1][1] - item[0])):
            found = [place for _, (_, place) in group]
            yield known, found[0], found[-1] + 1


def _ends(counts: Sequence[int]) -> list[int]:
    """Return the row at which each run starts, followed by the total number of rows."""
    ends = [0]
    for count in counts:
        ends.append(ends[-1] + count)
    return ends


def _encoded(pieces: Sequence[pa.Table]) -> pa.Table:
    """Join ``pieces``; dictionaries then hold only values that occur, in order of first appearance."""
    table = pa.concat_tables(pieces)
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table.column(number).cast(field.type.value_type).combine_chunks()
            table = table.set_column(number, field, plain.dictionary_encode())
    return table


def _read(where: Path) -> _Before | None:
    """Read what was collected into the tables in ``where``; None unless it is complete and fits them."""
    with contextlib.suppress(StoreError, pa.ArrowException, ValueError, RecursionError, OSError):
        data = read_bytes(where / FILE)
        if data is None:
            return None
        # the head is checked first: facts that do not belong to exactly these tables are not read
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        head = json.loads((file.schema_arrow.metadata or {}).get(_HEAD, b"null"))
        if not isinstance(head, dict) or head.get("made") != _made() or not isinstance(head.get("plan"), str):
            return None
        now = {name: list(parquet.stamp(path)) for name, path in parquet.paths(where).items()}
        if head.get("tables") != now:
            return None
        facts = file.read().replace_schema_metadata(None)
        if facts.schema == facts_schema().append(pa.field(_STAMP, pa.string())):
            return _Before(head["plan"], facts) if _is_sound(facts) else None
    return None


def _is_sound(facts: pa.Table) -> bool:
    """Check what the types of the columns do not ensure: unique runs, no nulls, valid counts and JSON."""
    run_ids = facts.column("run_id").to_pylist()
    full = [field.name for field in facts.schema if field.name.startswith(".")]
    if len(set(run_ids)) != len(run_ids) or any(facts.column(n).null_count for n in ["run_id", *full]):
        return False
    if any(count < 0 for name in LONG for count in facts.column(f".rows.{name}").to_pylist()):
        return False
    return all(isinstance(json.loads(text), dict) for text in facts.column(".config").to_pylist())


def _made() -> str:
    """Compute a digest of the definitions of columns and of the code that reads run folders."""
    package = importlib.resources.files("bench.results")
    sources = [package.joinpath(f"{name}.py").read_bytes() for name in _DECIDING]
    return _digest(b"\0".join([repr(definitions()).encode(), *sources]))


def _stamps(where: Path, folders: Sequence[RunFolder]) -> dict[str, str]:
    """Return the stamp of each run's files; an empty one if a file changed a moment ago.

    ``where`` is a folder on the file system of the runs, by whose clock files change.
    """
    found = {folder.run_id: _stamp(folder.path) for folder in folders}
    limit = clock(where) - _TICK
    if young := [folder for folder in folders if found[folder.run_id][1] > limit]:
        # wait, since another change within the same tick might get the same time
        time.sleep(_TICK / 1e9)
        limit = clock(where) - _TICK
        found |= {folder.run_id: _stamp(folder.path) for folder in young}
    return {run_id: stamp if changed <= limit else "" for run_id, (stamp, changed) in found.items()}


def _stamp(path: Path) -> tuple[str, int]:
    """Return the stamp of a run's folder, and the time in nanoseconds at which a file of it last changed.

    The stamp of its status stands for files of evaluation sets, which are written once, before the status.
    """
    # plain strings, which are fast: this is done for every file of every run
    place, parts, changed = str(path), [], 0
    for name in ("", *FILES):
        try:
            found = os.lstat(f"{place}/{name}" if name else place)
        except OSError:
            parts.append("-")
            continue
        kind = stat.S_IFMT(found.st_mode)
        if not name:
            parts.append(f"{kind}")
            continue
        parts.append(f"{kind} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}")
        changed = max(changed, found.st_ctime_ns)
    return "|".join(parts), changed


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
