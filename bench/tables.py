"""The tables of a suite: a pure function of its plans and of the run folders.

A failed run is a row with its reason and no metrics, a corrupted folder is a failed run, a
run that is planned and not there is a row too: nothing is missing in silence, and only
what is done is ever a result.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.columns import TABLES, definitions, kinds
from bench.facts import FILES, LINES, LISTS, Facts, Stored, read_run, scalars
from bench.files import StoreError
from bench.folder import RunFolder
from bench.planfile import Planned
from bench.rows import arrow_type, checked, empty, parse_lines, table_of, to_pandas

_BATCH = 256
_LONGEST_ERROR = 1000
#: Columns of ``runs`` that are a measured figure over that of dense VI.
_MEASURED = {"step_time_ratio": "seconds_per_step", "peak_memory_ratio": "peak_memory_bytes"}
#: What may differ between a run and the one of dense VI: the method, and what no step takes longer for, which
#: is searched for each method or, with a budget, the length of training.
_NOT_COMPARED = tuple(
    f"config.training.{key}" for key in ("budget", "lr", "lr_scale", "momentum", "weight_decay")
)
#: Columns of ``runs`` that the labels of a plan may tell of a run that has not said anything yet.
_LABELS = ("method", "dataset", "network", "sparsity", "criterion", "addition", "seed", "epochs", "budget")


def build(planned: Sequence[Planned], folder: Callable[[str], RunFolder]) -> dict[str, pd.DataFrame]:
    """Every table of ``TABLES`` for the runs of ``planned``, whose folders ``folder`` gives.

    Rows stand in the order of ``planned``; long tables have each run once.
    """
    facts: dict[str, Facts | str] = {}
    parts: dict[str, list[pa.Table]] = {name: [empty(name)] for name in TABLES if name != "runs"}
    folders = [folder(run_id) for run_id in dict.fromkeys(run.run_id for run in planned)]
    for start in range(0, len(folders), _BATCH):
        found, tables = _read_batch(folders[start : start + _BATCH])
        facts |= found
        for name, table in tables.items():
            parts[name].append(table)
    frames = {"runs": _runs_table([(run, facts[run.run_id]) for run in planned])}
    for name, pieces in parts.items():
        frames[name] = to_pandas(pa.concat_tables(pieces).unify_dictionaries().combine_chunks())
    return frames


def fault(folder: RunFolder) -> str | None:
    """Why the folder of a run can't be trusted, in one line; None when it can, or is not there."""
    found = _read_batch([folder])[0][folder.run_id]
    return found if isinstance(found, str) else None


def signature(planned: Iterable[Planned], folder: Callable[[str], RunFolder]) -> str:
    """Digest of what ``build`` would read: another one whenever the plans or a file of a run changed.

    Files are replaced or grow, so size, time and inode tell; they are not opened.
    """
    digest = hashlib.blake2b(repr(definitions()).encode(), digest_size=16)
    for run in planned:
        path = str(folder(run.run_id).path)
        found = [_stamp(f"{path}/{name}") for name in FILES]
        digest.update(f"{run} {found}\n".encode())
    return digest.hexdigest()


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _read_batch(folders: list[RunFolder]) -> tuple[dict[str, Facts | str], dict[str, pa.Table]]:
    """Facts (or the reason why there are none) by run id, and the long tables of the sound runs."""
    stored: dict[str, Stored] = {}
    reasons: dict[str, str] = {}
    for folder in folders:
        try:
            stored[folder.run_id] = read_run(folder)
        except StoreError as error:
            reasons[folder.run_id] = str(error)
    tables, broken = _parse(stored)
    reasons |= broken
    sound = {run_id: run for run_id, run in stored.items() if run_id not in broken}
    if broken:
        tables, _ = _parse(sound)  # anew: what a broken run calls things is no name of any column
    for name in LISTS:
        tables[name] = table_of({run_id: run.lists[name] for run_id, run in sound.items()}, name)
    return {run_id: run.facts for run_id, run in sound.items()} | reasons, tables


def _parse(runs: Mapping[str, Stored]) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """The tables of lines of several runs, and why each broken run is left out of one of them."""
    tables: dict[str, pa.Table] = {}
    broken: dict[str, str] = {}
    for name in LINES:
        tables[name], reasons = parse_lines({run_id: run.lines[name] for run_id, run in runs.items()}, name)
        broken |= reasons
    return tables, broken


def _runs_table(runs: Sequence[tuple[Planned, Facts | str]]) -> pd.DataFrame:
    rows = [_run_row(plan, facts) for plan, facts in runs]
    configs = [{} if isinstance(facts, str) else facts.config for _, facts in runs]
    _compare_with_dense_vi(rows, [facts for _, facts in runs])
    table = {
        column: pa.array([row.get(column) for row in rows], arrow_type(kind))
        for column, kind in kinds("runs").items()
    }
    for key in sorted({key for config in configs for key in config}):
        table[key] = _config_column([config.get(key) for config in configs])
    return to_pandas(pa.table(table))


def _compare_with_dense_vi(rows: Sequence[dict[str, Any]], found: Sequence[Facts | str]) -> None:
    """Add what is measured as a ratio to the one dense VI run that differs in its method alone, or beside it
    in ``_NOT_COMPARED``."""
    alone = []
    for row, facts in zip(rows, found, strict=True):
        if isinstance(facts, Facts) and row.get("concurrency") == 1:
            rest = {key: value for key, value in facts.config.items() if not _may_differ(key)}
            alone.append((row, (row["scale"], *facts.circumstances, repr(sorted(rest.items())))))
    dense: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row, where in alone:
        if row.get("method") == "dense_vi":
            dense.setdefault(where, {})[row["run_id"]] = row
    for row, where in alone:
        bases = list(dense.get(where, {}).values())
        for ratio, measured in _MEASURED.items():
            base, value = bases[0].get(measured) if len(bases) == 1 else None, row.get(measured)
            row[ratio] = value / base if value is not None and base else None


def _may_differ(key: str) -> bool:
    return key.startswith("config.method.") or key in _NOT_COMPARED


def _run_row(plan: Planned, facts: Facts | str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": plan.run_id,
        "config_id": plan.config_id,
        "config_label": plan.label,
        "suite": plan.suite,
        "scale": plan.scale,
        "recipe": plan.recipe,
        "tuned": plan.tuned,
    }
    if isinstance(facts, str):
        row |= _from_labels(plan.labels) | {"status": "failed", "error_kind": "corrupted", "error": facts}
    else:
        row |= facts.columns if facts.has_spec else _from_labels(plan.labels) | facts.columns
    if row["error"] is not None:
        row["error"] = " ".join(row["error"].split())[:_LONGEST_ERROR]
    return row


def _from_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan's labels say of a run that says nothing itself."""
    row: dict[str, Any] = {}
    for column in _LABELS:
        try:
            row |= scalars(labels, (column,), "labels")
        except StoreError:
            continue  # a label that is not of the column's type is no value of the column
    return row


def _config_column(values: list[Any]) -> pa.Array:
    """One type a column: that of its values where they agree, else their JSON text."""
    types = {type(value) for value in values if value is not None}
    try:
        if types == {bool}:
            return pa.array(values, arrow_type("boolean"))
        if types == {int}:
            return pa.array(checked(values, "integer", ""), arrow_type("integer"))
        if types and types <= {int, float}:
            return pa.array(checked(values, "number", ""), arrow_type("number"))
    except StoreError:
        pass  # a number too large for the column is shown as text
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array(texts, arrow_type("string"))
