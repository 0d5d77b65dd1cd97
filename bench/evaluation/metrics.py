"""Scores of predicted class probabilities: accuracy, proper scores, calibration, uncertainty.

numpy alone, in float64. Predictions come as log probabilities (S, N, C) of S draws, or as
averaged probabilities (N, C); labels are integers (N,). The predicted class is the first of
the most probable. Entropies are in nats. ``bench/columns.yaml`` defines each metric.

Every function raises ``ValueError`` where there is no example, a prediction is NaN, or a
label is not the number of a class: a score of those would look like a result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Bins of calibration errors and of the reliability diagram.
BINS = 15
#: Parts that the coverages of a risk-coverage curve are multiples of.
COVERAGES = 20
#: Simulated sets of labels behind ``ece_null``: its standard error is a 22nd of the spread of one ECE.
NULL_DRAWS = 500
# Numbers simulated at a time: 8 MB, however many examples there are.
_CHUNK = 1_000_000


def log_mean_exp(log_probs: ArrayLike) -> Array:
    """Log of the probabilities averaged over draws, (S, N, C) to (N, C): the mean is never taken near 0.

    -inf where every draw says 0.
    """
    log_probs = _predictions(log_probs, 3, "log probabilities (S, N, C)")
    largest = log_probs.max(axis=0)
    shift = np.where(np.isneginf(largest), 0.0, largest)  # -inf - -inf would be NaN
    with np.errstate(divide="ignore"):
        averaged: Array = shift + np.log(np.exp(log_probs - shift).mean(axis=0))
    return averaged


def summary(log_probs: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Every metric of a predictor, from the log probabilities (S, N, C) of its draws and the labels (N,).

    ``nll`` is inf where a label was given probability 0 by all draws; what is of right or of wrong
    predictions is NaN where there are none, ``error_auroc`` where all are one or the other.
    """
    log_probs = _predictions(log_probs, 3, "log probabilities (S, N, C)")
    averaged = log_mean_exp(log_probs)
    labels = _labels(labels, averaged)
    probs = np.exp(averaged)
    confidence, correct = _top_label(probs, labels)
    of_label = np.take_along_axis(averaged, labels[:, None], axis=1)
    entropy, information = entropies(log_probs)
    return {
        "accuracy": float(correct.mean()),
        "nll": float(-of_label.mean()),
        "brier": float(((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1).mean()),
        "ece": ece(probs, labels),
        "ece_null": ece_null(confidence),
        "ece_marginal_l2": marginal_l2(probs, labels),
        "entropy": float(entropy.mean()),
        "mutual_information": float(information.mean()),
        "confidence": float(confidence.mean()),
        "entropy_right": _mean(entropy[correct]),
        "entropy_wrong": _mean(entropy[~correct]),
        "mutual_information_right": _mean(information[correct]),
        "mutual_information_wrong": _mean(information[~correct]),
        "error_auroc": auroc(entropy, ~correct),
        "aurc": float(_risks(confidence, correct).mean()),
    }


def entropies(log_probs: ArrayLike) -> tuple[Array, Array]:
    """Predictive entropy (N,), and mutual information (N,) of label and draw, of each example.

    The second is the predictive entropy less the mean entropy of the draws: what averaging over
    the posterior adds, 0 for a single draw.
    """
    log_probs = _predictions(log_probs, 3, "log probabilities (S, N, C)")
    predictive = _entropy(log_mean_exp(log_probs))
    # never negative (Jensen) but for rounding
    return predictive, np.maximum(predictive - _entropy(log_probs).mean(axis=0), 0.0)


def ece(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: top label, equal-width bins, L1 (Guo et al. 2017, equation 3)."""
    probs = _predictions(probs, 2, "probabilities (N, C)")
    confidence, correct = _top_label(probs, _labels(labels, probs))
    gaps = np.bincount(_equal_width(confidence, bins), confidence - correct)
    return float(np.abs(gaps).sum() / len(confidence))


def ece_null(confidence: ArrayLike, bins: int = BINS, draws: int = NULL_DRAWS) -> float:
    """The ECE to expect of a perfectly calibrated model with these confidences (N,), on as many examples.

    The mean over ``draws`` simulations, in which each prediction is right with the probability of
    its confidence. The simulation has a seed of its own, so this is a function of the arguments.
    An ECE near it is no evidence of miscalibration.
    """
    # sorted, the order of the examples does not matter, and every bin is one stretch
    confidence = np.sort(_predictions(confidence, 1, "confidences (N,)"))
    starts = np.unique(_equal_width(confidence, bins), return_index=True)[1]
    random = np.random.default_rng(0)
    size, total = max(1, _CHUNK // len(confidence)), 0.0
    for done in range(0, draws, size):
        simulated = random.random((min(size, draws - done), len(confidence)))
        gaps = np.add.reduceat(confidence - (simulated < confidence), starts, axis=1)
        total += float(np.abs(gaps).sum())
    return total / (draws * len(confidence))


def calibration_bins(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> list[dict[str, Any]]:
    """The reliability diagram: a row for each equal-width bin (lower, upper] of top-label confidence.

    The first bin has 0 too. ``confidence`` and ``accuracy`` are means over the bin, None where it is empty.
    """
    probs = _predictions(probs, 2, "probabilities (N, C)")
    confidence, correct = _top_label(probs, _labels(labels, probs))
    which = _equal_width(confidence, bins)
    counts = np.bincount(which, minlength=bins).tolist()
    sums = np.bincount(which, confidence, bins).tolist(), np.bincount(which, correct, bins).tolist()
    return [
        {
            "bin": i,
            "lower": i / bins,
            "upper": (i + 1) / bins,
            "count": count,
            "confidence": sums[0][i] / count if count else None,
            "accuracy": sums[1][i] / count if count else None,
        }
        for i, count in enumerate(counts)
    ]


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Probability that a positive example has a higher score than another one, a tie counting one half.

    scores, positive: (N,). The Mann-Whitney statistic over the number of pairs; NaN without pairs.
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
    """The risk-coverage curve (Geifman and El-Yaniv 2017): a row for each coverage of 0.05, 0.1, ..., 1.

    ``risk`` is the error rate among the most confident share ``coverage`` of the examples, rounded up to
    whole ones. Of examples of the same confidence it is the expectation over which are taken first.
    """
    probs = _predictions(probs, 2, "probabilities (N, C)")
    risks = _risks(*_top_label(probs, _labels(labels, probs)))
    taken = [-(-len(risks) * part // COVERAGES) for part in range(1, COVERAGES + 1)]
    return [
        {"coverage": part / COVERAGES, "risk": float(risks[count - 1])}
        for part, count in enumerate(taken, start=1)
    ]


def _risks(confidence: Array, correct: NDArray[np.bool_]) -> Array:
    """The error rate among the k most confident examples, for k = 1..N; its mean is the AURC."""
    _, level, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(level, ~correct) / counts  # of each confidence, the highest first
    risks: Array = np.cumsum(np.repeat(wrong, counts)) / np.arange(1, len(confidence) + 1)
    return risks


def _mean(values: Array) -> float:
    return float(values.mean()) if len(values) else float("nan")


def marginal_l2(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Debiased L2 marginal calibration error, equal-mass bins for each class (Kumar, Liang and Ma 2019).

    What the released SSVI code reports as ECE: the square root of the mean over classes of
    max(0, sum_b w_b [(conf_b - freq_b)^2 - freq_b (1 - freq_b) / (n_b - 1)]), where a bin of one
    example counts as 0. Bins end halfway between the sorted neighbours at which they are cut.
    """
    probs = _predictions(probs, 2, "probabilities (N, C)")
    labels = _labels(labels, probs)
    n, classes = probs.shape
    bins = min(bins, n)
    # as even as possible, the larger parts first
    cuts = np.cumsum(np.full(bins, n // bins) + (np.arange(bins) < n % bins))[:-1]
    ordered = np.sort(probs, axis=0)
    edges = (ordered[cuts - 1] + ordered[cuts]) / 2
    # equal edges leave empty bins between them, which count for nothing
    which = sum((probs > edge for edge in edges), start=np.zeros(probs.shape, dtype=np.intp))
    cells = (which + bins * np.arange(classes)).ravel()
    counts = np.bincount(cells, minlength=bins * classes)
    happened = (labels[:, None] == np.arange(classes)).ravel()
    sums = np.bincount(cells, probs.ravel(), len(counts)), np.bincount(cells, happened, len(counts))
    kept = counts > 1
    m, terms = counts[kept], np.zeros(len(counts))
    predicted, frequency = sums[0][kept] / m, sums[1][kept] / m
    terms[kept] = m / n * ((predicted - frequency) ** 2 - frequency * (1 - frequency) / (m - 1))
    squares = np.maximum(terms.reshape(classes, bins).sum(axis=1), 0.0)
    return float(np.sqrt(squares.mean()))


def _top_label(probs: Array, labels: NDArray[np.intp]) -> tuple[Array, NDArray[np.bool_]]:
    """The probability of the predicted class, and whether that is the label, of each example (N,)."""
    # the average of probabilities near 1 may be rounded to just above it
    return np.minimum(probs.max(axis=1), 1.0), probs.argmax(axis=1) == labels


def _equal_width(values: Array, bins: int) -> NDArray[np.intp]:
    """Which of ``bins`` parts (lower, upper] of [0, 1] each value lies in."""
    return np.searchsorted(np.arange(1, bins) / bins, values, side="left")


def _entropy(log_probs: Array) -> Array:
    # p log p is 0 at p = 0, where the logarithm is -inf
    finite = np.where(np.isneginf(log_probs), 0.0, log_probs)
    result: Array = -(np.exp(log_probs) * finite).sum(axis=-1)
    return result


def _predictions(values: ArrayLike, dimensions: int, what: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected {what} of at least one example, got an array of shape {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"{what} contain NaN")
    return array


def _labels(values: ArrayLike, predictions: Array) -> NDArray[np.intp]:
    """Labels (N,) checked against predictions (N, C)."""
    labels = np.asarray(values)
    n, classes = predictions.shape
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"expected {n} integer labels, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    return labels.astype(np.intp)
