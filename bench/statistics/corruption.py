"""Compare errors under corruptions with those of a reference, as Hendrycks and Dietterich do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def corruption_errors(
    errors: ArrayLike,
    reference: ArrayLike,
    clean: float | None = None,
    reference_clean: float | None = None,
) -> NDArray[np.float64]:
    """Divide the errors under each corruption, summed over severities, by those of the reference.

    Their mean over corruptions is the mean corruption error, which the source gives in percent: it is 1 here
    for the reference itself, and less for what is more robust. A corruption that is hard for every network
    counts no more than an easy one. With the errors on clean data, both are first reduced by them: the
    relative corruption error says how much is lost, whatever the error on clean data is.

    Parameters
    ----------
    errors
        Error rates (C, S) under C corruptions at S severities.
    reference
        Those of the reference (C, S).
    clean, reference_clean
        Error rates on the data as they are: both for relative errors, or neither.

    Returns
    -------
    ndarray
        Shape (C,); NaN for a corruption under which the reference makes no (more) errors.

    Raises
    ------
    ValueError
        The arrays differ in shape or are empty, an error is no rate, or only one clean error is given.

    References
    ----------
    Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    section 4.2, 2019. The reference there is AlexNet.
    """
    found, wanted = np.asarray(errors, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if found.ndim != 2 or found.shape != wanted.shape or found.size == 0:
        raise ValueError(f"expected errors (C, S) of one shape, got {found.shape} and {wanted.shape}")
    if (clean is None) != (reference_clean is None):
        raise ValueError("relative errors need both errors on clean data")
    for rates in (
        found,
        wanted,
        np.array([value for value in (clean, reference_clean) if value is not None]),
    ):
        if not ((rates >= 0) & (rates <= 1)).all():
            raise ValueError("errors are rates from 0 to 1")
    sums = found.mean(axis=1) - (clean or 0), wanted.mean(axis=1) - (reference_clean or 0)
    return np.divide(sums[0], sums[1], out=np.full(len(found), np.nan), where=sums[1] > 0)
