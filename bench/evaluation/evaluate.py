"""The one evaluation: every method is scored here, by its draws and by its mean network, scaled too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench.data.base import Split
from bench.evaluation import metrics, temperature
from bench.experiment.problem import Problem
from methods.base import Predictor, Stage
from methods.core.streams import Streams


class Diverged(Exception):
    """The loss, a parameter or a prediction is NaN or infinite."""


@torch.no_grad()
def log_probabilities(problem: Problem, module: nn.Module, predictor: Predictor, split: Split) -> np.ndarray:
    """Log class probabilities (N, C), float64, of one predictor on a whole split, in evaluation mode.

    Raises ``Diverged`` where there are none.
    """
    module.eval()
    rows = [
        F.log_softmax(predictor(inputs).double(), dim=-1).cpu().numpy()
        for inputs, _ in problem.batches(split, problem.evaluation_batch(module))
    ]
    found = np.concatenate(rows)
    if np.isnan(found).any():
        raise Diverged("the predictions are not finite")
    return found


def quick_scores(problem: Problem, module: nn.Module, split: Split) -> dict[str, float]:
    """Accuracy and NLL of the mean network (of one draw where there is none), for the training curves."""
    predictor = problem.method.mean(module)
    if predictor is None:
        generator = Streams(problem.spec.seed, problem.device).fresh("evaluation/quick")
        predictor = next(iter(problem.method.draws(module, 1, generator)))
    found = log_probabilities(problem, module, predictor, split)
    labels = split.labels.cpu().numpy()
    return {
        "accuracy": float((found.argmax(1) == labels).mean()),
        "nll": float(-found[np.arange(len(labels)), labels].mean()),
    }


def evaluate_stage(
    problem: Problem, module: nn.Module, stage: Stage
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score a trained stage on test data, and on validation data where there are any, by both predictors.

    With validation data each predictor is scored with temperature scaling too, as ``+temperature``.

    Returns rows for the tables ``metrics``, ``calibration`` and ``selective``, and the arrays to store of the
    test part: labels (N,), and for each predictor as it is averaged probabilities (N, C) and
    per-example predictive entropy and mutual information (N,).
    """
    splits = {"test": problem.splits.test}
    if problem.splits.val is not None:
        splits = {"val": problem.splits.val, **splits}
    labels = {name: split.labels.cpu().numpy() for name, split in splits.items()}
    rows: dict[str, Any] = {"metrics": [], "calibration": [], "selective": []}
    arrays: dict[str, np.ndarray] = {"labels": labels["test"].astype(np.int16)}
    for predictor, functions in _predictors(problem, module, stage):
        draws: dict[str, list[np.ndarray]] = {name: [] for name in splits}
        for function in functions:
            for name, split in splits.items():
                draws[name].append(log_probabilities(problem, module, function, split))
        pooled: dict[str, np.ndarray] = {}
        for name in splits:
            found = np.stack(draws[name])
            pooled[name] = metrics.log_mean_exp(found)
            scores = metrics.summary(found, labels[name])
            _add(rows, (stage.name, predictor, name), scores, pooled[name], labels[name])
            if name == "test":
                entropy, information = metrics.entropies(found)
                arrays[f"{predictor}/probabilities"] = np.exp(pooled[name]).astype(np.float32)
                arrays[f"{predictor}/entropy"] = entropy.astype(np.float32)
                arrays[f"{predictor}/mutual_information"] = information.astype(np.float32)
        if "val" in splits:
            _add_scaled(rows, stage, predictor, pooled, labels)
    return rows, arrays


def _add_scaled(
    rows: dict[str, Any],
    stage: Stage,
    predictor: str,
    pooled: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> None:
    """Add what a predictor scores once temperature scaling has been fitted on the validation part.

    An example of that part is scaled by what was fitted without it, and other parts by what was fitted on all
    of it: a single T would be judged on the very examples that it was chosen by.
    """
    fitted = temperature.cross_fit(pooled["val"], labels["val"])
    for name, log_probs in pooled.items():
        applied = fitted.held_out if name == "val" else fitted.value
        found = temperature.scaled(log_probs, applied)
        scores = metrics.summary(found[None], labels[name])
        # of an average that was rescaled there are no draws
        scores = {name: value for name, value in scores.items() if not name.startswith("mutual_information")}
        scores |= {"temperature": float(np.mean(applied)), "temperature_spread": fitted.spread}
        _add(rows, (stage.name, f"{predictor}+temperature", name), scores, found, labels[name])


def _add(
    rows: dict[str, Any],
    where: tuple[str, str, str],
    scores: dict[str, float],
    log_probs: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Add what was scored of log probabilities (N, C) of a stage, predictor and split, and their curves."""
    here = dict(zip(("stage", "predictor", "split"), where, strict=True))
    as_it_is = {"shift": None, "severity": None}
    rows["metrics"] += [
        {**here, **as_it_is, "metric": metric, "value": value, "n": len(labels)}
        for metric, value in scores.items()
    ]
    probs = np.exp(log_probs)
    rows["calibration"] += [{**here, **row} for row in metrics.calibration_bins(probs, labels)]
    rows["selective"] += [{**here, **row} for row in metrics.selective(probs, labels)]


def fixed_draws(
    problem: Problem, module: nn.Module, stage: Stage, samples: int | None = None
) -> Iterator[Predictor]:
    """The draws that score a stage, the same every time: ``samples`` of them, by default the run's S."""
    generator = Streams(problem.spec.seed, problem.device).fresh(f"evaluation/{stage.name}")
    return problem.method.draws(module, samples or problem.spec.evaluation.samples, generator)


def _predictors(
    problem: Problem, module: nn.Module, stage: Stage
) -> Iterable[tuple[str, Iterable[Predictor]]]:
    mean = problem.method.mean(module)
    if mean is not None:
        yield "mean", [mean]
    yield "samples", fixed_draws(problem, module, stage)
