"""Score a trained network in the same way for every method.

A network is scored by its posterior samples and by its mean network, each with and without temperature
scaling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench.data.base import Split
from bench.evaluation import calibration, metrics, recovery, temperature
from bench.experiment.problem import Problem
from methods.base import Predictor, Stage
from methods.core.streams import Streams


class Diverged(Exception):
    """Report that the loss, a parameter or a prediction is NaN or infinite."""


@torch.no_grad()
def log_probabilities(problem: Problem, module: nn.Module, predictor: Predictor, split: Split) -> np.ndarray:
    """Compute log class probabilities of one predictor on a whole split, in evaluation mode.

    Parameters
    ----------
    problem
        The run's data and settings.
    module
        The network that ``predictor`` uses.
    predictor
        A function from a batch of inputs to logits.
    split
        The examples.

    Returns
    -------
    ndarray
        Shape (N, C), float64, natural logarithm.

    Raises
    ------
    Diverged
        A prediction is NaN.
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
    """Compute accuracy and NLL (nats) of the mean network, or of one draw if there is none, for curves."""
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


def input_scores(problem: Problem, module: nn.Module) -> dict[str, float]:
    """Compute how well the first layer has found the inputs that decide the classes; empty if not known."""
    relevant = problem.dataset.relevant()
    if relevant is None:
        return {}
    return recovery.scores(module, relevant, problem.splits.test.inputs[0].numel())


def evaluate_stage(
    problem: Problem, module: nn.Module, stage: Stage
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score a trained stage on test data, and on validation data if there are any.

    The predictors are ``samples`` (the average over posterior samples) and, if the method has a mean network,
    ``mean``. With validation data each is also scored with temperature scaling, as
    ``<predictor>+temperature``.

    Parameters
    ----------
    problem
        The run's data, method and settings.
    module
        The trained network.
    stage
        The stage that has just been trained.

    Returns
    -------
    tuple
        Rows for the tables ``metrics``, ``calibration`` and ``selective``, and the arrays of the test part to
        store: labels (N,), and for each predictor without temperature scaling the averaged probabilities
        (N, C), the predictive entropy (N,) and the mutual information (N,), both in nats.

    Raises
    ------
    Diverged
        A prediction is NaN.
    """
    splits = {"test": problem.splits.test}
    if problem.splits.val is not None:
        splits = {"val": problem.splits.val, **splits}
    labels = {name: split.labels.cpu().numpy() for name, split in splits.items()}
    rows: dict[str, Any] = {"metrics": [], "calibration": [], "selective": []}
    arrays: dict[str, np.ndarray] = {"labels": labels["test"].astype(np.int16)}
    for predictor, functions in predictors(problem, module, stage):
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
    if found_inputs := input_scores(problem, module):
        inputs = problem.splits.test.inputs[0].numel()
        first = {key: rows["metrics"][0][key] for key in ("predictor", "shift", "severity")}
        rows["metrics"] += [
            {"stage": stage.name, "split": "test", **first, "metric": metric, "value": value, "n": inputs}
            for metric, value in found_inputs.items()
        ]
    return rows, arrays


def _add_scaled(
    rows: dict[str, Any],
    stage: Stage,
    predictor: str,
    pooled: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
) -> None:
    """Add the scores of a predictor with temperature scaling, fitted on the validation part.

    The test part is scaled by the T fitted on the whole validation part. Each validation example is scaled by
    a T fitted without it, since a T must not be judged on the examples that it was fitted on.
    """
    fitted = temperature.cross_fit(pooled["val"], labels["val"])
    for name, log_probs in pooled.items():
        applied = fitted.held_out if name == "val" else fitted.value
        found = temperature.scaled(log_probs, applied)
        scores = scaled_scores(found, labels[name], applied, fitted.spread)
        _add(rows, (stage.name, f"{predictor}+temperature", name), scores, found, labels[name])


def scaled_scores(
    log_probs: np.ndarray,
    labels: np.ndarray,
    applied: float | np.ndarray,
    spread: float,
    bins: int = calibration.BINS,
) -> dict[str, float]:
    """Compute the metrics of a predictor with temperature scaling.

    Parameters
    ----------
    log_probs
        Its log probabilities (N, C), scaled already.
    labels
        Labels (N,).
    applied, spread
        The T that scaled them, one or one for each example, and its standard error.
    bins
        Number of bins of calibration errors and of the parts of the Brier score.
    """
    averaged = metrics.log_mean_exp(log_probs[None])
    scores = metrics.averaged_summary(averaged, *metrics.entropies(log_probs[None]), labels, bins)
    # mutual information needs draws, which a rescaled average does not have
    scores = {name: value for name, value in scores.items() if not name.startswith("mutual_information")}
    return scores | {"temperature": float(np.mean(applied)), "temperature_spread": spread}


def _add(
    rows: dict[str, Any],
    where: tuple[str, str, str],
    scores: dict[str, float],
    log_probs: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Add the metrics, calibration bins and risk-coverage curve of a stage, predictor and split."""
    here = dict(zip(("stage", "predictor", "split"), where, strict=True))
    as_it_is = {"shift": None, "severity": None}
    rows["metrics"] += [
        {**here, **as_it_is, "metric": metric, "value": value, "n": len(labels)}
        for metric, value in scores.items()
    ]
    probs = np.exp(log_probs)
    rows["calibration"] += [{**here, **row} for row in calibration.calibration_bins(probs, labels)]
    rows["selective"] += [{**here, **row} for row in metrics.selective(probs, labels)]


def fixed_draws(
    problem: Problem, module: nn.Module, stage: Stage, samples: int | None = None
) -> Iterator[Predictor]:
    """Return the posterior samples that score a stage; they are the same in every call.

    Parameters
    ----------
    problem, module, stage
        As in ``evaluate_stage``.
    samples
        Number of samples; by default ``evaluation.samples`` of the run.
    """
    generator = Streams(problem.spec.seed, problem.device).fresh(f"evaluation/{stage.name}")
    return problem.method.draws(module, samples or problem.spec.evaluation.samples, generator)


def predictors(
    problem: Problem, module: nn.Module, stage: Stage
) -> Iterable[tuple[str, Iterable[Predictor]]]:
    """Yield the name and the functions of each predictor."""
    mean = problem.method.mean(module)
    if mean is not None:
        yield "mean", [mean]
    yield "samples", fixed_draws(problem, module, stage)
