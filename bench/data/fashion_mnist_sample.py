"""Read the thousand images of Fashion-MNIST in this package: larger than the digits, without a download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bench.data.base import Split, Unknown
from bench.data.embedded import EmbeddedDataset, EmbeddedOptions
from bench.data.unknown import altered
from methods.core.options import option

#: One picture of ten rows of a hundred images. Row k has, from the left, the first hundred images of class k
#: in the official training part, in the order of its files. The licence lies beside it.
SHEET = Path(__file__).with_name("fashion_mnist_sample.png")


@dataclass(frozen=True)
class FashionMNISTSampleOptions(EmbeddedOptions):
    """Numbers of examples held out of the 1,000; the rest, 600 by default, is for training."""

    val: int = option(150, "validation examples", within="[10, 350]")
    test: int = option(250, "test examples", within="[10, 350]")


class FashionMNISTSample(EmbeddedDataset):
    """Clothes in grey, 28x28, ten classes: 100 images of each of Fashion-MNIST; MIT licence.

    Its images are all from the training part of Fashion-MNIST. Scores on it are not comparable with scores on
    Fashion-MNIST.
    """

    name = "fashion_mnist_sample"
    Options = FashionMNISTSampleOptions
    size = 28

    def examples(self) -> Split:
        """Return the 1,000 images, sorted by class."""
        return _examples()

    def unknown(self) -> Mapping[str, Unknown]:
        """Return the unknown sets of embedded data sets, and the test images rotated."""
        return {"rotated": altered.rotated, **super().unknown()}


@cache
def _examples() -> Split:
    from PIL import Image

    with Image.open(SHEET) as sheet:
        pixels = torch.from_numpy(np.array(sheet)).view(10, 28, 100, 28)
    return Split(pixels.transpose(1, 2).reshape(-1, 1, 28, 28), torch.arange(10).repeat_interleave(100))
