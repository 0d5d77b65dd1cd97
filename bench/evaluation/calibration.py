"""Measure calibration of predicted class probabilities: whether they are the frequencies of what happens.

The module uses only numpy, in float64. Every function raises ``ValueError`` as in ``metrics``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.evaluation.checked import labels_of, predictions, top_label

Array = NDArray[np.float64]

#: Number of bins of calibration errors and of the reliability diagram.
BINS = 15
#: Number of simulated sets of labels for ``ece_null``. Its standard error is then 1/22 of the standard
#: deviation of a single ECE.
NULL_DRAWS = 500
# Simulate this many numbers at a time, so that memory stays at 8 MB for any number of examples.
_CHUNK = 1_000_000


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
    probs = predictions(probs, 2, "probabilities (N, C)")
    confidence, correct = top_label(probs, labels_of(labels, probs))
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
    confidence = np.sort(predictions(confidence, 1, "confidences (N,)"))
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
    probs = predictions(probs, 2, "probabilities (N, C)")
    confidence, correct = top_label(probs, labels_of(labels, probs))
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
    probs = predictions(probs, 2, "probabilities (N, C)")
    labels = labels_of(labels, probs)
    n = len(probs)
    cuts = _equal_mass(n, bins)[1:]
    ordered = np.sort(probs, axis=0)
    edges = (ordered[cuts - 1] + ordered[cuts]) / 2
    # between equal edges lie empty bins, which contribute nothing
    which = sum((probs > edge for edge in edges), start=np.zeros(probs.shape, dtype=np.intp))
    counts, predicted, happened = _cells(probs, labels, which, len(edges) + 1)
    kept = counts > 1
    m, terms = counts[kept], np.zeros(counts.shape)
    confidence, frequency = predicted[kept] / m, happened[kept] / m
    terms[kept] = m / n * ((confidence - frequency) ** 2 - frequency * (1 - frequency) / (m - 1))
    squares = np.maximum(terms.sum(axis=1), 0.0)
    return float(np.sqrt(squares.mean()))


def adaptive_ece(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Compute the expected calibration error of the top label with bins of equally many examples.

    Examples of equal confidence may lie in two bins; each then counts with their common accuracy.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).
    bins
        Number of bins; at most N are used, the larger ones first.

    Returns
    -------
    float
        A number in [0, 1].

    References
    ----------
    Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural language processing
    models, 2015.
    """
    probs = predictions(probs, 2, "probabilities (N, C)")
    confidence, correct = top_label(probs, labels_of(labels, probs))
    levels, level, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    differences = np.repeat(levels - np.bincount(level, correct) / counts, counts)
    gaps = np.add.reduceat(differences, _equal_mass(len(differences), bins))
    return float(np.abs(gaps).sum() / len(differences))


def classwise_ece(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Compute the expected calibration error of the probability of each class, averaged over classes.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).
    bins
        Number of equal-width bins of each class.

    Returns
    -------
    float
        A number in [0, 1].

    References
    ----------
    Kull et al., Beyond temperature scaling, equation 4, 2019; Nixon et al. 2019 (static calibration error).
    """
    probs = predictions(probs, 2, "probabilities (N, C)")
    _, predicted, happened = _cells(probs, labels_of(labels, probs), _equal_width(probs, bins), bins)
    return float(np.abs(predicted - happened).sum() / probs.size)


def signed_ece(probs: ArrayLike, labels: ArrayLike) -> float:
    """Compute accuracy minus mean confidence: below 0 the predictions are overconfident.

    It is the ECE of the top label with signed differences, in which the bins cancel.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).

    References
    ----------
    Seligmann et al., Beyond Deep Ensembles: A Large-Scale Evaluation of Bayesian Deep Learning under
    Distribution Shift, 2023.
    """
    probs = predictions(probs, 2, "probabilities (N, C)")
    confidence, correct = top_label(probs, labels_of(labels, probs))
    return float((correct - confidence).mean())


class BrierParts(NamedTuple):
    """Hold the parts of a Brier score, which is reliability - resolution + uncertainty.

    They differ from it by how much probabilities differ within a bin.
    """

    reliability: float
    resolution: float
    uncertainty: float


def brier_parts(probs: ArrayLike, labels: ArrayLike, bins: int = BINS) -> BrierParts:
    """Decompose the Brier score into what calibration, discrimination and the data contribute.

    With p and o the mean probability and the frequency of a class in one of its bins, w the bin's share of
    the examples, and f the frequency of the class: reliability is the sum over classes and bins of
    w (p - o)^2, resolution that of w (o - f)^2, and uncertainty the sum over classes of f (1 - f). The parts
    give the Brier score exactly if all probabilities in a bin are equal (Stephenson et al. 2008).

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    labels
        Integer labels (N,).
    bins
        Number of equal-width bins of each class.

    References
    ----------
    Murphy, A New Vector Partition of the Probability Score, 1973.
    """
    probs = predictions(probs, 2, "probabilities (N, C)")
    labels = labels_of(labels, probs)
    counts, predicted, happened = _cells(probs, labels, _equal_width(probs, bins), bins)
    frequency = np.bincount(labels, minlength=probs.shape[1]) / len(labels)
    filled = counts > 0
    size = np.where(filled, counts, 1)
    resolution = counts * (happened / size - frequency[:, None]) ** 2
    return BrierParts(
        reliability=float(((predicted - happened) ** 2 / size).sum() / len(labels)),
        resolution=float(resolution.sum() / len(labels)),
        uncertainty=float((frequency * (1 - frequency)).sum()),
    )


def _cells(
    probs: Array, labels: NDArray[np.intp], which: NDArray[np.intp], bins: int
) -> tuple[Array, Array, Array]:
    """Return for each class and bin (C, B) the number of examples, and the sums of p and of the event.

    ``which`` (N, C) has the number of the bin of each probability.
    """
    classes = probs.shape[1]
    which = (which + bins * np.arange(classes)).ravel()
    happened = (labels[:, None] == np.arange(classes)).ravel().astype(np.float64)
    shape, size = (classes, bins), classes * bins
    counts, predicted, events = (
        np.bincount(which, weights, size).astype(np.float64).reshape(shape)
        for weights in (None, probs.ravel(), happened)
    )
    return counts, predicted, events


def _equal_mass(examples: int, bins: int) -> NDArray[np.intp]:
    """Return where each of ``bins`` parts of sorted examples begins; the larger parts come first."""
    bins = min(bins, examples)
    sizes = np.full(bins, examples // bins) + (np.arange(bins) < examples % bins)
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)


def _equal_width(values: Array, bins: int) -> NDArray[np.intp]:
    """Return the number of the bin (lower, upper] of each value, for ``bins`` equal parts of [0, 1]."""
    return np.searchsorted(np.arange(1, bins) / bins, values, side="left")
