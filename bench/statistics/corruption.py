"""Compute how many errors a network makes on shifted inputs, beside those of another network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def mean_corruption_error(errors: ArrayLike, reference: ArrayLike) -> float:
    """Compute the mean corruption error of a network relative to another one.

    Parameters
    ----------
    errors, reference
        Error rates (K, S) of both networks under K shifts at S severities.

    Returns
    -------
    float
        Mean over shifts of the errors of all severities, divided by those of the reference: 1 for a network
        that makes as many errors as the reference. NaN if the reference makes none under a shift.

    References
    ----------
    Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    section 4.1, 2019.

    Examples
    --------
    >>> mean_corruption_error([[0.1, 0.2], [0.3, 0.3]], [[0.2, 0.2], [0.2, 0.2]])
    1.125
    """
    mine = np.asarray(errors, dtype=np.float64).sum(axis=1)
    theirs = np.asarray(reference, dtype=np.float64).sum(axis=1)
    return float((mine / np.where(theirs > 0, theirs, np.nan)).mean())
