"""What ``metrics.json`` of finished runs says: long tables, and the metrics that ``runs`` shows of each run.

As in ``arrow`` many runs are read at once by arrow, and whatever is unusual is read carefully.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.results.files import StoreError, parse_json
from bench.results.tables.arrow import Columns, columns, parse_lists, table_of

#: The lists of ``metrics.json``, each a table.
LISTS = ("metrics", "calibration", "selective", "stages")
#: The metrics that the table ``runs`` shows of the last stage.
VIEW = ("accuracy", "nll", "brier", "ece", "ece_null", "ece_marginal_l2")

_SHOWN = {"predictor": "samples", "split": "test", "shift": None, "severity": None}
_NONE = "metrics.json: the run is done, but there is no metric"


@dataclass(frozen=True)
class Results:
    """The tables of several runs, what ``runs`` shows of each run, and why a broken run is left out."""

    tables: dict[str, pa.Table]
    views: dict[str, dict[str, Any]]
    broken: dict[str, str]


def parse_results(blobs: Mapping[str, bytes]) -> Results:
    """What ``metrics.json`` of finished runs says, by run id."""
    tables = parse_lists(blobs, LISTS)
    views = None if tables is None else _views(tables["metrics"], list(blobs))
    if tables is not None and views is not None:
        return Results(tables, views, {})
    parts: dict[str, dict[str, Columns]] = {name: {} for name in LISTS}
    views, broken = {}, {}
    for run_id, blob in blobs.items():
        try:
            lists = _lists(blob)
            views[run_id] = _view(lists["metrics"])
        except StoreError as error:
            broken[run_id] = str(error)
        except RecursionError:
            broken[run_id] = "a document is nested too deeply"
        else:
            for name in LISTS:
                parts[name][run_id] = lists[name]
    return Results({name: table_of(parts[name], name) for name in LISTS}, views, broken)


def _lists(blob: bytes) -> dict[str, Columns]:
    document = parse_json(blob, "metrics.json")
    if not isinstance(document, dict):
        raise StoreError(f"metrics.json: expected an object, got {type(document).__name__}")
    return {name: columns(_list(document.get(name)), name, f"metrics.json: {name}") for name in LISTS}


def _list(value: Any) -> list[Any]:
    """``value`` as rows: none when it is missing; what is no list is something that ``columns`` refuses."""
    return value if isinstance(value, list) else [] if value is None else [None]


def _view(metrics: Columns) -> dict[str, Any]:
    """The columns of ``runs`` that are metrics: last stage, ``samples``, ``test``, data as they are."""
    if not any(metrics["metric"]):
        raise StoreError(_NONE)
    stage = metrics["stage"][-1]
    wanted = (stage, *_SHOWN.values())
    rows = zip(*(metrics[key] for key in ("stage", *_SHOWN, "metric", "value")), strict=True)
    found = {metric: value for *where, metric, value in rows if tuple(where) == wanted}
    return {"stage": stage} | {metric: found.get(metric) for metric in VIEW}


def _views(metrics: pa.Table, run_ids: list[str]) -> dict[str, dict[str, Any]] | None:
    """``_view`` of several runs at once; None where a run has no metric, or a row no stage or name."""
    names = metrics.column("metric")
    if metrics.column("stage").null_count or names.null_count or pc.any(pc.equal(names, "")).as_py():
        return None
    shown = None
    for column, value in _SHOWN.items():
        found = metrics.column(column)
        here = pc.is_null(found) if value is None else pc.fill_null(pc.equal(found, value), False)
        shown = here if shown is None else pc.and_(shown, here)
    # the rows of a run stand together, and the dictionary has the runs in their order
    encoded = metrics.column("run_id").combine_chunks()
    last = encoded.dictionary.to_pylist() if len(encoded) else []
    if last != run_ids:
        return None
    ends = np.cumsum(np.bincount(encoded.indices.to_numpy(), minlength=len(last))) - 1
    stages = dict(zip(run_ids, metrics.column("stage").take(pa.array(ends)).to_pylist(), strict=True))
    kept = metrics.select(["run_id", "stage", "metric", "value"]).filter(shown)
    values: dict[tuple[str, str], dict[str, Any]] = {}
    for run_id, stage, metric, value in zip(*(c.to_pylist() for c in kept.columns), strict=True):
        values.setdefault((run_id, stage), {})[metric] = value
    views = {}
    for run_id, stage in stages.items():
        mine = values.get((run_id, stage), {})
        views[run_id] = {"stage": stage} | {metric: mine.get(metric) for metric in VIEW}
    return views
