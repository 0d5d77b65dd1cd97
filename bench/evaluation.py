"""The one evaluation: every method is scored here, by its draws and by its mean network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench import metrics
from bench.data.base import Split
from bench.problem import Problem
from methods.base import Predictor, Stage
from methods.streams import Streams


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

    Returns rows for the ``metrics`` and ``calibration`` tables, and the arrays to store of the
    test part: labels (N,), and for each predictor averaged probabilities (N, C) and per-example
    predictive entropy and mutual information (N,).
    """
    splits = {"test": problem.splits.test}
    if problem.splits.val is not None:
        splits = {"val": problem.splits.val, **splits}
    rows: dict[str, Any] = {"metrics": [], "calibration": []}
    arrays: dict[str, np.ndarray] = {"labels": splits["test"].labels.cpu().numpy().astype(np.int16)}
    for predictor, functions in _predictors(problem, module, stage):
        draws: dict[str, list[np.ndarray]] = {name: [] for name in splits}
        for function in functions:
            for name, split in splits.items():
                draws[name].append(log_probabilities(problem, module, function, split))
        for name, split in splits.items():
            found, labels = np.stack(draws[name]), split.labels.cpu().numpy()
            here = {"stage": stage.name, "predictor": predictor, "split": name}
            for metric, value in metrics.summary(found, labels).items():
                row = {
                    **here,
                    "shift": None,
                    "severity": None,
                    "metric": metric,
                    "value": value,
                    "n": len(labels),
                }
                rows["metrics"].append(row)
            averaged = np.exp(metrics.log_mean_exp(found))
            rows["calibration"] += [{**here, **row} for row in metrics.calibration_bins(averaged, labels)]
            if name == "test":
                entropy, information = metrics.entropies(found)
                arrays[f"{predictor}/probabilities"] = averaged.astype(np.float32)
                arrays[f"{predictor}/entropy"] = entropy.astype(np.float32)
                arrays[f"{predictor}/mutual_information"] = information.astype(np.float32)
    return rows, arrays


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
