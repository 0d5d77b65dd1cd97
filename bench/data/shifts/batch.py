"""Hold a batch of images that is corrupted, each image by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from bench.data import draws
from bench.data.draws import Array, Keys

#: Pixels of the largest images for which the matrix of a linear function is made; it takes their square.
_MOST_PIXELS = 64 * 64


@dataclass(frozen=True)
class Batch:
    """Hold images and what their random numbers are made from.

    Parameters
    ----------
    images
        Values from 0 to 1, shape (N, C, H, W), float64.
    keys
        A key for each image; see ``bench.data.draws``.
    top
        Number of steps from 0 to 1 in which images are stored.
    """

    images: Array
    keys: Keys
    top: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.images.shape[2], self.images.shape[3]

    def uniform(self, *shape: int, low: float = 0, high: float = 1, part: int = 0) -> Array:
        """Draw uniform numbers (N, *shape) between ``low`` and ``high``; see ``bench.data.draws``."""
        return low + (high - low) * draws.uniform(self.keys, *shape, part=part)

    def normal(self, *shape: int, part: int = 0) -> Array:
        """Draw standard normal numbers (N, *shape); see ``bench.data.draws``."""
        return draws.normal(self.keys, *shape, part=part)


#: From a batch and the constants of a severity to images (N, C, H, W), which may leave the range 0 to 1.
Corruption = Callable[[Batch, Any], Array]
#: A linear function of each of many images (M, H, W).
Linear = Callable[[Array, Any], Array]


def applied(function: Linear, images: Array, constants: Any) -> Array:
    """Apply a linear function to images (N, C, H, W): to small ones by a sparse matrix, which is faster.

    Parameters
    ----------
    function
        A function of images (M, H, W) and constants.
    images
        Images (N, C, H, W).
    constants
        What else the function needs; hashable.
    """
    height, width = images.shape[2:]
    if height * width > _MOST_PIXELS:
        return function(images.reshape(-1, height, width), constants).reshape(images.shape)
    flat = images.reshape(-1, height * width)
    found = _matrix(function, height, width, constants) @ np.ascontiguousarray(flat.T)
    return np.ascontiguousarray(found.T).reshape(images.shape)


@cache
def _matrix(function: Linear, height: int, width: int, constants: Any) -> csr_array:
    """Return the matrix of a linear function on images of this size, from its values on single pixels."""
    pixels = np.eye(height * width).reshape(-1, height, width)
    return csr_array(function(pixels, constants).reshape(len(pixels), -1).T)
