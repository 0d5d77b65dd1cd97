"""Score the trials of a search on validation data, choose the best, and keep the table of all trials.

Test data is never used.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
#: Figures of finalists; a table of a search without finalists has no such columns.
_FINAL = ("final_value", "final_sd", "check_value")


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


def ranked(scored: Sequence[Scored], metric: str) -> list[Scored]:
    """Return the trials that finished, best first, equal ones in their order."""
    finished = [item for item in scored if not item.failed and item.value is not None]
    return sorted(finished, key=lambda item: _sign(metric) * (item.value or 0.0))


def choose(scored: Sequence[Scored], metric: str) -> Scored | None:
    """Return the best of the trials that finished, the first of equal ones; None if none finished."""
    return next(iter(ranked(scored, metric)), None)


def loss(of: Scored, among: Sequence[Scored], metric: str) -> float | None:
    """Return by how much the value of ``of`` is worse than the best of ``among``; None if either has none."""
    best = choose(among, metric)
    if best is None or best.value is None or of.failed or of.value is None:
        return None
    return round(_sign(metric) * (of.value - best.value), _DIGITS)


def best_of(scored: Sequence[Scored], metric: str, number: int) -> tuple[float, float] | None:
    """Return mean and standard deviation of the best value of ``number`` trials that are drawn anew.

    They are drawn with replacement from those that finished, so that the deviation says how much of the best
    value is the luck of the points that were tried. None if no trial finished.

    References
    ----------
    Dodge et al. 2019, "Show your work", equation 4.
    """
    values = [item.value or 0.0 for item in ranked(scored, metric)]
    if not values:
        return None
    all_from = [((len(values) - rank) / len(values)) ** number for rank in range(len(values) + 1)]
    weights = [here - after for here, after in pairwise(all_from)]
    mean = sum(weight * value for weight, value in zip(weights, values, strict=True))
    variance = sum(weight * (value - mean) ** 2 for weight, value in zip(weights, values, strict=True))
    return round(mean, _DIGITS), round(variance**0.5, _DIGITS)


def _sign(metric: str) -> float:
    """Return the factor by which values of ``metric`` become worse as they grow."""
    return -1.0 if definitions()["metrics.metric"][metric.removesuffix("_val")]["better"] == "higher" else 1.0


def path_of(suite: Path) -> Path:
    """Return the path of the table of trials for the suite in the file ``suite``."""
    return suite.with_name(suite.stem + SUFFIX)


def rows(
    scale: str,
    family: Family,
    scored: Sequence[Scored],
    chosen: Scored | None,
    finals: Sequence[Scored] = (),
    checks: Sequence[Scored] = (),
) -> list[dict[str, str]]:
    """Return the rows of a family, one for each trial, with the figures of finalists and of their checks."""
    head = {key: _cell(value) for key, value in {"scale": scale, **family.to_dict()}.items()}
    number = None if chosen is None else chosen.trial.number
    last = {item.trial.number: {"final_value": item.value, "final_sd": item.sd} for item in finals}
    for item in checks:
        last[item.trial.number]["check_value"] = item.value
    return [
        head
        | {
            "trial": str(item.trial.number),
            "chosen": show(item.trial.number == number),
            "failed": show(item.failed),
            "value": _cell(item.value),
            "sd": _cell(item.sd),
            "n": str(item.n),
            "config_id": canonical(item.trial.spec)[0].config_id,
        }
        | {key: _cell(value) for key, value in last.get(item.trial.number, {}).items()}
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
    figures = [*_FIGURES, *(key for key in _FINAL if key in keys)]
    settings = sorted(key for key in keys if key not in (*_HEAD, *figures))
    file = io.StringIO()
    writer = csv.DictWriter(file, [*_HEAD, *figures, *settings], restval="", lineterminator="\n")
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
