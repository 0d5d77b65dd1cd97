"""Score predicted class probabilities: accuracy, proper scores, calibration, uncertainty.

The module uses only numpy, in float64. Predictions are log probabilities (S, N, C) of S draws for N examples
and C classes, or averaged probabilities (N, C); labels are integers (N,). The predicted class is the most
probable one, the first of equally probable ones. Entropies are in nats. ``bench/columns.yaml`` defines each
metric.

Every function raises ``ValueError`` if there is no example, a prediction is NaN, or a label is not the number
of a class, since a score of such input would look like a result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.evaluation.calibration import (
    BINS,
    adaptive_ece,
    brier_parts,
    classwise_ece,
    ece,
    ece_null,
    marginal_l2,
    signed_ece,
)
from bench.evaluation.checked import labels_of, predictions, top_label

Array = NDArray[np.float64]

#: Number of points of a stored risk-coverage curve, at coverages 1/20, 2/20, …, 1.
COVERAGES = 20


def log_mean_exp(log_probs: ArrayLike) -> Array:
    """Average probabilities over draws in log space, without underflow.

    Parameters
    ----------
    log_probs
        Log probabilities (S, N, C).

    Returns
    -------
    ndarray
        Log of the averaged probabilities (N, C); -inf where the probability is 0 in every draw.
    """
    log_probs = predictions(log_probs, 3, "log probabilities (S, N, C)")
    largest = log_probs.max(axis=0)
    shift = np.where(np.isneginf(largest), 0.0, largest)  # -inf - -inf would be NaN
    with np.errstate(divide="ignore"):
        averaged: Array = shift + np.log(np.exp(log_probs - shift).mean(axis=0))
    return averaged


def summary(log_probs: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Compute every metric of a predictor.

    Parameters
    ----------
    log_probs
        Log probabilities (S, N, C) of its draws.
    labels
        Integer labels (N,).

    Returns
    -------
    dict
        Values by name of the metric. ``nll`` is inf if all draws give a label the probability 0. Means over
        right (or wrong) predictions are NaN if there are none; ``error_auroc`` is NaN if all predictions are
        right or all are wrong.
    """
    log_probs = predictions(log_probs, 3, "log probabilities (S, N, C)")
    return averaged_summary(log_mean_exp(log_probs), *entropies(log_probs), labels)


def averaged_summary(
    averaged: Array, entropy: Array, information: Array, labels: ArrayLike, bins: int = BINS
) -> dict[str, float]:
    """Compute every metric of a predictor, as ``summary`` does, from what is left of its draws.

    Parameters
    ----------
    averaged
        Log of the averaged probabilities (N, C).
    entropy, information
        Predictive entropy and mutual information (N,), as ``entropies`` returns them.
    labels
        Integer labels (N,).
    bins
        Number of bins of calibration errors and of the parts of the Brier score.
    """
    labels = labels_of(labels, averaged)
    probs = np.exp(averaged)
    confidence, correct = top_label(probs, labels)
    of_label = np.take_along_axis(averaged, labels[:, None], axis=1)
    return {
        "accuracy": float(correct.mean()),
        "nll": float(-of_label.mean()),
        "brier": float(((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1).mean()),
        "ece": ece(probs, labels, bins),
        "ece_null": ece_null(confidence, bins),
        "ece_marginal_l2": marginal_l2(probs, labels, bins),
        "ece_adaptive": adaptive_ece(probs, labels, bins),
        "ece_classwise": classwise_ece(probs, labels, bins),
        "ece_signed": signed_ece(probs, labels),
        "entropy": float(entropy.mean()),
        "mutual_information": float(information.mean()),
        "confidence": float(confidence.mean()),
        "entropy_right": _mean(entropy[correct]),
        "entropy_wrong": _mean(entropy[~correct]),
        "mutual_information_right": _mean(information[correct]),
        "mutual_information_wrong": _mean(information[~correct]),
        "error_auroc": auroc(entropy, ~correct),
        "aurc": float(_risks(confidence, correct).mean()),
    } | {f"brier_{name}": value for name, value in brier_parts(probs, labels, bins)._asdict().items()}


def entropies(log_probs: ArrayLike) -> tuple[Array, Array]:
    """Compute the uncertainty of each example.

    Parameters
    ----------
    log_probs
        Log probabilities (S, N, C) of the draws.

    Returns
    -------
    tuple
        Predictive entropy (N,), that of the averaged probabilities, and mutual information (N,) of label and
        draw, which is the predictive entropy minus the mean entropy of the draws; 0 for a single draw. Both
        are in nats.
    """
    log_probs = predictions(log_probs, 3, "log probabilities (S, N, C)")
    predictive = _entropy(log_mean_exp(log_probs))
    # by Jensen's inequality the difference is negative only through rounding
    return predictive, np.maximum(predictive - _entropy(log_probs).mean(axis=0), 0.0)


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Estimate the probability that a positive example has a higher score than a negative one.

    This is the Mann–Whitney statistic divided by the number of pairs; a tie counts one half.

    Parameters
    ----------
    scores
        Scores (N,).
    positive
        Whether each example is positive (N,).

    Returns
    -------
    float
        NaN if all examples are positive, or all are negative.
    """
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    pairs = int(positive.sum()) * int((~positive).sum())
    if not pairs:
        return float("nan")
    _, level, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[level]
    m = int(positive.sum())
    return float((ranks[positive].sum() - m * (m + 1) / 2) / pairs)


def selective(probs: ArrayLike, labels: ArrayLike) -> list[dict[str, float]]:
    """Compute the risk-coverage curve.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).

    Returns
    -------
    list
        One row for each ``coverage`` of 0.05, 0.1, …, 1. ``risk`` is the error rate among this share of the
        examples, taken from the most confident on and rounded up to a whole number. Among examples of equal
        confidence it is the expectation over their random order.

    References
    ----------
    Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, 2017.
    """
    probs = predictions(probs, 2, "probabilities (N, C)")
    return risk_coverage(*top_label(probs, labels_of(labels, probs)))


def risk_coverage(confidence: Array, correct: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Compute the rows of ``selective`` from the confidence (N,) of predictions and which are right."""
    risks = _risks(confidence, correct)
    taken = [-(-len(risks) * part // COVERAGES) for part in range(1, COVERAGES + 1)]
    return [
        {"coverage": part / COVERAGES, "risk": float(risks[count - 1])}
        for part, count in enumerate(taken, start=1)
    ]


def _risks(confidence: Array, correct: NDArray[np.bool_]) -> Array:
    """Compute the error rate among the k most confident examples for k = 1..N; their mean is the AURC."""
    _, level, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(level, ~correct) / counts  # error rate at each confidence, the highest first
    risks: Array = np.cumsum(np.repeat(wrong, counts)) / np.arange(1, len(confidence) + 1)
    return risks


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _entropy(log_probs: Array) -> Array:
    # p log p is 0 at p = 0, where the logarithm is -inf
    finite = np.where(np.isneginf(log_probs), 0.0, log_probs)
    result: Array = -(np.exp(log_probs) * finite).sum(axis=-1)
    return result
