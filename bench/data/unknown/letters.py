"""Draw letters of the font that Pillow includes, in the manner of scanned digits: real shapes of no class."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from bench.data.base import Splits, Unknown

#: Letters that do not look like a digit; left out are B, D, G, I, O, Q, S, Z and the like.
LETTERS = "ACEFHJKLMNPRTUVWXYadefhkmnprtuvwxy"
# Widths of the line and slants, in which handwriting differs more than fonts do.
_STROKES, _SLANTS = (0, 1, 2), (-0.3, -0.15, 0.0, 0.15, 0.3)
# Letters are drawn as bitmaps of 32 x 32 points, as the digits of Alpaydin and Kaynak were scanned.
_BITMAP, _SIZE = 32, 40


def letters(size: int, top: int) -> Unknown:
    """Return the set of letters, each upright and slanted and in three weights.

    Parameters
    ----------
    size
        Height and width of an image in pixels.
    top
        The largest value that a stored pixel can have, for full ink.
    """

    def made(splits: Splits) -> torch.Tensor:
        found = np.rint(_drawn(size) * top)
        return torch.from_numpy(found).to(splits.test.inputs.dtype).unsqueeze(1)

    return made


@cache
def _drawn(size: int) -> np.ndarray:
    """Return the share of ink in each pixel of each image (N, size, size)."""
    from PIL import Image

    bitmaps = [_bitmap(letter, s, slant) for letter in LETTERS for s in _STROKES for slant in _SLANTS]
    if _BITMAP % size == 0:  # the share of ink of a block of points
        block = _BITMAP // size
        return np.stack(bitmaps).reshape(-1, size, block, size, block).mean(axis=(2, 4))
    pictures = (Image.fromarray(np.uint8(bitmap) * 255) for bitmap in bitmaps)
    return np.stack([np.asarray(p.resize((size, size), Image.Resampling.BOX)) for p in pictures]) / 255


def _bitmap(letter: str, stroke: int, slant: float) -> np.ndarray:
    """Return a letter as points of ink (32, 32), as large as fits, in the middle."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (3 * _SIZE, 3 * _SIZE))
    place, font = (_SIZE, _SIZE), ImageFont.load_default(_SIZE)
    ImageDraw.Draw(canvas).text(place, letter, 255, font, stroke_width=stroke)
    shear = (1, slant, -slant * 1.5 * _SIZE, 0, 1, 0)
    canvas = canvas.transform(canvas.size, Image.Transform.AFFINE, shear, Image.Resampling.BILINEAR)
    cut = canvas.crop(canvas.getbbox())
    scale = _BITMAP / max(cut.size)
    fitted = cut.resize([max(1, round(side * scale)) for side in cut.size], Image.Resampling.BILINEAR)
    framed = Image.new("L", (_BITMAP, _BITMAP))
    framed.paste(fitted, ((_BITMAP - fitted.width) // 2, (_BITMAP - fitted.height) // 2))
    return np.asarray(framed) > 127
