"""Read ``metrics.json`` of finished runs: the long tables, and the metrics that ``runs`` shows of each run.

A run that was evaluated on sets beside its test part has another such document for each of them.

As in the module ``arrow``, plainly written documents of many runs are parsed at once, unusual ones singly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.results.files import StoreError, parse_json
from bench.results.tables.arrow import Columns, columns, parse_lists, table_of

#: The lists in ``metrics.json``; each becomes a table.
LISTS = ("metrics", "calibration", "selective", "stages")
#: The metrics that the table ``runs`` shows of the last stage.
VIEW = ("accuracy", "nll", "brier", "ece", "ece_null", "ece_marginal_l2")

#: Columns of ``runs`` that say what averaging over samples gains, and the metric that they compare.
GAINS = {"posterior_gain_nll": "nll", "posterior_gain_ece": "ece"}

#: Predictors without temperature: of averaged samples, which ``runs`` shows, and of the mean network.
_SAMPLES, _MEAN = "samples", "mean"
#: The rows of ``metrics`` that ``runs`` shows are those of the unshifted test set.
_SHOWN = {"split": "test", "shift": None, "severity": None}
_NONE = "metrics.json: the run is done, but there is no metric"


@dataclass(frozen=True)
class Results:
    """Hold what ``metrics.json`` of several runs says.

    Parameters
    ----------
    tables
        The long tables, by name.
    views
        Columns of ``runs`` for each run, by run id.
    broken
        The reason for each run that was left out, by run id.
    """

    tables: dict[str, pa.Table]
    views: dict[str, dict[str, Any]]
    broken: dict[str, str]


def parse_results(blobs: Mapping[str, Sequence[bytes]]) -> Results:
    """Parse ``metrics.json`` and the documents of evaluation sets of finished runs, given by run id."""
    tables = parse_lists(blobs, LISTS)
    views = None if tables is None else _views(tables["metrics"], list(blobs))
    if tables is not None and views is not None:
        return Results(tables, views, {})
    parts: dict[str, dict[str, Columns]] = {name: {} for name in LISTS}
    views, broken = {}, {}
    for run_id, documents in blobs.items():
        try:
            lists = _lists(documents)
            views[run_id] = _view(lists["metrics"])
        except StoreError as error:
            broken[run_id] = str(error)
        except RecursionError:
            broken[run_id] = "a document is nested too deeply"
        else:
            for name in LISTS:
                parts[name][run_id] = lists[name]
    return Results({name: table_of(parts[name], name) for name in LISTS}, views, broken)


def shown_scores(document: Any) -> dict[str, float]:
    """Return what ``runs`` shows of a run by ``metrics.json``, parsed: the scores that it has, by name.

    Raises
    ------
    StoreError
        If the document is no such list of metrics.
    """
    if not isinstance(document, dict):
        raise StoreError(_NONE)
    view = _view(columns(_list(document.get("metrics")), "metrics", "metrics.json: metrics"))
    return {name: view[name] for name in VIEW if view[name] is not None}


def _lists(documents: Sequence[bytes]) -> dict[str, Columns]:
    rows: dict[str, list[Any]] = {name: [] for name in LISTS}
    for blob in documents:
        document = parse_json(blob, "metrics.json")
        if not isinstance(document, dict):
            raise StoreError(f"metrics.json: expected an object, got {type(document).__name__}")
        for name in LISTS:
            rows[name] += _list(document.get(name))
    return {name: columns(found, name, f"metrics.json: {name}") for name, found in rows.items()}


def _list(value: Any) -> list[Any]:
    """Return ``value`` as rows; none if it is missing, and an invalid row if it is not a list."""
    return value if isinstance(value, list) else [] if value is None else [None]


def _view(metrics: Columns) -> dict[str, Any]:
    """Pick the metrics that ``runs`` shows: last stage, predictor ``samples``, test part, unshifted data."""
    if not any(metrics["metric"]):
        raise StoreError(_NONE)
    stage = metrics["stage"][-1]
    wanted = (stage, *_SHOWN.values())
    found: dict[str, dict[str, Any]] = {}
    keys = ("predictor", "metric", "value", "stage", *_SHOWN)
    for predictor, metric, value, *where in zip(*(metrics[key] for key in keys), strict=True):
        if tuple(where) == wanted:
            found.setdefault(predictor, {})[metric] = value
    return _shown(stage, found)


def _shown(stage: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the columns of ``runs`` from the metrics of the last stage, by predictor and metric."""
    samples, mean = found.get(_SAMPLES, {}), found.get(_MEAN, {})
    view = {"stage": stage} | {metric: samples.get(metric) for metric in VIEW}
    for column, metric in GAINS.items():
        both = samples.get(metric) is not None and mean.get(metric) is not None
        view[column] = mean[metric] - samples[metric] if both else None
    return view


def _views(metrics: pa.Table, run_ids: list[str]) -> dict[str, dict[str, Any]] | None:
    """Do ``_view`` for several runs at once; None if a run has no metric or a row has no stage or name."""
    names = metrics.column("metric")
    if metrics.column("stage").null_count or names.null_count or pc.any(pc.equal(names, "")).as_py():
        return None
    shown = None
    for column, value in _SHOWN.items():
        found = metrics.column(column)
        here = pc.is_null(found) if value is None else pc.fill_null(pc.equal(found, value), False)
        shown = here if shown is None else pc.and_(shown, here)
    # the rows of a run are consecutive, and the dictionary has the runs in the order of their rows
    encoded = metrics.column("run_id").combine_chunks()
    last = encoded.dictionary.to_pylist() if len(encoded) else []
    if last != run_ids:
        return None
    ends = np.cumsum(np.bincount(encoded.indices.to_numpy(), minlength=len(last))) - 1
    stages = dict(zip(run_ids, metrics.column("stage").take(pa.array(ends)).to_pylist(), strict=True))
    kept = metrics.select(["run_id", "stage", "predictor", "metric", "value"]).filter(shown)
    values: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for run_id, stage, predictor, metric, value in zip(*(c.to_pylist() for c in kept.columns), strict=True):
        values.setdefault((run_id, stage), {}).setdefault(predictor, {})[metric] = value
    return {run_id: _shown(stage, values.get((run_id, stage), {})) for run_id, stage in stages.items()}
