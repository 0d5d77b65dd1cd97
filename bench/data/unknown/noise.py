"""Make inputs of noise: as many as there are test examples, the same for all seeds."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from bench.data import draws
from bench.data.base import Splits, Unknown
from bench.data.stored import as_stored


def image_noise(top: int) -> dict[str, Unknown]:
    """Return the noise sets of images.

    Parameters
    ----------
    top
        The largest value that a stored pixel can have; the smallest is 0.

    Returns
    -------
    dict
        ``noise_uniform``: each pixel is drawn from 0 to ``top`` with equal probability. ``noise_gaussian``:
        each has mean and standard deviation of its channel in the training part, and is clipped to the range.
    """
    return {"noise_uniform": partial(_uniform_pixels, top), "noise_gaussian": partial(_normal_pixels, top)}


def _uniform_pixels(top: int, splits: Splits) -> torch.Tensor:
    drawn = draws.uniform(_keys("noise_uniform", splits), *splits.test.inputs.shape[1:])
    return _stored(np.floor(drawn * (top + 1)), splits)


def _normal_pixels(top: int, splits: Splits) -> torch.Tensor:
    drawn = draws.normal(_keys("noise_gaussian", splits), *splits.test.inputs.shape[1:])
    mean, std = (value.cpu().double().numpy() for value in (splits.mean, splits.std))
    return _stored(np.clip(mean + std * drawn, 0, top), splits)


def table_noise() -> dict[str, Unknown]:
    """Return the noise sets of tables.

    Returns
    -------
    dict
        ``noise_uniform``: each feature is drawn between its smallest and its largest value in the training
        part. ``noise_gaussian``: each has its mean and standard deviation there. Features are independent.
    """
    return {"noise_uniform": _uniform_rows, "noise_gaussian": _normal_rows}


def _uniform_rows(splits: Splits) -> torch.Tensor:
    train = splits.train.inputs.cpu().double().numpy()
    low, high = train.min(0), train.max(0)
    drawn = draws.uniform(_keys("noise_uniform", splits), *splits.test.inputs.shape[1:])
    return _stored(low + (high - low) * drawn, splits)


def _normal_rows(splits: Splits) -> torch.Tensor:
    train = splits.train.inputs.cpu().double().numpy()
    drawn = draws.normal(_keys("noise_gaussian", splits), *splits.test.inputs.shape[1:])
    return _stored(train.mean(0) + train.std(0) * drawn, splits)


def _keys(purpose: str, splits: Splits) -> draws.Keys:
    """Return as many keys as there are test examples: those of the numbers from 0 on."""
    return draws.keys((str(number).encode() for number in range(len(splits.test))), purpose)


def _stored(values: np.ndarray, splits: Splits) -> torch.Tensor:
    return as_stored(torch.from_numpy(values), splits.test.inputs.cpu())
