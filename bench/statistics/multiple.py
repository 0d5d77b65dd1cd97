"""Adjust p values for several comparisons made at once, and turn them into verdicts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]

#: Two configurations are separable if the adjusted p value of their difference is below this.
ALPHA = 0.05


def holm(p: ArrayLike) -> Numbers:
    """Adjust p values for multiple tests by Holm's step-down procedure.

    Parameters
    ----------
    p
        p values of any shape, all of one family of tests. NaN means that there was no test.

    Returns
    -------
    ndarray
        Adjusted p values of the same shape, at most 1; NaN stays NaN.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    values = np.asarray(p, dtype=np.float64)
    tests = int((~np.isnan(values)).sum())
    return _stepped(values, np.arange(tests, 0, -1, dtype=np.float64))


def shaffer(p: ArrayLike, compared: int) -> Numbers:
    """Adjust the p values of all pairs of ``compared`` configurations by Shaffer's step-down procedure.

    As Holm's, but each step counts only as many hypotheses as can be true together: if two of three
    configurations differ, the third differs from one of them.

    Parameters
    ----------
    p
        p values of all pairs; if some are NaN, Holm's procedure is used, which needs no such reasoning.
    compared
        Number of configurations.

    References
    ----------
    Shaffer, Modified Sequentially Rejective Multiple Test Procedures, 1986.
    """
    values = np.asarray(p, dtype=np.float64)
    if np.isnan(values).any():
        return holm(values)
    possible = np.array(sorted(_true_together(compared)))
    left = np.arange(values.size, 0, -1)
    return _stepped(values, possible[np.searchsorted(possible, left, side="right") - 1].astype(np.float64))


def _stepped(values: Numbers, steps: Numbers) -> Numbers:
    """Multiply sorted p values by ``steps``, one for each that is not NaN, and keep them in rising order."""
    flat = values.ravel()
    order = np.argsort(flat, kind="stable")[: len(steps)]  # NaN is last
    adjusted = np.full(flat.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(flat[order] * steps), 1)
    return adjusted.reshape(values.shape)


@cache
def _true_together(compared: int) -> frozenset[int]:
    """Return which numbers of equalities among all pairs of ``compared`` configurations can hold together."""
    found: list[set[int]] = [{0}]
    for size in range(1, compared + 1):
        found.append({j * (j - 1) // 2 + rest for j in range(1, size + 1) for rest in found[size - j]})
    return frozenset(found[compared])


def verdicts(p: ArrayLike, p_equivalent: ArrayLike) -> NDArray[np.object_]:
    """Turn adjusted p values of differences and of equivalence into verdicts.

    Parameters
    ----------
    p, p_equivalent
        Adjusted p values, of one shape; NaN where there was no test.

    Returns
    -------
    ndarray
        ``differs`` if a difference is significant, however small; ``equivalent`` if it is significantly
        smaller than the margin; ``undecided`` if the seeds show neither.
    """
    differs, equivalent = (np.asarray(values, np.float64) < ALPHA for values in (p, p_equivalent))
    found = np.where(differs, "differs", np.where(equivalent, "equivalent", "undecided"))
    return found.astype(object)
