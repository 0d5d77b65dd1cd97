"""Fit temperature scaling: divide log probabilities by one number T that is fitted on validation data.

The logarithms of the averaged probabilities are divided by T and normalised again: pool, then calibrate (Guo
et al. 2017, section 4.2; Rahaman and Thiery 2021). The order of the classes, and so the accuracy, does not
change. T minimises, over N validation examples,

    sum_i NLL_i(T)  +  log T + 1/T - 1,

which is convex in 1/T. The part after the sum is 0 at T = 1 and positive elsewhere. It is the negative log
density of a Gamma(2, 1) prior of 1/T, up to a constant, with its mode at T = 1. Its weight does not grow with
N, so that it has almost no effect with thousands of examples. It is needed for few: if every validation
example is predicted correctly, the NLL alone has no minimum (T goes to 0, and errors on the test part then
cost without bound), and if only one is wrong, T depends on that example alone. Smoothed targets serve the
same purpose in Platt scaling (Platt 1999).

The module uses only numpy, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: The least and the largest T. A fit that ends at a bound asks for more scaling than the data can support.
BOUNDS = (0.01, 100.0)
#: Number of parts of the validation examples; each part is scored with the T fitted on the others.
FOLDS = 10
# Tolerance of log T, and greatest number of steps; about ten are usual.
_TOLERANCE, _STEPS = 1e-10, 200
# Stands for the logarithm of 0, so that 0 log 0 is 0.
_LOWEST = -1e300


@dataclass(frozen=True)
class CrossFit:
    """Hold the T fitted on all validation examples, and the T fitted without each fold.

    Parameters
    ----------
    value
        T fitted on all N validation examples, for other data.
    spread
        Standard error of ``value`` by the jackknife over the K folds:
        sqrt((K - 1) / K sum_k (T_k - mean T)^2), where T_k is fitted without fold k. NaN for a single
        example, and if ``value`` is one of ``BOUNDS``, since T was cut off there.
    held_out
        For each example (N,) the T fitted without its fold.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, chapter 11 (jackknife by groups), 1993.
    """

    value: float
    spread: float
    held_out: Array


def cross_fit(log_probs: ArrayLike, labels: ArrayLike) -> CrossFit:
    """Fit T on all examples, and once more without each fold.

    Folds depend only on N and the position of an example, not on predictions or labels. So no example
    influences the T that it is scored with, and all methods are compared on the same folds.

    Parameters
    ----------
    log_probs
        Log probabilities (N, C), natural logarithm; -inf for a probability of 0.
    labels
        Integer labels (N,).
    """
    log_probs, labels = np.asarray(log_probs, dtype=np.float64), np.asarray(labels)
    examples = len(labels)
    folds = min(FOLDS, examples)
    # folds are random since the examples may be sorted by class, or the classes may alternate
    fold = np.random.default_rng(0).permutation(examples) % folds
    values = np.array([fit(log_probs[fold != k], labels[fold != k]) for k in range(folds)])
    value = fit(log_probs, labels)
    known = folds > 1 and value not in BOUNDS
    spread = math.sqrt((folds - 1) * values.var()) if known else math.nan
    return CrossFit(value, spread, values[fold])


def fit(log_probs: ArrayLike, labels: ArrayLike) -> float:
    """Fit T within ``BOUNDS``.

    Parameters
    ----------
    log_probs
        Log probabilities (N, C).
    labels
        Integer labels (N,). Examples whose label has the probability 0 are left out, since this is so at
        every T.

    Returns
    -------
    float
        The best T; 1 if there are no examples.
    """
    given = np.asarray(log_probs, dtype=np.float64)
    of_labels = np.take_along_axis(given, np.asarray(labels)[:, None], axis=1)[:, 0]
    possible = of_labels > -math.inf
    if not possible.any():
        return 1.0
    largest = given[possible].max(axis=1)
    logits = np.maximum(given[possible] - largest[:, None], _LOWEST)
    wanted = float((of_labels[possible] - largest).sum())

    def slope(log_t: float) -> tuple[float, float]:
        """Return the derivative of the objective by 1/T, and the derivative of that by -log T."""
        inverse = math.exp(-log_t)
        weights = np.exp(inverse * logits)
        weights /= weights.sum(axis=1, keepdims=True)
        weighted = weights * logits
        expected = weighted.sum(axis=1)
        variance = float((weighted * logits).sum() - (expected**2).sum())
        rise = float(expected.sum()) - wanted + 1.0 - 1.0 / inverse
        return rise, inverse * max(variance, 0.0) + 1.0 / inverse

    low, high = math.log(BOUNDS[0]), math.log(BOUNDS[1])
    log_t, step = 0.0, high - low
    for _ in range(_STEPS):
        rise, curvature = slope(log_t)
        low, high = (log_t, high) if rise > 0 else (low, log_t)
        # Newton's step; bisection if that step leaves the bracket or is longer than half of the last one
        last, step = step, rise / curvature
        if not (low <= log_t + step <= high and abs(step) <= abs(last) / 2):
            step = (low + high) / 2 - log_t
        log_t += step
        if abs(step) < _TOLERANCE:
            break
    ends = (end for end in BOUNDS if math.isclose(log_t, math.log(end), abs_tol=2 * _TOLERANCE))
    return next(ends, math.exp(log_t))


def scaled(log_probs: ArrayLike, temperature: float | Array) -> Array:
    """Divide log probabilities by T and normalise them again.

    Parameters
    ----------
    log_probs
        Log probabilities (N, C).
    temperature
        T, one for all examples or one for each (N,).

    Returns
    -------
    ndarray
        Log probabilities (N, C).
    """
    log_probs = np.asarray(log_probs, dtype=np.float64)
    divided = log_probs - log_probs.max(axis=1, keepdims=True)
    divided /= np.broadcast_to(temperature, len(divided))[:, None]
    result: Array = divided - np.log(np.exp(divided).sum(axis=1, keepdims=True))
    return result
