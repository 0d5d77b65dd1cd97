"""Corrupt stored images as CIFAR-10-C does; the result is generated here, and not that data set."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from bench.data import draws
from bench.data.base import Shift, Splits
from bench.data.fingerprint import row_bytes
from bench.data.shifts import blur, digital, noise, weather
from bench.data.shifts.batch import Batch, Corruption
from bench.data.shifts.constants import CONSTANTS

#: The corruptions, by name.
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
#: Corruptions whose constants are not lengths in pixels; they take small images as they are.
WITHOUT_LENGTH = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "brightness", "contrast"),
    *("pixelate", "jpeg_compression"),
)
#: Height and width of the images for which the constants are.
SIZE = 32
# So many images are corrupted at a time: their arrays stay in the caches.
_AT_ONCE = 128


def corruptions(top: int) -> dict[str, Shift]:
    """Return the fifteen corruptions for images stored as integers (N, C, H, W).

    Noise is in units of the range of a pixel. Lengths are in pixels of an image of 32 x 32: where a constant
    is a length, images up to half that size are enlarged to about it by repeating pixels, corrupted, and
    reduced again by averaging.

    Results are rounded to the nearest integer, where the published program cuts off: a result then does not
    hang on the last bit of a calculation.

    Parameters
    ----------
    top
        The largest value that a stored pixel can have; the smallest is 0.
    """
    return {name: partial(corrupted, name, top) for name in CORRUPTIONS}


def corrupted(name: str, top: int, inputs: torch.Tensor, severity: int, splits: Splits) -> torch.Tensor:
    """Return stored images after a corruption; parameters are those of ``corruptions`` and of ``Shift``."""
    found = [_corrupted(name, top, part, severity) for part in inputs.cpu().split(_AT_ONCE)]
    return torch.cat(found).to(inputs.dtype).to(inputs.device)


def _corrupted(name: str, top: int, inputs: torch.Tensor, severity: int) -> torch.Tensor:
    images = inputs.numpy().astype(np.float64) / top
    keys = draws.keys(row_bytes(inputs), f"{name} {severity}")
    times = 1 if name in WITHOUT_LENGTH else max(1, SIZE // max(images.shape[2:]))
    large = images.repeat(times, axis=2).repeat(times, axis=3)
    found = CORRUPTIONS[name](Batch(large, keys, top), CONSTANTS[name][severity - 1])
    count, channels, height, width = images.shape
    found = np.clip(found, 0, 1).reshape(count, channels, height, times, width, times).mean(axis=(3, 5))
    return torch.from_numpy(np.rint(found * top))
