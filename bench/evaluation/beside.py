"""Score a trained network on sets beside its test part: inputs of no class, and shifted test inputs.

The predictors are those that score the test part, with the same posterior samples, and with temperature
scaling fitted on unshifted validation data. Inputs are streamed, so that memory holds the draws of a few of
them at a time, and what is left of a whole set is one prediction for each input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from bench.data.base import SEVERITIES, Split
from bench.evaluation import metrics, temperature
from bench.evaluation.checked import top_label
from bench.evaluation.detection import detection, detectors, energy
from bench.evaluation.evaluate import Diverged, predictors, scaled_scores
from bench.experiment.problem import Problem
from methods.base import Predictor, Stage

Array = np.ndarray
#: Bytes of the log probabilities of all draws for the inputs that are scored at a time.
CHUNK_BYTES = 2**24
#: Detectors that need several draws.
_OF_DRAWS = ("mutual_information", "expected_entropy")


@dataclass(frozen=True)
class Predictions:
    """What is left of the draws of a predictor on a set.

    Parameters
    ----------
    log_probs
        Log of the averaged probabilities (N, C).
    entropy, information
        Predictive entropy and mutual information (N,), in nats.
    energy
        Energy (N,) of the logits, averaged over draws; None for scaled probabilities.
    draws
        Number of draws; 0 for scaled probabilities.
    """

    log_probs: Array
    entropy: Array
    information: Array
    energy: Array | None = None
    draws: int = 0

    def scaled(self, value: float) -> Predictions:
        """Return the predictions with temperature scaling by ``value``; they are no average of draws."""
        log_probs = temperature.scaled(self.log_probs, value)
        return Predictions(log_probs, *metrics.entropies(log_probs[None]))

    def detectors(self) -> dict[str, Array]:
        """Return the scores (N,) of the detectors that these predictions have, by name."""
        found = detectors(np.exp(self.log_probs), self.entropy, self.information)
        if self.draws < 2:
            found = {name: scores for name, scores in found.items() if name not in _OF_DRAWS}
        return found if self.energy is None else {**found, "energy": self.energy}


@dataclass(frozen=True)
class _Known:
    """What is known of a predictor on the test part: scores of detectors, confidence, whether it is right."""

    detectors: dict[str, Array]
    confidence: Array
    correct: Array


class Beside:
    """The evaluation of one trained network on sets beside its test part.

    Parameters
    ----------
    problem
        The run's data, method and settings.
    module
        The trained network.
    stage
        The last stage of its training.
    look
        Called before each batch; it may raise an exception to stop the evaluation.
    """

    def __init__(
        self, problem: Problem, module: nn.Module, stage: Stage, look: Callable[[], None] = lambda: None
    ) -> None:
        self._problem, self._module, self._stage, self._look = problem, module, stage, look
        self._temperatures: dict[str, temperature.CrossFit] = {}
        if (val := problem.splits.val) is not None:
            labels = val.labels.cpu().numpy()
            for predictor, found in self._predictions(self._chunks(val.inputs)).items():
                self._temperatures[predictor] = temperature.cross_fit(found.log_probs, labels)
        self._labels = problem.splits.test.labels.cpu().numpy()
        self._known: dict[str, _Known] = {}

    def shift(self, name: str, shifted: Callable[[torch.Tensor, int], torch.Tensor]) -> dict[str, Any]:
        """Return the rows of the long tables for shifted test inputs, at all severities.

        Parameters
        ----------
        name
            Name of the shift.
        shifted
            Function from a batch of stored inputs on the CPU and a severity to shifted ones.

        Raises
        ------
        Diverged
            If a prediction is NaN.
        """
        rows: list[dict[str, Any]] = []
        for severity in SEVERITIES:
            began = time.perf_counter()
            inputs = (shifted(chunk, severity) for chunk in self._chunks(self._problem.splits.test.inputs))
            here = {"split": "test", "shift": name, "severity": severity}
            for predictor, found in self._predictions(inputs).items():
                parts = found.log_probs, found.entropy, found.information
                rows += self._rows(here, predictor, metrics.averaged_summary(*parts, self._labels))
                if (fitted := self._temperatures.get(predictor)) is not None:
                    log_probs = temperature.scaled(found.log_probs, fitted.value)
                    scores = scaled_scores(log_probs, self._labels, fitted.value, fitted.spread)
                    rows += self._rows(here, f"{predictor}+temperature", scores)
            rows += self._rows(here, None, _seconds(began))
        return {"metrics": rows, "calibration": [], "selective": [], "stages": []}

    def unknown(self, name: str, inputs: torch.Tensor) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return the rows of the long tables for inputs of no class, and scores of single inputs.

        Parameters
        ----------
        name
            Name of the set.
        inputs
            Stored inputs (M, ...).

        Returns
        -------
        tuple
            The rows; and arrays (M,), float32, by ``<predictor>/<detector>``: the detectors of predictors
            without temperature scaling. The expected entropy is left out, since it is the difference of
            entropy and mutual information.

        Raises
        ------
        Diverged
            If a prediction is NaN.
        """
        if not self._known:
            own = self._predictions(self._chunks(self._problem.splits.test.inputs))
            self._known = {predictor: self._of_test(found) for predictor, found in self._with_scaled(own)}
        began = time.perf_counter()
        here = {"split": name, "shift": None, "severity": None}
        rows: list[dict[str, Any]] = []
        curves: list[dict[str, Any]] = []
        arrays: dict[str, Array] = {}
        for predictor, found in self._with_scaled(self._predictions(self._chunks(inputs))):
            known, scores = self._known[predictor], found.detectors()
            confidence = np.minimum(np.exp(found.log_probs).max(axis=1), 1.0)
            values = {"entropy": found.entropy.mean(), "confidence": confidence.mean()}
            if found.draws:
                values["mutual_information"] = found.information.mean()
                arrays |= {
                    f"{predictor}/{detector}": each.astype(np.float32)
                    for detector, each in scores.items()
                    if detector != "expected_entropy"
                }
            for detector, each in scores.items():
                measures = detection(known.detectors[detector], each)
                values |= {f"{measure}_{detector}": value for measure, value in measures.items()}
            rows += self._rows(here, predictor, values, len(inputs))
            right = np.concatenate([known.correct, np.zeros(len(inputs), dtype=bool)])
            curve = metrics.risk_coverage(np.concatenate([known.confidence, confidence]), right)
            where = {"stage": self._stage.name, "predictor": predictor, "split": name}
            curves += [where | point for point in curve]
        rows += self._rows(here, None, _seconds(began), len(inputs))
        return {"metrics": rows, "calibration": [], "selective": curves, "stages": []}, arrays

    def _rows(
        self, here: dict[str, Any], predictor: str | None, scores: dict[str, Any], n: int | None = None
    ) -> list[dict[str, Any]]:
        head = {"stage": self._stage.name, "predictor": predictor, **here}
        n = len(self._labels) if n is None else n
        return [{**head, "metric": metric, "value": float(value), "n": n} for metric, value in scores.items()]

    def _of_test(self, found: Predictions) -> _Known:
        return _Known(found.detectors(), *top_label(np.exp(found.log_probs), self._labels))

    def _with_scaled(self, found: dict[str, Predictions]) -> Iterator[tuple[str, Predictions]]:
        """Yield each predictor's predictions, and those with its temperature."""
        for predictor, predictions in found.items():
            yield predictor, predictions
            if (fitted := self._temperatures.get(predictor)) is not None:
                yield f"{predictor}+temperature", predictions.scaled(fitted.value)

    def _chunks(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield stored inputs on the CPU, as many at a time as ``CHUNK_BYTES`` allow, in whole batches."""
        problem = self._problem
        batch = problem.evaluation_batch(self._module)
        each = problem.spec.evaluation.samples * problem.task.classes * 8
        for chunk in inputs.split(max(CHUNK_BYTES // each // batch, 1) * batch):
            yield chunk.cpu()

    def _predictions(self, chunks: Iterable[torch.Tensor]) -> dict[str, Predictions]:
        """Return what every predictor predicts for inputs that come in chunks."""
        parts: dict[str, list[Predictions]] = {}
        for chunk in chunks:
            given = chunk.to(self._problem.device)
            split = Split(given, torch.zeros(len(given), dtype=torch.long, device=given.device))
            for predictor, functions in predictors(self._problem, self._module, self._stage):
                outputs = [self._outputs(function, split) for function in functions]
                logits, log_probs = zip(*outputs, strict=True)
                drawn = np.stack(log_probs)
                entropy, information = metrics.entropies(drawn)
                found = Predictions(
                    metrics.log_mean_exp(drawn), entropy, information, energy(np.stack(logits)), len(drawn)
                )
                parts.setdefault(predictor, []).append(found)
        return {predictor: _joined(found) for predictor, found in parts.items()}

    @torch.no_grad()
    def _outputs(self, predictor: Predictor, split: Split) -> tuple[Array, Array]:
        """Return logits and log probabilities (N, C) in float64."""
        self._module.eval()
        logits, log_probs = [], []
        for inputs, _ in self._problem.batches(split, self._problem.evaluation_batch(self._module)):
            self._look()
            found = predictor(inputs).double()
            logits.append(found.cpu().numpy())
            log_probs.append(F.log_softmax(found, dim=-1).cpu().numpy())
        if any(np.isnan(rows).any() for rows in log_probs):
            raise Diverged("the predictions are not finite")
        return np.concatenate(logits), np.concatenate(log_probs)


def _joined(parts: list[Predictions]) -> Predictions:
    names = ("log_probs", "entropy", "information", "energy")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Predictions(**joined, draws=parts[0].draws)


def _seconds(began: float) -> dict[str, float]:
    return {"evaluation_seconds": time.perf_counter() - began}
