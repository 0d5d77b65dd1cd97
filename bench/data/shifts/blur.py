"""Blur images: as out of focus, through frosted glass, in motion, and while zooming."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from bench.data.draws import Array
from bench.data.shifts.batch import Batch, applied

# A blur along a line leaves out points that weigh less than this: together under a hundredth of a grey level.
_LEAST_WEIGHT = 1e-6


def defocus_blur(batch: Batch, constants: tuple[float, float]) -> Array:
    """Average over a disk with a soft edge."""
    return applied(_defocused, batch.images, constants)


def _defocused(images: Array, constants: tuple[float, float]) -> Array:
    radius, edge = constants
    steps = np.arange(-8, 9)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.float64)
    soft = np.exp(-0.5 * (np.array([-1, 0, 1]) / edge) ** 2)
    soft /= soft.sum()
    kernel = ndimage.correlate(disk / disk.sum(), soft[:, None] * soft, mode="mirror")
    return ndimage.correlate(images, kernel[None], mode="mirror")


def glass_blur(batch: Batch, constants: tuple[float, int, int]) -> Array:
    """Blur, move pixels to places nearby, and blur again.

    A pixel is replaced by one above or left of it, or kept. The published program means to exchange two
    pixels, but copies one over the other, and so does this.
    """
    std, farthest, times = constants
    images, (height, width) = smoothed(batch.images, std), batch.size
    images = np.floor(images * 255 + 1e-6) / 255  # the program stores bytes in between
    rows, columns = np.indices((height, width))
    inner = (rows > farthest) & (columns > farthest) & (rows <= height - farthest)
    inner &= columns <= width - farthest
    for time in range(times):
        moves = np.floor(batch.uniform(2, height, width, low=-farthest, high=farthest, part=time))
        moves = np.where(inner, moves, 0).astype(np.intp)
        # rows and columns are visited from the last to the first, so that what is copied is still unchanged
        source = (rows + moves[:, 0]) * width + columns + moves[:, 1]
        flat = images.reshape(len(images), images.shape[1], -1)
        images = np.take_along_axis(flat, source.reshape(len(images), 1, -1), 2).reshape(images.shape)
    return smoothed(images, std)


def smoothed(images: Array, std: float) -> Array:
    """Return images (..., H, W) after a Gaussian blur; beyond the border the nearest pixel counts."""
    axes = (images.ndim - 2, images.ndim - 1)
    return ndimage.gaussian_filter(images, std, mode="nearest", truncate=4, axes=axes)


def motion_blur(batch: Batch, constants: tuple[int, float]) -> Array:
    """Smear along a line whose angle to the horizontal is between -45 and 45 degrees."""
    return smeared(batch.images, *constants, batch.uniform(low=-45, high=45))


def smeared(images: Array, radius: int, std: float, angles: Array) -> Array:
    """Average each pixel with those on a line from it, as ImageMagick's motion blur does.

    Parameters
    ----------
    images
        Shape (N, C, H, W).
    radius
        The line has 2 radius + 1 points.
    std
        Their weights fall as a normal density of this standard deviation, in pixels.
    angles
        Direction of the line in degrees (N,).
    """
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / std) ** 2)
    weights /= weights.sum()
    points = np.flatnonzero(weights > _LEAST_WEIGHT)
    reach, (height, width) = len(points), images.shape[2:]
    direction = np.deg2rad(angles)[:, None]
    down, right = (
        np.ceil(points * part - 0.5).astype(np.intp) + reach
        for part in (np.sin(direction), np.cos(direction))
    )
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    found = np.zeros_like(images)
    for image, target, rows, columns in zip(padded, found, down, right, strict=True):
        for point, row, column in zip(points, rows, columns, strict=True):
            target += weights[point] * image[:, row : row + height, column : column + width]
    return found


def zoom_blur(batch: Batch, factors: tuple[float, ...]) -> Array:
    """Average an image with itself seen ever closer."""
    return applied(_zooming, batch.images, factors)


def _zooming(images: Array, factors: tuple[float, ...]) -> Array:
    return (images + sum(zoomed(images, factor) for factor in factors)) / (len(factors) + 1)


def zoomed(images: Array, factor: float) -> Array:
    """Return the middle of images (M, H, W) enlarged to the whole; its size is rounded up to pixels."""
    found: Array = _zoom(images.shape[1], factor) @ images @ _zoom(images.shape[2], factor).T
    return found


@cache
def _zoom(length: int, factor: float) -> Array:
    """Return the matrix (length, length) that enlarges the middle of a line, by linear interpolation."""
    cut = int(np.ceil(length / factor))
    start = (length - cut) // 2
    enlarged = ndimage.zoom(np.eye(length)[start : start + cut], (factor, 1), order=1)
    trimmed = (len(enlarged) - length) // 2
    return enlarged[trimmed : trimmed + length]
