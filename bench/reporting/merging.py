"""Merge the tables of a suite into published ones, run by run.

A finished run that is published already stays as it was published, unless it was evaluated on further sets
since. Two sides that contradict each other are refused, since nobody could tell which of them is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.reporting.rounding import KEPT, rounded
from bench.results import plans as planfile
from bench.results.files import StoreError
from bench.results.store import Store
from bench.results.tables import parquet
from bench.results.tables.arrow import empty
from bench.results.tables.columns import TABLES, kinds

#: Columns of ``runs`` that compare a run with the dense VI of its folder, which may have come later.
_COMPARED = ("step_time_ratio", "peak_memory_ratio")
_REMEDY = "publishing without --merge replaces the suite"

#: Level of the compression of published tables: slow and small.
_LEVEL = 19

Tables = dict[str, pa.Table]


def merged(published: Store, store: Store, suite: str) -> tuple[list[dict[str, Any]], Tables]:
    """Merge the plans and tables of a suite.

    Parameters
    ----------
    published
        Folder with published tables of the suite.
    store
        Results folder with tables of the suite.
    suite
        Name of the suite.

    Returns
    -------
    tuple
        Plans, sorted by scale, and tables by name.

    Raises
    ------
    StoreError
        If the two contradict each other: another reference, another configuration under a label, other
        scores of a run, or finished runs of another version of torch or kind of device.
    """
    plans = _plans(published, store, suite)
    old, new = read(published, suite), read(store, suite)
    _check_alike(suite, old["runs"], new["runs"])
    renewed = _renewed(suite, old, new)
    tables = {"runs": _runs(suite, plans, old["runs"], new["runs"], renewed)}
    order = list(dict.fromkeys(tables["runs"].column("run_id").to_pylist()))
    for name in TABLES[1:]:
        kept = _of_runs(old[name], [run_id for run_id in order if run_id not in renewed])
        added = _of_runs(new[name], [run_id for run_id in order if run_id in renewed])
        tables[name] = pa.concat_tables([kept, added]).unify_dictionaries().combine_chunks()
    return plans, tables


def _plans(published: Store, store: Store, suite: str) -> list[dict[str, Any]]:
    plans = {plan["scale"]: plan for plan in published.plans(suite)}
    for new in store.plans(suite):
        scale, old = new["scale"], plans.get(new["scale"])
        if old is not None:
            where = f"{published.root}: {suite}, scale {scale}"
            theirs, ours = (json.dumps(plan.get("reference")) for plan in (old, new))
            if theirs != ours:
                raise StoreError(
                    f"{where}: is published with the reference {theirs}; that of {store.root} is {ours}; "
                    f"{_REMEDY}"
                )
            if label := planfile.superseded(old, new):
                raise StoreError(
                    f"{where}: {label!r} is published with other settings, or another version of its method, "
                    f"than in {store.root}; {_REMEDY}"
                )
        plans[scale] = planfile.merge(old, new)
    return [plans[scale] for scale in sorted(plans)]


def read(store: Store, suite: str) -> Tables:
    """Read tables as they are published, once they are known to be of this version: long ones rounded."""
    store.read_tables(suite)
    tables = {}
    for name, path in parquet.paths(store.root / suite).items():
        if name in TABLES:
            table = pq.read_table(path) if path.exists() else empty(name)
            for field in parquet.schema_of(name):
                if field.name not in table.column_names:  # an older version did not write it
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            tables[name] = rounded(table, KEPT[name]) if name in KEPT else table
    return tables


def _check_alike(suite: str, old: pa.Table, new: pa.Table) -> None:
    """Refuse to mix finished runs of a scale from two versions of torch or two kinds of device."""
    facts: list[dict[str, dict[str, set[str]]]] = []
    for runs in (old, new):
        found: dict[str, dict[str, set[str]]] = {}
        finished = runs.filter(pc.equal(runs.column("status"), "done"))
        for row in finished.select(["scale", "torch_version", "device"]).to_pylist():
            device = (row["device"] or "").partition(":")[0]
            for what, value in (("version of torch", row["torch_version"]), ("kind of device", device)):
                if value:
                    found.setdefault(row["scale"], {}).setdefault(what, set()).add(value)
        facts.append(found)
    theirs, ours = facts
    for scale in sorted(theirs.keys() & ours.keys()):
        for what in sorted(theirs[scale].keys() & ours[scale].keys()):
            if foreign := sorted(ours[scale][what] - theirs[scale][what]):
                known = ", ".join(sorted(theirs[scale][what]))
                raise StoreError(
                    f"{suite}, scale {scale}: the {what} of finished runs is {foreign[0]}, that of the "
                    f"published ones {known}; {_REMEDY}"
                )


def _renewed(suite: str, old: Tables, new: Tables) -> set[str]:
    """Return the finished runs to take from ``new``: those that ``old`` lacks, or has fewer metrics of.

    Raises
    ------
    StoreError
        If a run has other values of a metric in both.
    """
    before, now = (_finished(tables["runs"]) for tables in (old, new))
    shared = sorted(before & now)
    theirs, ours = (_values(tables["metrics"], shared) for tables in (old, new))
    found = now - before
    for run_id in shared:
        published, computed = theirs.get(run_id, {}), ours.get(run_id, {})
        for key in published.keys() & computed.keys():
            if published[key] != computed[key]:
                what = " ".join(str(part) for part in key if part is not None)
                raise StoreError(
                    f"{suite}: run {run_id} is published with other results (`{what}`: {published[key][0]}, "
                    f"here {computed[key][0]}); {_REMEDY}"
                )
        if computed.keys() > published.keys():
            found.add(run_id)
    return found


def _finished(runs: pa.Table) -> set[str]:
    return set(runs.filter(pc.equal(runs.column("status"), "done")).column("run_id").to_pylist())


def _values(metrics: pa.Table, run_ids: Sequence[str]) -> dict[str, dict[tuple[Any, ...], tuple[Any, Any]]]:
    """Return value and number of examples of each metric of each run, by what tells metrics apart."""
    found: dict[str, dict[tuple[Any, ...], tuple[Any, Any]]] = {}
    for row in _of_runs(metrics, run_ids).to_pylist():
        run_id, value = row.pop("run_id"), (row.pop("value"), row.pop("n"))
        found.setdefault(run_id, {})[tuple(row.values())] = value
    return found


def _of_runs(table: pa.Table, run_ids: Iterable[str]) -> pa.Table:
    wanted = pa.array(list(run_ids), pa.string())
    return table.filter(pc.is_in(table.column("run_id").cast(pa.string()), value_set=wanted))


def _runs(
    suite: str, plans: Sequence[Mapping[str, Any]], old: pa.Table, new: pa.Table, renewed: set[str]
) -> pa.Table:
    """Return a row for each planned run: the published one, unless the run is renewed or was not finished."""
    both, finished = _joined(old, new), _finished(old)
    theirs: dict[tuple[str, str], int] = {}
    ours: dict[tuple[str, str], int] = {}
    for at, key in enumerate(zip(*(both.column(c).to_pylist() for c in ("scale", "run_id")), strict=True)):
        (theirs if at < len(old) else ours)[key] = at
    rows, others = [], []
    planned = planfile.planned(plans)
    for run in planned:
        key = (run.scale, run.run_id)
        kept = run.run_id in finished and run.run_id not in renewed
        found = [each[key] for each in ((theirs, ours) if kept else (ours, theirs)) if key in each]
        if not found:
            raise StoreError(
                f"{suite}, scale {run.scale}: run {run.run_id} of the plan is in no table; "
                f"python -m bench.collect --suite {suite} writes the tables anew"
            )
        rows.append(found[0])
        others.append(found[-1])
    table, other = (both.take(pa.array(places, pa.int64())) for places in (rows, others))
    told: dict[str, Any] = {
        "config_label": pa.array([run.label for run in planned], pa.string()),
        "recipe": pa.array([run.recipe for run in planned], pa.string()),
        "tuned": pa.array([run.tuned for run in planned], pa.bool_()),
    }
    told |= {name: pc.coalesce(table.column(name), other.column(name)) for name in _COMPARED}
    for name, column in told.items():
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    return table.combine_chunks()


def _joined(old: pa.Table, new: pa.Table) -> pa.Table:
    """Join two tables ``runs``. Columns of settings that only one of them has are null in the other."""
    names = list(kinds("runs"))
    names += sorted({*old.column_names, *new.column_names} - set(names))
    columns = {}
    for name in names:
        parts = [
            table.column(name) if name in table.column_names else pa.chunked_array([pa.nulls(len(table))])
            for table in (old, new)
        ]
        columns[name] = pa.chunked_array([chunk for part in _alike(parts) for chunk in part.chunks])
    return pa.table(columns)


def _alike(parts: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Give the parts of a column one type: that of those with values, or text if these differ in kind."""
    types = {part.type for part in parts if part.null_count < len(part)} or {parts[0].type, parts[1].type}
    types.discard(pa.null())
    if types == {pa.int64(), pa.float64()}:
        types = {pa.float64()}
    if len(types) == 1:
        (type_,) = types
        return [
            part.cast(type_)
            if part.null_count < len(part)
            else pa.chunked_array([pa.nulls(len(part), type_)])
            for part in parts
        ]
    texts = [
        [
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in part.to_pylist()
        ]
        for part in parts
    ]
    return [pa.chunked_array([pa.array(values, pa.string())]) for values in texts]


def write(folder: Path, tables: Tables) -> None:
    """Write tables into ``folder``, as small as can be."""
    for name, path in parquet.paths(folder).items():
        if name in tables:
            with parquet.writer(path, tables[name].schema, _LEVEL) as sink:
                sink.write_table(tables[name])
