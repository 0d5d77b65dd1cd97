"""Process images: contrast, elastic transformation, fewer pixels, and JPEG."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.data.draws import Array
from bench.data.shifts.batch import Batch

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def contrast(batch: Batch, factor: float) -> Array:
    """Shrink differences from the mean of each channel."""
    # whole numbers have the same sum in any order
    means = np.rint(batch.images * batch.top).mean(axis=(2, 3), keepdims=True) / batch.top
    return (batch.images - means) * factor + means


def elastic_transform(batch: Batch, constants: tuple[float, float, float]) -> Array:
    """Move the corners of a triangle, and then each pixel a little, as its neighbours."""
    height, width = batch.size
    size, smoothness, corners = (share * min(height, width) for share in constants)
    images = _bilinear(batch.images, *_affine(batch, corners), "mirror")
    moves = size * ndimage.gaussian_filter(
        batch.uniform(2, height, width, low=-1, high=1, part=1),
        smoothness,
        mode="reflect",
        truncate=3,
        axes=(2, 3),
    )
    rows, columns = np.indices((height, width))
    return _bilinear(images, rows + moves[:, 1], columns + moves[:, 0], "reflect")


def _affine(batch: Batch, farthest: float) -> tuple[Array, Array]:
    """Return the rows and columns (N, H, W) from which pixels come if three points move at random."""
    height, width = batch.size
    middle, side = np.array([height // 2, width // 2], dtype=np.float64), min(height, width) // 3
    # as published, where coordinates of points are (column, row) of a square image
    points = middle + side * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + batch.uniform(3, 2, low=-farthest, high=farthest)
    ones = np.ones((len(moved), 3, 1))
    backwards = np.linalg.solve(np.concatenate([moved, ones], axis=2), np.broadcast_to(points, moved.shape))
    rows, columns = np.indices((height, width), dtype=np.float64)
    a = backwards[:, :, :, None, None]
    from_columns, from_rows = (columns * a[:, 0, i] + rows * a[:, 1, i] + a[:, 2, i] for i in (0, 1))
    return from_rows, from_columns


def _bilinear(images: Array, rows: Array, columns: Array, border: str) -> Array:
    """Read images (N, C, H, W) between their pixels, at rows and columns (N, H, W).

    Parameters
    ----------
    images, rows, columns
        Images and places.
    border
        What lies beyond: ``mirror`` (d c b | a b c d | c b a) or ``reflect`` (c b a | a b c d | d c b).
    """
    height, width = images.shape[2:]
    upper, left = np.floor(rows), np.floor(columns)
    down, right = (rows - upper)[:, None], (columns - left)[:, None]
    first = [_inside(upper.astype(np.intp) + i, height, border) * width for i in (0, 1)]
    second = [_inside(left.astype(np.intp) + i, width, border) for i in (0, 1)]
    flat = images.reshape(*images.shape[:2], -1)

    def at(i: int, j: int) -> Array:
        places = (first[i] + second[j]).reshape(len(images), 1, -1)
        return np.take_along_axis(flat, places, 2).reshape(images.shape)

    above = at(0, 0) * (1 - right) + at(0, 1) * right
    below = at(1, 0) * (1 - right) + at(1, 1) * right
    found: Array = above * (1 - down) + below * down
    return found


def _inside(places: NDArray[np.intp], length: int, border: str) -> NDArray[np.intp]:
    """Return the places from 0 to ``length`` - 1 that stand for places beyond."""
    last = length - 1
    if border == "mirror":
        return last - np.abs(last - places % (2 * last))
    again = places % (2 * length)
    return np.minimum(again, 2 * length - 1 - again)


def pixelate(batch: Batch, share: float) -> Array:
    """Reduce images to fewer pixels and enlarge them again, without smoothing."""
    from PIL import Image

    height, width = batch.size
    fewer, box = (int(width * share), int(height * share)), Image.Resampling.BOX
    return _each(batch, lambda picture: picture.resize(fewer, box).resize((width, height), box))


def jpeg_compression(batch: Batch, quality: int) -> Array:
    """Compress images as JPEG files."""
    from PIL import Image

    def compressed(picture: Picture) -> Picture:
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(batch, compressed)


def _each(batch: Batch, function: Callable[[Picture], Picture]) -> Array:
    """Apply a function of Pillow's images to each image of bytes."""
    from PIL import Image

    grey = batch.images.shape[1] == 1
    pictures = np.rint(batch.images * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    found = [np.asarray(function(Image.fromarray(p[:, :, 0] if grey else p))) for p in pictures]
    return np.stack(found).reshape(pictures.shape).transpose(0, 3, 1, 2) / 255
