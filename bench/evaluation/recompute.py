"""Make the metrics of a finished run's test part again from its stored predictions, without its model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bench.evaluation import calibration, metrics, temperature
from bench.evaluation.evaluate import scaled_scores
from bench.results.files import StoreError, parse_json, to_json
from bench.results.predictions import PREDICTIONS, stored_predictions
from bench.results.run_folder import RunFolder

_PROBABILITIES = "/probabilities"
Rows = list[dict[str, Any]]


def recomputed(folder: RunFolder, document: bytes, bins: int = calibration.BINS) -> bytes:
    """Return ``metrics.json`` of a run with the scores of its last stage on the test part made again.

    Probabilities are stored in float32, so that scores may differ from the stored ones in the last digits. A
    score that is not finite now, because a probability below 1e-45 is stored as 0, stays as it was.
    Temperatures are those that were fitted on validation data. A run that stored no predictions keeps its
    document.

    Parameters
    ----------
    folder
        Folder of a finished run.
    document
        Content of its ``metrics.json``.
    bins
        Number of bins of calibration errors, of the parts of the Brier score, and of the reliability diagram.

    Raises
    ------
    StoreError
        If the predictions or the document are damaged.
    """
    if not (folder.path / PREDICTIONS).exists():
        return document
    found, arrays = parse_json(document, "metrics.json"), stored_predictions(folder)
    try:
        labels, rows = arrays["labels"].astype(np.int64), found["metrics"]
        here = {"stage": rows[-1]["stage"], "split": "test"}
        for predictor, scores, log_probs in _scored(arrays, labels, here, rows, bins):
            place = {**here, "predictor": predictor}
            found["metrics"] = _with_scores(found["metrics"], place, scores, len(labels))
            probs = np.exp(log_probs)
            curves = calibration.calibration_bins(probs, labels, bins), metrics.selective(probs, labels)
            for table, made in zip(("calibration", "selective"), curves, strict=True):
                found[table] = _replaced(found[table], place, [{**place, **row} for row in made])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"metrics.json or {PREDICTIONS}: {error or type(error).__name__}") from None
    return to_json(found, "metrics.json").encode() + b"\n"


def _scored(
    arrays: Mapping[str, Any], labels: Any, here: dict[str, Any], rows: Rows, bins: int
) -> Iterator[tuple[str, dict[str, float], np.ndarray]]:
    """Yield each predictor with its scores and log probabilities (N, C), scaled ones included."""
    for predictor in [name.removesuffix(_PROBABILITIES) for name in arrays if name.endswith(_PROBABILITIES)]:
        with np.errstate(divide="ignore"):
            averaged = np.log(arrays[f"{predictor}{_PROBABILITIES}"].astype(np.float64))
        entropy = arrays[f"{predictor}/entropy"].astype(np.float64)
        information = arrays[f"{predictor}/mutual_information"].astype(np.float64)
        yield predictor, metrics.averaged_summary(averaged, entropy, information, labels, bins), averaged
        place = {**here, "predictor": f"{predictor}+temperature"}
        fitted = {row["metric"]: row["value"] for row in rows if _is_here(row, place)}
        if (value := fitted.get("temperature")) is not None:
            spread = fitted.get("temperature_spread")
            log_probs = temperature.scaled(averaged, value)
            scores = scaled_scores(log_probs, labels, value, math.nan if spread is None else spread, bins)
            yield place["predictor"], scores, log_probs


def _with_scores(rows: Rows, here: dict[str, Any], scores: dict[str, float], n: int) -> Rows:
    before = {row["metric"]: row["value"] for row in rows if _is_here(row, here)}
    values = {
        metric: value if math.isfinite(value) else before.get(metric) for metric, value in scores.items()
    }
    head = {**here, "shift": None, "severity": None}
    made = [{**head, "metric": metric, "value": value, "n": n} for metric, value in values.items()]
    return _replaced(rows, here, made)


def _replaced(rows: Rows, here: dict[str, Any], made: Rows) -> Rows:
    """Return ``rows`` with ``made`` in the place of those that are ``here``."""
    at = next((place for place, row in enumerate(rows) if _is_here(row, here)), len(rows))
    kept = [[row for row in part if not _is_here(row, here)] for part in (rows[:at], rows[at:])]
    return [*kept[0], *made, *kept[1]]


def _is_here(row: dict[str, Any], here: dict[str, Any]) -> bool:
    return here.items() <= row.items() and row.get("shift") is None
