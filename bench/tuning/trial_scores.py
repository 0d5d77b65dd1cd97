"""Score the trials of a search on validation data, choose the best, and keep the table of all trials.

Test data is never used.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from bench.experiment.notation import show
from bench.planning.plan import canonical
from bench.planning.search_spec import Trial
from bench.planning.tuning_family import Family
from bench.results.files import read_bytes, write_bytes
from bench.results.tables.columns import definitions
from methods.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

SUFFIX = ".search.csv"
_DIGITS = 6
_HEAD = ("scale", "method", "recipe", "dataset", "network", "trial")
_FIGURES = ("chosen", "failed", "value", "sd", "n", "config_id")


@dataclass(frozen=True)
class Scored:
    """A trial and its score.

    Parameters
    ----------
    trial
        The trial.
    value, sd
        Mean and standard deviation of the metric over the seeds that finished; ``sd`` is None for one seed.
    n
        Number of seeds that finished.
    failed
        Whether a seed did not finish; such a trial is never chosen.
    """

    trial: Trial
    value: float | None
    sd: float | None
    n: int
    failed: bool


def validation(metrics: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return a metric on validation data by run id, of the predictor ``samples`` after the run's last stage.

    Parameters
    ----------
    metrics
        The table ``metrics``; only rows of the split ``val`` are used.
    metric
        Name of the metric, for example ``nll_val``.
    """
    last = metrics.groupby("run_id", observed=True)["stage"].last().astype(str).to_dict()
    rows = metrics[
        (metrics["split"] == "val")
        & (metrics["predictor"] == "samples")
        & (metrics["metric"] == metric.removesuffix("_val"))
        & metrics["shift"].isna()
        & metrics["value"].notna()
    ]
    found = zip(rows["run_id"], rows["stage"], rows["value"], strict=True)
    return {str(run_id): float(value) for run_id, stage, value in found if stage == last[run_id]}


def score(trial: Trial, seeds: Sequence[int], values: Mapping[str, float]) -> Scored:
    """Score ``trial``: average the values of its runs over ``seeds``.

    Parameters
    ----------
    trial
        The trial.
    seeds
        Its seeds.
    values
        The metric by run id; a run that is not in it did not finish.
    """
    runs = [canonical(spec)[0].run_id for spec in trial.specs(seeds)]
    found = [values[run_id] for run_id in runs if run_id in values]
    mean = round(fmean(found), _DIGITS) if found else None
    sd = round(stdev(found), _DIGITS) if len(found) > 1 else None
    return Scored(trial, mean, sd, len(found), len(found) < len(runs))


def choose(scored: Sequence[Scored], metric: str) -> Scored | None:
    """Return the best of the trials that finished, the first of equal ones; None if none finished."""
    sign = -1.0 if definitions()["metrics.metric"][metric.removesuffix("_val")]["better"] == "higher" else 1.0
    finished = [item for item in scored if not item.failed and item.value is not None]
    return min(finished, key=lambda item: sign * (item.value or 0.0), default=None)


def path_of(suite: Path) -> Path:
    """Return the path of the table of trials for the suite in the file ``suite``."""
    return suite.with_name(suite.stem + SUFFIX)


def rows(scale: str, family: Family, scored: Sequence[Scored], chosen: Scored | None) -> list[dict[str, str]]:
    """Return the rows of a family, one for each trial."""
    head = {key: _cell(value) for key, value in {"scale": scale, **family.to_dict()}.items()}
    return [
        head
        | {
            "trial": str(item.trial.number),
            "chosen": show(item is chosen),
            "failed": show(item.failed),
            "value": _cell(item.value),
            "sd": _cell(item.sd),
            "n": str(item.n),
            "config_id": canonical(item.trial.spec)[0].config_id,
        }
        | {key: show(value) for key, value in item.trial.settings.items()}
        for item in scored
    ]


def check(path: Path) -> None:
    """Raise ``UserError`` if the file ``path`` exists but is not a table of trials."""
    _read(path)


def merge(path: Path, new: Sequence[Mapping[str, str]]) -> None:
    """Write ``new`` to the table in ``path``; rows of the same scales and families are replaced."""
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for old in _read(path):
        groups.setdefault(_family(old), []).append(old)
    groups |= {family: [] for family in map(_family, new)}  # in their old places
    for row in new:
        groups[_family(row)].append(row)
    every = [row for rows in groups.values() for row in rows]
    keys = dict.fromkeys(key for row in every for key in row)
    settings = sorted(key for key in keys if key not in (*_HEAD, *_FIGURES))
    file = io.StringIO()
    writer = csv.DictWriter(file, [*_HEAD, *_FIGURES, *settings], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(every)
    write_bytes(path, file.getvalue().encode())


def _read(path: Path) -> list[dict[str, str]]:
    data = read_bytes(path)
    if data is None:
        return []
    try:
        reader = csv.DictReader(io.StringIO(data.decode()), strict=True)
        found = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a table: {error}") from None
    if not set(_HEAD) <= set(reader.fieldnames or ()) or any(None in row.values() for row in found):
        raise UserError(f"{path}: not a table of trials; move it away, and a new one is written")
    # an empty cell means that the method does not have the setting, like a missing column
    return [{key: row[key] for key in reader.fieldnames or () if row[key] or key in _HEAD} for row in found]


def _family(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[key] for key in _HEAD if key != "trial")


def _cell(value: Any) -> str:
    return "" if value is None else show(value)
