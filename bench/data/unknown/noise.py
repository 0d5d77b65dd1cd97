"""Make inputs of noise: as many as there are test examples, the same for all seeds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from bench.data import draws
from bench.data.base import Splits, Unknown
from bench.data.splitting import feature_statistics
from bench.data.stored import as_stored

# So many inputs are made at a time: numbers are drawn in eight bytes, of which a stored pixel has one.
_AT_ONCE = 256


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
    return _made("noise_uniform", draws.uniform, splits, lambda drawn: (drawn * (top + 1)).floor())


def _normal_pixels(top: int, splits: Splits) -> torch.Tensor:
    mean, std = splits.mean.cpu().double(), splits.std.cpu().double()
    return _made("noise_gaussian", draws.normal, splits, lambda drawn: (mean + std * drawn).clamp(0, top))


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
    train = splits.train.inputs.cpu()
    low, high = train.amin(0).double(), train.amax(0).double()
    return _made("noise_uniform", draws.uniform, splits, lambda drawn: low + (high - low) * drawn)


def _normal_rows(splits: Splits) -> torch.Tensor:
    mean, std = feature_statistics(splits.train.inputs)
    return _made("noise_gaussian", draws.normal, splits, lambda drawn: mean + std * drawn)


def _made(
    purpose: str,
    draw: Callable[..., draws.Array],
    splits: Splits,
    function: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Return ``function`` of numbers in the shape of the test part; input i has those of the key of i."""
    stored = splits.test.inputs.cpu()
    keys = draws.keys((str(number).encode() for number in range(len(stored))), purpose)
    parts = (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))
    return torch.cat(
        [as_stored(function(torch.from_numpy(draw(part, *stored.shape[1:]))), stored) for part in parts]
    )
