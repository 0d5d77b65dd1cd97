"""Build the tables of a suite as a pure function of its plans and run folders.

A failed run is a row with its reason and without metrics, a damaged folder is a failed run, and a planned
run without a folder is a row too, so that no run is missing without notice. Only finished runs have results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.results.files import StoreError
from bench.results.plans import Planned
from bench.results.run_folder import RunFolder
from bench.results.tables.arrow import arrow_type, checked, empty, to_pandas
from bench.results.tables.batches import LONG, batches, facts_schema
from bench.results.tables.columns import kinds
from bench.results.tables.run_reader import scalars

#: Columns of ``runs`` that divide a measured value by that of the dense VI run.
_MEASURED = {"step_time_ratio": "seconds_per_step", "peak_memory_ratio": "peak_memory_bytes"}
#: Settings that, beside the method, may differ from the dense VI run, since they do not change the time of a
#: step: those that are tuned for each method, and the budget, which changes only the length of training.
_NOT_COMPARED = tuple(
    f"config.training.{key}" for key in ("budget", "lr", "lr_scale", "momentum", "weight_decay")
)
#: Columns of ``runs`` that the labels in the plan fill for a run that has not written its settings yet.
_LABELS = ("method", "dataset", "network", "sparsity", "criterion", "addition", "seed", "epochs", "budget")


def build(planned: Sequence[Planned], folder: Callable[[str], RunFolder]) -> dict[str, pd.DataFrame]:
    """Build every table of ``TABLES``.

    Parameters
    ----------
    planned
        The runs; rows are in their order.
    folder
        Returns the folder of a run id.

    Returns
    -------
    dict
        Data frames by name. Long tables have the rows of each run once.
    """
    facts = [facts_schema().empty_table()]
    parts: dict[str, list[pa.Table]] = {name: [empty(name)] for name in LONG}
    for batch in batches([folder(run_id) for run_id in dict.fromkeys(run.run_id for run in planned)]):
        facts.append(batch.facts)
        for name, table in batch.tables.items():
            parts[name].append(table)
    frames = {"runs": to_pandas(runs_table(planned, pa.concat_tables(facts)))}
    for name, pieces in parts.items():
        frames[name] = to_pandas(pa.concat_tables(pieces).unify_dictionaries().combine_chunks())
    return frames


def runs_table(planned: Sequence[Planned], facts: pa.Table) -> pa.Table:
    """Build the table ``runs``, one row for each of ``planned``, from the facts of runs (see ``batches``)."""
    place = {run_id: number for number, run_id in enumerate(facts.column("run_id").to_pylist())}
    mine = facts.take(pa.array([place[run.run_id] for run in planned], pa.int64())).combine_chunks()
    configs = [json.loads(text) for text in mine.column(".config").to_pylist()]
    told: dict[str, list[Any]] = {
        "config_label": [run.label for run in planned],
        "suite": [run.suite for run in planned],
        "scale": [run.scale for run in planned],
        "recipe": [run.recipe for run in planned],
        "tuned": [run.tuned for run in planned],
    }
    told |= _compared_with_dense_vi(mine, told["scale"], configs)
    # the plan fills what a run has not written itself
    plans = _from_labels(planned, mine.column(".has_spec").to_pylist())
    plans["config_id"] = [run.config_id for run in planned]
    table = {}
    for column, kind in kinds("runs").items():
        if column in told:
            table[column] = pa.array(told[column], arrow_type(kind))
        elif column in plans:
            table[column] = pc.coalesce(mine.column(column), pa.array(plans[column], arrow_type(kind)))
        else:
            table[column] = mine.column(column)
    keys = sorted({key for config in configs for key in config})
    return pa.table(table | {key: _config_column([config.get(key) for config in configs]) for key in keys})


def _compared_with_dense_vi(
    facts: pa.Table, scales: Sequence[str], configs: Sequence[Mapping[str, Any]]
) -> dict[str, list[float | None]]:
    """Divide measured values by those of the dense VI run with the same settings.

    Only the method and ``_NOT_COMPARED`` may differ. Runs that shared the machine with others, and those for
    which there is not exactly one such dense VI run, get null.
    """
    ratios: dict[str, list[float | None]] = {ratio: [None] * len(facts) for ratio in _MEASURED}
    methods = facts.column("method").to_pylist()
    alone = [at for at, number in enumerate(facts.column("concurrency").to_pylist()) if number == 1]
    if not any(methods[at] == "dense_vi" for at in alone):
        return ratios
    run_ids, circumstances = (facts.column(name).to_pylist() for name in ("run_id", ".circumstances"))
    where: dict[int, tuple[str, ...]] = {}
    dense: dict[tuple[str, ...], dict[str, int]] = {}
    for at in alone:
        rest = {key: value for key, value in configs[at].items() if not _may_differ(key)}
        where[at] = scales[at], circumstances[at], repr(sorted(rest.items()))
        if methods[at] == "dense_vi":
            dense.setdefault(where[at], {})[run_ids[at]] = at
    for ratio, measured in _MEASURED.items():
        values = facts.column(measured).to_pylist()
        for at in alone:
            bases = list(dense.get(where[at], {}).values())
            base = values[bases[0]] if len(bases) == 1 else None
            ratios[ratio][at] = values[at] / base if values[at] is not None and base else None
    return ratios


def _may_differ(key: str) -> bool:
    return key.startswith("config.method.") or key in _NOT_COMPARED


def _from_labels(planned: Sequence[Planned], has_spec: Sequence[bool]) -> dict[str, list[Any]]:
    """Fill columns from the labels of the plan for runs that have not written their settings yet."""
    found: dict[str, list[Any]] = {column: [None] * len(planned) for column in _LABELS}
    for at in (number for number, told in enumerate(has_spec) if not told):
        for column in _LABELS:
            try:
                found[column][at] = scalars(planned[at].labels, (column,), "labels")[column]
            except StoreError:
                continue  # a label whose type does not fit the column is left out
    return found


def _config_column(values: list[Any]) -> pa.Array:
    """Make a column of the type that all its values share; of their JSON text if they differ in type."""
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
