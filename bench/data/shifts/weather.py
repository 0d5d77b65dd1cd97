"""Lay weather over images: snow, frost, fog, and brighter light."""

from __future__ import annotations

import numpy as np

from bench.data.draws import Array
from bench.data.shifts.batch import Batch, applied
from bench.data.shifts.blur import smeared, zoomed

#: Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])
#: Red, green and blue of frost.
_ICE = np.array([0.85, 0.95, 1.0])


def snow(batch: Batch, constants: tuple[float, ...]) -> Array:
    """Whiten the image, and let flakes fall over it from two sides."""
    mean, std, zoom, threshold, radius, blur, kept = constants
    layer = mean + std * batch.normal(1, *batch.size)
    layer = applied(zoomed, layer, zoom)
    layer = np.clip(np.where(layer < threshold, 0, layer), 0, 1)
    layer = smeared(layer, int(radius), blur, batch.uniform(low=-135, high=-45, part=1))
    whitened = np.maximum(batch.images, brightness_of(batch.images) * 1.5 + 0.5)
    return kept * batch.images + (1 - kept) * whitened + layer + layer[:, :, ::-1, ::-1]


def brightness_of(images: Array) -> Array:
    """Return the brightness (N, 1, H, W) of colour images, or grey images as they are."""
    if images.shape[1] != 3:
        return images
    red, green, blue = (weight * images[:, [i]] for i, weight in enumerate(_LUMA))
    return red + green + blue


def frost(batch: Batch, constants: tuple[float, float]) -> Array:
    """Add crystals of ice.

    The published program adds photographs of frozen windows, which are not distributed with this package.
    These crystals are bright ridges of a random height map instead, on average about half white.
    """
    image, ice = constants
    ridges = 1 - np.abs(2 * plasma(batch, 1.75) - 1)
    crystals = (0.2 + 0.8 * ridges**2)[:, None]
    colour = _ICE[:, None, None] if batch.images.shape[1] == 3 else 1
    return image * batch.images + ice * crystals * colour


def fog(batch: Batch, constants: tuple[float, float]) -> Array:
    """Add clouds, and darken so that the brightest value of the image stays."""
    weight, fading = constants
    brightest = batch.images.max(axis=(1, 2, 3), keepdims=True)
    clouds = plasma(batch, fading)[:, None]
    return (batch.images + weight * clouds) * brightest / (brightest + weight)


def plasma(batch: Batch, fading: float) -> Array:
    """Make random height maps (N, H, W) from 0 to 1 by the diamond-square algorithm.

    Parameters
    ----------
    batch
        Images, for the size of the maps and their random numbers.
    fading
        By what the spread of random steps is divided from one scale to the next finer one.
    """
    size = 1 << (max(batch.size) - 1).bit_length()
    heights = np.zeros((len(batch.images), size, size))
    step, spread, part = size, 100.0, 0

    def mean_of(total: Array) -> Array:
        nonlocal part
        part += 1
        return total / 4 + spread * batch.uniform(*total.shape[1:], low=-spread, high=spread, part=part)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        heights[:, half::step, half::step] = mean_of(pairs + np.roll(pairs, -1, 2))
        centres = heights[:, half::step, half::step]
        across = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 2)
        heights[:, ::step, half::step] = mean_of(across)
        down = centres + np.roll(centres, 1, 2) + corners + np.roll(corners, -1, 1)
        heights[:, half::step, ::step] = mean_of(down)
        step, spread = half, spread / fading
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights[:, : batch.size[0], : batch.size[1]]


def brightness(batch: Batch, added: float) -> Array:
    """Raise the value of HSV, the largest of red, green and blue; hue and saturation stay."""
    value = batch.images.max(axis=1, keepdims=True)
    raised = np.minimum(value + added, 1)
    black = value == 0
    return np.where(black, raised, batch.images * (raised / np.where(black, 1, value)))
