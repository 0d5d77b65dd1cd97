"""Score predicted class probabilities: accuracy, proper scores, calibration, uncertainty.

The module uses only numpy, in float64. Predictions are log probabilities (S, N, C) of S draws for N examples
and C classes, or averaged probabilities (N, C); labels are integers (N,). The predicted class is the most
probable one, the first of equally probable ones. Entropies are in nats. ``bench/columns.yaml`` defines each
metric.

Every function raises ``ValueError`` if there is no example, a prediction is NaN, or a label is not the number
of a class, since a score of such input would look like a result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Number of bins of calibration errors and of the reliability diagram.
BINS = 15
#: Number of points of a stored risk-coverage curve, at coverages 1/20, 2/20, …, 1.
COVERAGES = 20
#: Number of simulated sets of labels for ``ece_null``. Its standard error is then 1/22 of the standard
#: deviation of a single ECE.
NULL_DRAWS = 500
# Simulate this many numbers at a time, so that memory stays at 8 MB for any number of examples.
_CHUNK = 1_000_000


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
    log_probs = _predictions(log_probs, 3, "log probabilities (S, N, C)")
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
    log_probs = _predictions(log_probs, 3, "log probabilities (S, N, C)")
    predictive = _entropy(log_mean_exp(log_probs))
    # by Jensen's inequality the difference is negative only through rounding
    return predictive, np.maximum(predictive - _entropy(log_probs).mean(axis=0), 0.0)


def ece(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Compute the expected calibration error of the top label with equal-width bins and the L1 norm.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).
    bins
        Number of bins.

    Returns
    -------
    float
        A number in [0, 1].

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, equation 3, 2017.
    """
    probs = _predictions(probs, 2, "probabilities (N, C)")
    confidence, correct = _top_label(probs, _labels(labels, probs))
    gaps = np.bincount(_equal_width(confidence, bins), confidence - correct)
    return float(np.abs(gaps).sum() / len(confidence))


def ece_null(confidence: ArrayLike, bins: int = BINS, draws: int = NULL_DRAWS) -> float:
    """Compute the mean ECE that a perfectly calibrated model with the same confidences would have.

    An ECE near this number is no evidence of miscalibration. In each simulation a prediction is right with
    the probability of its confidence. The simulations start from a fixed seed, so that the result depends
    only on the arguments.

    Parameters
    ----------
    confidence
        Probability of the predicted class of each example (N,).
    bins
        Number of bins.
    draws
        Number of simulations to average over.
    """
    # after sorting, the result does not depend on the order of the examples, and each bin is contiguous
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
    """Compute the reliability diagram of the top label.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).
    bins
        Number of bins.

    Returns
    -------
    list
        One row for each equal-width bin (lower, upper] of confidence; the first bin includes 0.
        ``confidence`` and ``accuracy`` are means over the bin, None if it is empty.
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
    probs = _predictions(probs, 2, "probabilities (N, C)")
    risks = _risks(*_top_label(probs, _labels(labels, probs)))
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


def marginal_l2(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Compute the debiased L2 marginal calibration error with equal-mass bins for each class.

    The released SSVI code reports this number as ECE. It is the square root of the mean over classes of
    max(0, sum_b w_b [(conf_b - freq_b)^2 - freq_b (1 - freq_b) / (n_b - 1)]), where w_b = n_b / N and a bin
    of one example counts as 0. A bin ends halfway between the sorted probabilities on either side of the cut.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).
    bins
        Number of bins of each class, at most N are used.

    References
    ----------
    Kumar, Liang and Ma, Verified Uncertainty Calibration, 2019.
    """
    probs = _predictions(probs, 2, "probabilities (N, C)")
    labels = _labels(labels, probs)
    n, classes = probs.shape
    bins = min(bins, n)
    # the bins are as equal as possible, the larger ones first
    cuts = np.cumsum(np.full(bins, n // bins) + (np.arange(bins) < n % bins))[:-1]
    ordered = np.sort(probs, axis=0)
    edges = (ordered[cuts - 1] + ordered[cuts]) / 2
    # between equal edges lie empty bins, which contribute nothing
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
    """Return for each example the probability of the predicted class, and whether that class is the label."""
    # the average of probabilities near 1 may be rounded to slightly more than 1
    return np.minimum(probs.max(axis=1), 1.0), probs.argmax(axis=1) == labels


def _equal_width(values: Array, bins: int) -> NDArray[np.intp]:
    """Return the number of the bin (lower, upper] of each value, for ``bins`` equal parts of [0, 1]."""
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
    """Check labels (N,) against predictions (N, C)."""
    labels = np.asarray(values)
    n, classes = predictions.shape
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"expected {n} integer labels, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    return labels.astype(np.intp)
