"""Corrupt each value of an image by itself: Gaussian, shot and impulse noise."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from bench.data.draws import Array
from bench.data.shifts.batch import Batch


def gaussian_noise(batch: Batch, std: float) -> Array:
    """Add normal noise."""
    return batch.images + std * batch.normal(*batch.images.shape[1:])


def shot_noise(batch: Batch, photons: float) -> Array:
    """Count photons: a Poisson number whose mean is ``photons`` for white."""
    levels = np.rint(batch.images * batch.top).astype(np.intp)
    cumulative, starts = _poisson(batch.top, photons)
    drawn = batch.uniform(*batch.images.shape[1:])
    # the distribution functions of all levels lie one after the other, each lifted by its number
    counts = np.searchsorted(cumulative, levels + drawn) - starts[levels]
    return counts / photons


@cache
def _poisson(top: int, photons: float) -> tuple[Array, NDArray[np.intp]]:
    """Return the distribution functions of counts for levels 0 to ``top``, and where each begins."""
    from scipy.special import pdtr

    functions, levels = [], range(top + 1)
    for level in levels:
        mean = photons * level / top
        cumulative = pdtr(np.arange(int(mean + 10 * np.sqrt(mean) + 20)), mean)
        cumulative[-1] = 1  # what is left is less than rounding
        functions.append(level + cumulative)
    lengths = [len(function) for function in functions]
    return np.concatenate(functions), np.cumsum([0, *lengths[:-1]])


def impulse_noise(batch: Batch, share: float) -> Array:
    """Make a share of the values black or white."""
    drawn = batch.uniform(*batch.images.shape[1:])
    return np.where(drawn < share, np.where(drawn < share / 2, 1.0, 0.0), batch.images)
