"""Score how well uncertainty tells inputs of no class (unknown) from test inputs (known).

A detector gives each input a number that is higher the less the input looks known. Its rates and areas are
those of a test for *unknown*, unless a name says otherwise. They depend only on the order of the numbers, so
that infinite ones are allowed; NaN raises ``ValueError``. The module uses only numpy, in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.evaluation.checked import predictions
from bench.evaluation.metrics import auroc

Array = NDArray[np.float64]

#: True positive rate at which ``fpr95`` reads the false positive rate.
TPR = 0.95


def detectors(probs: ArrayLike, entropy: ArrayLike, information: ArrayLike) -> dict[str, Array]:
    """Compute the scores of the detectors that need only predicted probabilities.

    Parameters
    ----------
    probs
        Averaged probabilities (N, C).
    entropy
        Predictive entropy (N,), in nats.
    information
        Mutual information of label and draw (N,), in nats.

    Returns
    -------
    dict
        Scores (N,) by detector, higher for inputs that look unknown:

        - ``max_probability``: 1 minus the probability of the predicted class (Hendrycks and Gimpel 2017), as
          the sum of the other probabilities, so that rounding to 1 makes no ties;
        - ``entropy``: predictive entropy, that of the averaged probabilities;
        - ``mutual_information``: how much the draws disagree, 0 for a single draw (Gal, Islam and Ghahramani
          2017);
        - ``expected_entropy``: mean entropy of the draws, which is predictive entropy minus mutual
          information (Depeweg et al. 2018).
    """
    probs = predictions(probs, 2, "probabilities (N, C)")
    entropy = predictions(entropy, 1, "entropies (N,)")
    information = predictions(information, 1, "mutual information (N,)")
    others = np.array(probs)
    others[np.arange(len(probs)), probs.argmax(axis=1)] = 0
    return {
        "max_probability": others.sum(axis=1),
        "entropy": entropy,
        "mutual_information": information,
        "expected_entropy": entropy - information,
    }


def energy(logits: ArrayLike) -> Array:
    """Compute the energy -log Σ exp(logit) of each input, averaged over draws; higher looks more unknown.

    Parameters
    ----------
    logits
        Outputs (S, N, C) of S draws for N inputs, before softmax.

    Returns
    -------
    ndarray
        Energies (N,) at temperature 1, in nats; infinite where all logits of a draw are -inf or one is inf.

    References
    ----------
    Liu, Wang, Owens and Li, Energy-based Out-of-distribution Detection, equation 4, 2020.
    """
    logits = predictions(logits, 3, "logits (S, N, C)")
    largest = logits.max(axis=2, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0.0)  # inf - inf would be NaN
    with np.errstate(divide="ignore", over="ignore"):
        sums = shift[:, :, 0] + np.log(np.exp(logits - shift).sum(axis=2))
    return predictions(-sums.mean(axis=0), 1, "energies (N,)")


def detection(known: ArrayLike, unknown: ArrayLike) -> dict[str, float]:
    """Compute every measure of a detector.

    Parameters
    ----------
    known
        Scores (N,) of test inputs.
    unknown
        Scores (M,) of inputs of no class.

    Returns
    -------
    dict
        - ``auroc``: probability that an unknown input has a higher score than a known one, where a tie
          counts one half;
        - ``aupr_out``, ``aupr_in``: average precision with unknown, and with known inputs as the positive
          class;
        - ``fpr95``: share of known inputs that are taken for unknown at the strictest threshold that finds
          95 % of the unknown ones.

        ``chance_levels`` has their values without any information. If there are no known or no unknown
        inputs, ``auroc`` and ``fpr95`` are NaN, and the average precisions 0 and 1, as in scikit-learn.
    """
    known, unknown = np.asarray(known, dtype=np.float64), np.asarray(unknown, dtype=np.float64)
    scores = predictions(np.concatenate([known, unknown]), 1, "scores (N,)")
    is_unknown = np.arange(len(scores)) >= len(known)
    return {
        "auroc": auroc(scores, is_unknown),
        "aupr_out": average_precision(scores, is_unknown),
        "aupr_in": average_precision(-scores, ~is_unknown),
        "fpr95": fpr_at_tpr(scores, is_unknown),
    }


def chance_levels(known: int, unknown: int) -> dict[str, float]:
    """Compute what the measures of ``detection`` are for scores that are independent of what an input is.

    Parameters
    ----------
    known, unknown
        Numbers of inputs; at least one in all.

    Returns
    -------
    dict
        Limits for many inputs, by measure: 1/2 for ``auroc``, 0.95 for ``fpr95``, and the share of the
        positive class for the areas. A constant score has these values too, except that its ``fpr95`` is 1:
        the only threshold that finds anything takes every input for unknown.
    """
    share = unknown / (known + unknown)
    return {"auroc": 0.5, "aupr_out": share, "aupr_in": 1 - share, "fpr95": TPR}


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Compute the area under the precision-recall curve, as the mean precision over recall.

    Σ (R_k - R_{k-1}) P_k over the distinct scores from the highest on, where P_k and R_k are precision and
    recall if scores from the k-th one up are called positive. The curve is not interpolated, which would be
    optimistic (Davis and Goadrich 2006).

    Parameters
    ----------
    scores
        Scores (N,).
    positive
        Whether each example is positive (N,).

    Returns
    -------
    float
        1 if all examples are positive, 0 if none is.
    """
    found, mistaken = _counts(scores, positive)
    if not found[-1]:
        return 0.0
    return float((np.diff(found, prepend=0) * found / (found + mistaken)).sum() / found[-1])


def fpr_at_tpr(scores: ArrayLike, positive: ArrayLike, tpr: float = TPR) -> float:
    """Compute the false positive rate at the highest threshold whose true positive rate is at least ``tpr``.

    Thresholds are the scores themselves: examples of equal score are called positive together.

    Parameters
    ----------
    scores
        Scores (N,).
    positive
        Whether each example is positive (N,).
    tpr
        True positive rate, above 0 and at most 1.

    Returns
    -------
    float
        NaN if all examples are positive, or all are negative.

    References
    ----------
    Hendrycks, Mazeika and Dietterich, Deep Anomaly Detection with Outlier Exposure, 2019 (unknown inputs are
    the positive class, as in OpenOOD; in Liu et al. 2020 the known ones are).
    """
    found, mistaken = _counts(scores, positive)
    if not found[-1] or not mistaken[-1]:
        return float("nan")
    return float(mistaken[np.argmax(found / found[-1] >= tpr)] / mistaken[-1])


def _counts(scores: ArrayLike, positive: ArrayLike) -> tuple[Array, Array]:
    """Count positive and negative examples from each distinct score up, the highest score first."""
    is_positive = np.asarray(positive, dtype=bool)
    level = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)[1]
    return np.cumsum(np.bincount(level, is_positive)), np.cumsum(np.bincount(level, ~is_positive))
