"""The tables of a suite: a pure function of its plans and of the run folders.

A failed run is a row with its reason and no metrics, a corrupted folder is a failed run, a
run that is planned and not there is a row too: nothing is missing in silence, and only
what is done is ever a result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from bench.columns import TABLES, kinds
from bench.files import StoreError, read_bytes, write_bytes
from bench.folder import RUN_ID, RunFolder, status_of
from bench.planfile import Planned
from bench.rows import Columns, arrow_type, checked, columns, empty, parse_lines, table_of, to_pandas

SPEC_SCHEMA = 1
#: The metrics that ``runs`` shows of the last stage.
VIEW = ("accuracy", "nll", "brier", "ece", "ece_null", "ece_marginal_l2")

_LINES = ("history", "layers", "criteria_pairs")
_LISTS = ("metrics", "calibration")
_DOCUMENTS = ("status", "spec", "metrics", "costs", "provenance")  # the status first: it says what else is there
_BATCH = 256
_MOST_KEYS = 1000
_LONGEST = 1000

#: Columns of ``runs`` straight from the resolved configuration, and what a method without the option has.
_CONFIG: dict[str, tuple[tuple[str, str], Any]] = {
    "method": (("method", "name"), None),
    "method_version": (("method", "version"), None),
    "dataset": (("dataset", "name"), None),
    "network": (("network", "name"), None),
    "sparsity": (("method", "sparsity"), 0.0),
    "criterion": (("method", "criterion"), None),
    "addition": (("method", "addition"), None),
    "epochs": (("training", "epochs"), None),
}
_FROM_LABELS = ("method", "dataset", "network", "sparsity", "criterion", "addition", "seed", "epochs")
_FROM_PROVENANCE = ("concurrency", "device", "git_sha", "torch_version")
_FROM_COSTS = (
    "density", "epochs_total", "params_total", "params_active", "train_flops", "inference_flops", "checkpoint_bytes",
    "wall_seconds", "train_seconds", "evaluation_seconds", "overhead_seconds", "images_per_second", "peak_memory_bytes",
)  # fmt: skip
_RATIOS = {
    "train_flops_ratio": ("train_flops", "dense_vi_train_flops"),
    "inference_flops_ratio": ("inference_flops", "dense_inference_flops"),
    "compression_vs_dense_vi": ("dense_vi_bytes", "checkpoint_bytes"),
    "compression_vs_deterministic": ("deterministic_bytes", "checkpoint_bytes"),
}


def build(planned: Sequence[Planned], folder: Callable[[str], RunFolder]) -> dict[str, pd.DataFrame]:
    """Every table of ``TABLES`` for the runs of ``planned``, whose folders ``folder`` gives.

    Rows stand in the order of ``planned``; long tables have each run once.
    """
    facts: dict[str, _Facts | str] = {}
    parts: dict[str, list[pa.Table]] = {table: [] for table in TABLES if table != "runs"}
    folders = [folder(run_id) for run_id in dict.fromkeys(run.run_id for run in planned)]
    for start in range(0, len(folders), _BATCH):
        found, tables = _read_batch(folders[start : start + _BATCH])
        facts |= found
        for name, table in tables.items():
            parts[name].append(table)
    long = {}
    for name, tables in parts.items():
        whole = pa.concat_tables([empty(name), *tables]).unify_dictionaries().combine_chunks()
        long[name] = to_pandas(whole)
    return {"runs": _runs_table([(run, facts[run.run_id]) for run in planned]), **long}


def fault(folder: RunFolder) -> str | None:
    """Why the folder of a run can't be trusted, in one line; None when it can, or is not there."""
    found, _ = _read_batch([folder])
    facts = found[folder.run_id]
    return facts if isinstance(facts, str) else None


def write(folder: Path, tables: Mapping[str, pd.DataFrame]) -> dict[str, Path]:
    """Write ``tables`` as parquet, ``runs`` as CSV too, each file atomically; returns their paths by name."""
    paths = {}
    for name, frame in tables.items():
        table = pa.Table.from_pandas(frame, schema=_schema(name, frame), preserve_index=False)
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink, compression="zstd")
        paths[name] = folder / f"{name}.parquet"
        write_bytes(paths[name], sink.getvalue().to_pybytes())
    paths["runs.csv"] = folder / "runs.csv"
    write_bytes(paths["runs.csv"], tables["runs"].to_csv(index=False).encode())
    return paths


def read(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables that ``write`` wrote; ``StoreError`` when one is missing, broken or of another version."""
    tables = {}
    for name in TABLES:
        path = folder / f"{name}.parquet"
        data = read_bytes(path)
        if data is None:
            raise StoreError(f"{path}: no such file; python -m bench.collect --suite {folder.name} writes it")
        try:
            table = pyarrow.parquet.read_table(pa.BufferReader(data))
            tables[name] = to_pandas(table)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(f"{path}: not a parquet file: {str(error).splitlines()[0]}") from None
        stored = [(field.name, field.type) for field in table.schema]
        fixed = [(column, arrow_type(kind)) for column, kind in kinds(name).items()]
        if stored[: len(fixed)] != fixed:
            raise StoreError(f"{path}: columns of another version; python -m bench.collect --suite {folder.name} renews it")
    return tables


# -- one run ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    """What the folder of a run says, as columns of ``runs``; ``config`` by dotted key."""

    columns: dict[str, Any]
    config: dict[str, Any]
    has_spec: bool


@dataclass(frozen=True)
class _Stored:
    facts: _Facts
    lists: dict[str, Columns]
    lines: dict[str, bytes]


def _read_batch(folders: list[RunFolder]) -> tuple[dict[str, _Facts | str], dict[str, pa.Table]]:
    """Facts (or the reason why there are none) by run id, and the long tables of the sound runs."""
    stored: dict[str, _Stored] = {}
    reasons: dict[str, str] = {}
    for folder in folders:
        try:
            stored[folder.run_id] = _read_run(folder)
        except StoreError as error:
            reasons[folder.run_id] = str(error).replace(f"{folder.path}/", "")
        except RecursionError:
            reasons[folder.run_id] = "a document is nested too deeply"
    tables = {}
    for name in _LINES:
        tables[name], broken = parse_lines({run_id: run.lines[name] for run_id, run in stored.items()}, name)
        reasons |= broken
    sound = {run_id: run for run_id, run in stored.items() if run_id not in reasons}
    if len(sound) < len(stored):
        keep = pa.array(list(sound), pa.string())
        tables = {name: table.filter(pc.is_in(table["run_id"].cast(pa.string()), keep)) for name, table in tables.items()}
    for name in _LISTS:
        tables[name] = table_of({run_id: run.lists[name] for run_id, run in sound.items()}, name)
    return {**{run_id: run.facts for run_id, run in sound.items()}, **reasons}, tables


def _read_run(folder: RunFolder) -> _Stored:
    documents = {name: folder.read(name) for name in _DOCUMENTS}
    status = status_of(documents["status"])
    done = status == "done"
    for name in ("spec", "metrics"):
        if done and documents[name] is None:
            raise StoreError(f"status.json: done, but there is no {name}.json")
    results = documents["metrics"] if done and documents["metrics"] else {}
    lists = {name: columns(_list(results.get(name)), name, f"metrics.json: {name}") for name in _LISTS}
    if done and not lists["metrics"]["metric"]:
        raise StoreError("metrics.json: done, but there is no metric")
    return _Stored(
        facts=_facts(folder.run_id, status, documents, lists["metrics"]),
        lists=lists,
        lines={name: folder.lines(name) for name in _LINES},
    )


def _facts(run_id: str, status: str, documents: Mapping[str, Any], metrics: Columns) -> _Facts:
    told = documents["status"] or {}
    row = {"status": status} | _scalars(told, ("error", "error_kind", "stage", "started_at"), "status.json")
    row["error"] = _one_line(row["error"])
    row |= _scalars(documents["provenance"] or {}, _FROM_PROVENANCE, "provenance.json")
    config: dict[str, Any] = {}
    spec = documents["spec"]
    if spec is not None:
        config = _check_spec(spec, run_id)
        row["config_id"] = spec["config_id"]
        row |= _scalars(spec["config"], ("seed",), "spec.json: config")
        for column, ((section, key), default) in _CONFIG.items():
            options = _mapping(spec["config"].get(section) or {}, f"spec.json: config.{section}")
            row |= _scalars({column: options.get(key, default)}, (column,), f"spec.json: config.{section}")
    if status == "done":
        costs = documents["costs"] or {}
        row |= _scalars(costs, _FROM_COSTS, "costs.json")
        row |= {column: _ratio(costs, *parts) for column, parts in _RATIOS.items()}
        row |= _view(metrics)
    return _Facts(row, config, spec is not None)


def _check_spec(spec: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The configuration in ``spec`` by dotted key; ``StoreError`` when it is not that of ``run_id``."""
    if spec.get("schema") != SPEC_SCHEMA:
        raise StoreError(f"spec.json: schema {repr(spec.get('schema'))[:20]}; this version reads {SPEC_SCHEMA}")
    if spec.get("run_id") != run_id:
        raise StoreError(f"spec.json: it is of run {repr(spec.get('run_id'))[:20]}, the folder of {run_id!r}")
    config_id = spec.get("config_id")
    if not isinstance(config_id, str) or not RUN_ID.fullmatch(config_id):
        raise StoreError(f"spec.json: config_id {repr(config_id)[:20]} is not 12 hexadecimal digits")
    flat = dict(_flatten(_mapping(spec.get("config"), "spec.json: config"), "config"))
    if len(flat) > _MOST_KEYS:
        raise StoreError(f"spec.json: {len(flat)} keys; the limit is {_MOST_KEYS}")
    return flat


def _flatten(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys with numbers, strings, truth values or None; a list or an empty mapping becomes its JSON text."""
    for key, value in config.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict) and value:
            yield from _flatten(value, name)
            continue
        plain = json.dumps(value) if isinstance(value, (list, dict)) else value
        if isinstance(plain, float) and not math.isfinite(plain):
            raise StoreError(f"spec.json: {name[:60]}: {plain} is not finite")
        if len(name) > _LONGEST or isinstance(plain, str) and len(plain) > _LONGEST:
            raise StoreError(f"spec.json: {name[:60]}: longer than {_LONGEST} characters")
        yield name, plain


def _view(metrics: Columns) -> dict[str, Any]:
    """The columns of ``runs`` that are metrics: last stage, ``samples``, ``test``, data as they are."""
    stage = metrics["stage"][-1]
    wanted = (stage, "samples", "test", None, None)
    rows = zip(*(metrics[key] for key in ("stage", "predictor", "split", "shift", "severity", "metric", "value")))
    found = {metric: value for *where, metric, value in rows if tuple(where) == wanted}
    return {"stage": stage} | {metric: found.get(metric) for metric in VIEW}


def _scalars(document: Mapping[str, Any], keys: Sequence[str], where: str) -> dict[str, Any]:
    """The values of ``keys`` as the columns of ``runs`` of the same names take them."""
    return {key: checked([document.get(key)], kinds("runs")[key], f"{where}: {key}")[0] for key in keys}


def _ratio(costs: Mapping[str, Any], numerator: str, denominator: str) -> float | None:
    above, below = (checked([costs.get(k)], "number", f"costs.json: {k}")[0] for k in (numerator, denominator))
    return above / below if above is not None and below else None


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StoreError(f"{where}: expected an object, got {repr(value)[:60]}")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _one_line(text: str | None) -> str | None:
    return None if text is None else " ".join(text.split())[:_LONGEST]


# -- the table of runs -----------------------------------------------------------------------


def _runs_table(runs: Sequence[tuple[Planned, _Facts | str]]) -> pd.DataFrame:
    rows = [_run_row(plan, facts) for plan, facts in runs]
    table = {
        column: pa.array([row.get(column) for row in rows], arrow_type(kind)) for column, kind in kinds("runs").items()
    }
    configs = [{} if isinstance(facts, str) else facts.config for _, facts in runs]
    for key in sorted({key for config in configs for key in config}):
        table[key] = _config_column([config.get(key) for config in configs])
    return to_pandas(pa.table(table))


def _run_row(plan: Planned, facts: _Facts | str) -> dict[str, Any]:
    row = {
        "run_id": plan.run_id,
        "config_id": plan.config_id,
        "config_label": plan.label,
        "suite": plan.suite,
        "scale": plan.scale,
        "recipe": plan.recipe,
    }
    if isinstance(facts, str):
        row |= {"status": "failed", "error_kind": "corrupted", "error": _one_line(facts)}
    if isinstance(facts, str) or not facts.has_spec:
        row |= _from_labels(plan.labels)
    return row if isinstance(facts, str) else row | facts.columns


def _from_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """What the plan's labels say of a run that says nothing itself."""
    row = {}
    for column in _FROM_LABELS:
        try:
            row |= _scalars(labels, (column,), "labels")
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


def _schema(name: str, frame: pd.DataFrame) -> pa.Schema:
    """The types of ``kinds``, and for ``config.*`` those of the frame."""
    fixed = kinds(name)
    found = pa.Schema.from_pandas(frame[[c for c in frame.columns if c not in fixed]], preserve_index=False)
    others = [(field.name, pa.string() if pa.types.is_large_string(field.type) else field.type) for field in found]
    return pa.schema([*((column, arrow_type(kind)) for column, kind in fixed.items()), *others])

