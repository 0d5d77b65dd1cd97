"""Read and check the folder of one run: its row of the table ``runs``, and its files of the long tables.

A folder may be half written, from another version, or damaged. A contradiction or a wrong type raises
``StoreError`` with the file and the field.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.results import beside
from bench.results.files import MAX_BYTES, MAX_DOCUMENT, StoreError, complete_lines, parse_json, read_bytes
from bench.results.integrity import written_files
from bench.results.run_folder import RUN_ID, RunFolder, status_of
from bench.results.tables.arrow import LONGEST, checked
from bench.results.tables.columns import kinds

#: Makes the metrics of a finished run again: from its folder and ``metrics.json`` to such a document.
Renewed = Callable[[RunFolder, bytes], bytes]
#: Version of the format of ``spec.json``.
SPEC_SCHEMA = 1
#: Tables that a run stores as files of JSON lines.
LINES = ("history", "layers", "criteria_pairs")

# the status is read first: a run writes the files that its status names before the status
_DOCUMENTS = ("status", "spec", "metrics", "costs", "provenance")
_MOST_KEYS = 1000
#: Every file of a run that the tables depend on.
FILES = (*(f"{name}.json" for name in _DOCUMENTS), *(f"{name}.jsonl" for name in LINES))

#: Columns of ``runs`` from the resolved configuration: section, key, and the value if it is missing or null.
_CONFIG: dict[str, tuple[str, str, Any]] = {
    "method": ("method", "name", None),
    "method_version": ("method", "version", None),
    "dataset": ("dataset", "name", None),
    "network": ("network", "name", None),
    "sparsity": ("method", "sparsity", 0.0),
    "criterion": ("method", "criterion", None),
    "addition": ("method", "addition", None),
    "epochs": ("training", "epochs", None),
    "budget": ("training", "budget", "epochs"),
}
_STATUS = ("error", "error_kind", "stage", "started_at")
_PROVENANCE = ("concurrency", "threads", "device", "git_sha", "torch_version")
_CIRCUMSTANCES = ("host", "cpu", "device", "threads", "channels_last", "compile")
_COSTS = (
    "density",
    "epochs_total",
    "train_examples",
    "test_examples",
    "test_set",
    "params_total",
    "params_active",
    "train_flops",
    "train_flops_rigl_ratio",
    "inference_flops",
    "checkpoint_bytes",
    "stored_nll_change",
    "wall_seconds",
    "train_seconds",
    "evaluation_seconds",
    "overhead_seconds",
    "images_per_second",
    "seconds_per_step",
    "energy_joules",
    "peak_memory_bytes",
    "peak_device_memory_bytes",
    "execution",
)
#: Columns about how a budget changed the number of epochs, and their values if the budget is in epochs.
_EPOCHS = {"epochs_factor": 1.0, "epochs_capped": False}
_RATIOS = {
    "train_flops_ratio": ("train_flops", "dense_vi_train_flops"),
    "inference_flops_ratio": ("inference_flops", "dense_inference_flops"),
    "compression_vs_dense_vi": ("dense_vi_bytes", "checkpoint_bytes"),
    "compression_vs_deterministic": ("deterministic_bytes", "checkpoint_bytes"),
}


@dataclass(frozen=True)
class Facts:
    """Hold what the folder of a run says about it.

    Parameters
    ----------
    columns
        Columns of ``runs``.
    config
        The resolved configuration by dotted key.
    has_spec
        Whether the run has written its settings.
    circumstances
        Machine and way of computing. Times may be compared only between runs that share them.
    """

    columns: dict[str, Any]
    config: dict[str, Any]
    has_spec: bool
    circumstances: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stored:
    """Hold the content of a run folder.

    Parameters
    ----------
    facts
        What the documents say.
    results
        Bytes of ``metrics.json`` of a finished run, and of the documents of its evaluation sets, which have
        the same layout; nothing for other runs, whose scores do not count yet.
    lines
        JSON lines of each table in ``LINES``; they are parsed later, for many runs at once.
    """

    facts: Facts
    results: tuple[bytes, ...]
    lines: dict[str, bytes]


def read_run(folder: RunFolder, renewed: Renewed | None = None) -> Stored:
    """Read everything in ``folder`` that tables are made of; a missing folder is a pending run.

    Parameters
    ----------
    folder
        Folder of the run.
    renewed
        Makes the metrics of a finished run again, from its folder and ``metrics.json``; None keeps them.

    Raises
    ------
    StoreError
        A file is damaged, or files contradict each other.
    """
    try:
        blobs = _blobs(folder)
        documents = {name: _document(blobs, name) for name in _DOCUMENTS if name != "metrics"}
        status = status_of(documents["status"])
        done = status == "done"
        for name in ("spec", "metrics"):
            if done and blobs[f"{name}.json"] is None:
                raise StoreError(f"status.json: done, but there is no {name}.json")
        sets: dict[str, bytes | None] = {}
        if done:
            written = written_files(documents["status"] or {})
            sets = {name: read_bytes(folder.path / name, MAX_DOCUMENT) for name in beside.documents(written)}
            _check_digests(written, blobs | sets)
        else:
            _document(blobs, "metrics")
        if done and renewed is not None and blobs["metrics.json"] is not None:
            blobs["metrics.json"] = renewed(folder, blobs["metrics.json"])
        facts = _facts(folder.run_id, status, documents)
    except RecursionError:
        raise StoreError("a document is nested too deeply") from None
    except StoreError as error:
        raise StoreError(str(error).replace(f"{folder.path}/", "")) from None
    results = [blobs["metrics.json"], *sets.values()] if done else []
    lines = {name: complete_lines(blobs[f"{name}.jsonl"] or b"") for name in LINES}
    return Stored(facts, tuple(blob for blob in results if blob is not None), lines)


def _blobs(folder: RunFolder) -> dict[str, bytes | None]:
    """Read the content of ``FILES``; None for missing ones."""
    if folder.path.is_symlink():
        raise StoreError(f"{folder.path}: is a link")
    return {
        name: read_bytes(folder.path / name, MAX_BYTES if name.endswith("l") else MAX_DOCUMENT)
        for name in FILES
    }


def _document(blobs: Mapping[str, bytes | None], name: str) -> dict[str, Any] | None:
    blob = blobs[f"{name}.json"]
    return None if blob is None else _mapping(parse_json(blob, f"{name}.json"), f"{name}.json")


def _check_digests(written: Mapping[str, tuple[int, str]], blobs: Mapping[str, bytes | None]) -> None:
    """Raise ``StoreError`` unless the files that tables are made of have the recorded sizes and digests."""
    for name, blob in blobs.items():
        if not written or name == "status.json":
            continue
        if blob is None:
            if name in written:
                raise StoreError(f"{name}: missing, although the run wrote it")
        elif name not in written:
            raise StoreError(f"{name}: the run wrote no such file")
        elif written[name] != (len(blob), hashlib.blake2b(blob, digest_size=16).hexdigest()):
            raise StoreError(f"{name}: not the bytes that the run wrote")


def scalars(document: Mapping[str, Any], keys: Sequence[str], where: str) -> dict[str, Any]:
    """Return the values of ``keys`` in ``document``, checked as the columns of ``runs`` of the same names.

    Raises
    ------
    StoreError
        A value does not have the type of its column; the message starts with ``where``.
    """
    return {key: _scalar(document.get(key), kinds("runs")[key], where, key) for key in keys}


def _facts(run_id: str, status: str, documents: Mapping[str, Any]) -> Facts:
    row = {"status": status} | scalars(documents["status"] or {}, _STATUS, "status.json")
    provenance = documents["provenance"] or {}
    row |= scalars(provenance, _PROVENANCE, "provenance.json")
    used = _mapping(provenance.get("packages") or {}, "provenance.json: packages")
    named = ", ".join(f"{name} {version}" for name, version in sorted(used.items())) or None
    row |= scalars({"packages": named}, ("packages",), "provenance.json")
    config: dict[str, Any] = {}
    spec = documents["spec"]
    if spec is not None:
        config = _configuration(spec, run_id)
        row["config_id"] = spec["config_id"]
        row |= scalars(spec["config"], ("seed",), "spec.json: config")
        for column, (section, key, default) in _CONFIG.items():
            where = f"spec.json: config.{section}"
            options = _mapping(spec["config"].get(section, {}), where)
            value = default if options.get(key) is None else options[key]
            row |= scalars({column: value}, (column,), where)
        if row["budget"] == "epochs":
            row |= _EPOCHS
    if status == "done":
        costs = documents["costs"] or {}
        row |= scalars(costs, _COSTS, "costs.json")
        if row.get("budget") != "epochs":
            row |= scalars(costs, tuple(_EPOCHS), "costs.json")
        row |= {column: _ratio(costs, *parts) for column, parts in _RATIOS.items()}
    provenance = documents["provenance"] or {}
    return Facts(row, config, spec is not None, tuple(str(provenance.get(key)) for key in _CIRCUMSTANCES))


def _configuration(spec: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """Return the configuration in ``spec`` by dotted key; raise ``StoreError`` if it is of another run."""
    schema, found, config_id = spec.get("schema"), spec.get("run_id"), spec.get("config_id")
    if schema != SPEC_SCHEMA:
        raise StoreError(f"spec.json: schema {repr(schema)[:20]}; this version reads {SPEC_SCHEMA}")
    if found != run_id:
        raise StoreError(f"spec.json: it belongs to run {repr(found)[:20]}, its folder to {run_id!r}")
    if not isinstance(config_id, str) or not RUN_ID.fullmatch(config_id):
        raise StoreError(f"spec.json: config_id {repr(config_id)[:20]} is not 12 hexadecimal digits")
    flat = dict(_flatten(_mapping(spec.get("config"), "spec.json: config"), "config"))
    if len(flat) > _MOST_KEYS:
        raise StoreError(f"spec.json: {len(flat)} keys; the limit is {_MOST_KEYS}")
    return flat


def _flatten(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with plain values; a list or an empty mapping becomes JSON text."""
    for key, value in config.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict) and value:
            yield from _flatten(value, name)
            continue
        plain = json.dumps(value) if isinstance(value, (list, dict)) else value
        if isinstance(plain, float) and not math.isfinite(plain):
            raise StoreError(f"spec.json: {name[:60]}: {plain} is not finite")
        if len(name) > LONGEST or (isinstance(plain, str) and len(plain) > LONGEST):
            raise StoreError(f"spec.json: {name[:60]}: longer than {LONGEST} characters")
        yield name, plain


def _scalar(value: Any, kind: str, where: str, key: str) -> Any:
    """Do ``checked`` for one value, quickly if it already has the right type, since there are many values."""
    if value is None or (kind == "string" and type(value) is str and len(value) <= LONGEST):
        return value
    if kind == "number" and type(value) is float and math.isfinite(value):
        return value
    return checked([value], kind, f"{where}: {key}")[0]


def _ratio(costs: Mapping[str, Any], numerator: str, denominator: str) -> float | None:
    above, below = (_scalar(costs.get(key), "number", "costs.json", key) for key in (numerator, denominator))
    return above / below if above is not None and below else None


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StoreError(f"{where}: expected an object, got {repr(value)[:60]}")
    return value
