"""Cut small images out of the two photographs that scikit-learn includes: a palace and a flower."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bench.data.base import Splits, Unknown
from methods.core.errors import UserError

_FILES = ("china.jpg", "flower.jpg")


def photographs(size: int, top: int) -> Unknown:
    """Return the set of all squares of the two photographs, in grey, reduced to ``size`` x ``size`` pixels.

    Parameters
    ----------
    size
        Height and width of an image; a square is of 32 x 32 points of the photograph, or of this size if
        that does not go into 32.
    top
        The largest value that a stored pixel can have, for white.
    """

    def made(splits: Splits) -> torch.Tensor:
        found = np.rint(_squares(size) / 255 * top)
        return torch.from_numpy(found).to(splits.test.inputs.dtype).unsqueeze(1)

    return made


@cache
def _squares(size: int) -> np.ndarray:
    """Return the mean brightness, 0 to 255, of each pixel of each square (N, size, size)."""
    from PIL import Image

    # scikit-learn is not imported, which takes longer than a run
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError("unknown set photographs: ships inside scikit-learn, which is not installed")
    block = max(1, 32 // size) if 32 % size == 0 else 1
    side, found = size * block, []
    for name in _FILES:
        with Image.open(Path(spec.origin).parent / "datasets" / "images" / name) as picture:
            grey = np.asarray(picture.convert("L"), dtype=np.float64)
        rows, columns = (length // side for length in grey.shape)
        cut = grey[: rows * side, : columns * side].reshape(rows, size, block, columns, size, block)
        found.append(cut.mean(axis=(2, 5)).transpose(0, 2, 1, 3).reshape(-1, size, size))
    return np.concatenate(found)
