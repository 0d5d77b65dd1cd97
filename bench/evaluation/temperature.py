"""Temperature scaling: one number T, fitted on validation data, that log probabilities are divided by.

The logarithms of the averaged probabilities are divided by T and normalised again: pool, then
calibrate (Guo et al. 2017, section 4.2; Rahaman and Thiery 2021). The order of the classes, so
accuracy, stays. T minimises the sum over N validation examples

    sum_i NLL_i(T)  +  log T + 1/T - 1,

which is convex in 1/T. The last part, 0 at T = 1 and positive elsewhere, is a Gamma(2, 1) prior of
1/T with its mode there. It weighs as much however many examples there are, so thousands leave
nothing of it. Some of it is needed: where every validation example is right the NLL alone has no
minimum (T goes to 0, and what is wrong in the test part costs without bound), and where one is
wrong T hangs on that one. It is the place that smoothed targets have in Platt scaling (Platt 1999).

numpy alone, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: The least and the largest T. One at an end says that far more was wanted than data can settle.
BOUNDS = (0.01, 100.0)
#: Parts of the validation examples, each scored with the T of the others.
FOLDS = 10
# log T is found to this, in ten steps or so; the number of them is a guard.
_TOLERANCE, _STEPS = 1e-10, 200
# Stands for the logarithm of 0, so that 0 log 0 is 0.
_LOWEST = -1e300


@dataclass(frozen=True)
class CrossFit:
    """T of all validation examples, and of those outside each fold.

    value: fitted on all N; for data that are none of them. held_out: (N,), for each example the T
    fitted without its fold. spread: the standard error of ``value`` by the jackknife over the K folds,
    sqrt((K - 1) / K sum_k (T_k - mean T)^2), T_k being without fold k (Efron and Tibshirani 1993,
    chapter 11, a group at a time); NaN where there is one example, and where ``value`` is an end of
    ``BOUNDS``, beyond which nothing is known.
    """

    value: float
    spread: float
    held_out: Array


def cross_fit(log_probs: ArrayLike, labels: ArrayLike) -> CrossFit:
    """T for log probabilities (N, C), natural logarithm, -inf for 0, and integer labels (N,).

    Folds are drawn by position, the same for every N examples: neither predictions nor labels
    decide them, so that an example has no part in the T it is scored with, and methods are compared
    on the same folds.
    """
    log_probs, labels = np.asarray(log_probs, dtype=np.float64), np.asarray(labels)
    examples = len(labels)
    folds = min(FOLDS, examples)
    # at random: a part may have its classes side by side, or in turn
    fold = np.random.default_rng(0).permutation(examples) % folds
    values = np.array([fit(log_probs[fold != k], labels[fold != k]) for k in range(folds)])
    value = fit(log_probs, labels)
    known = folds > 1 and value not in BOUNDS
    spread = math.sqrt((folds - 1) * values.var()) if known else math.nan
    return CrossFit(value, spread, values[fold])


def fit(log_probs: ArrayLike, labels: ArrayLike) -> float:
    """The T in ``BOUNDS`` that suits log probabilities (N, C) and labels (N,) best; 1 where N is 0.

    A label of probability 0 has it at every T, and says nothing.
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
        """The derivative by 1/T of what is minimised, and that derivative's own by -log T."""
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
        # Newton's step, but half of the bracket where it would leave that or is longer than half of the last
        last, step = step, rise / curvature
        if not (low <= log_t + step <= high and abs(step) <= abs(last) / 2):
            step = (low + high) / 2 - log_t
        log_t += step
        if abs(step) < _TOLERANCE:
            break
    ends = (end for end in BOUNDS if math.isclose(log_t, math.log(end), abs_tol=2 * _TOLERANCE))
    return next(ends, math.exp(log_t))


def scaled(log_probs: ArrayLike, temperature: float | Array) -> Array:
    """Log probabilities (N, C) divided by T, or by one of (N,) for each example, and normalised again."""
    log_probs = np.asarray(log_probs, dtype=np.float64)
    divided = log_probs - log_probs.max(axis=1, keepdims=True)
    divided /= np.broadcast_to(temperature, len(divided))[:, None]
    result: Array = divided - np.log(np.exp(divided).sum(axis=1, keepdims=True))
    return result
