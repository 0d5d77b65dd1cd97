"""Take images of other collections, from the folder of image sets, as they lie there.

What is only a sample of a collection has a name that says so; results on it are not results on the whole.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bench.data.base import Splits, Unknown
from bench.data.files import data_root, official_part
from methods.core.errors import UserError

#: Official test parts that torchvision reads, by name.
SOURCES = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "fashion_mnist": "FashionMNIST",
}
#: Arrays uint8 (N, 32, 32, 3), by name: the beginning of SVHN's training part, and of DTD's classes.
SAMPLES = {
    "svhn_sample": "svhn-sample/svhn_train_first1083_unlabelled.npy",
    "dtd_sample": "dtd-sample/dtd_first10classes_1200_32x32.npy",
}


def other_images(*names: str) -> dict[str, Unknown]:
    """Return unknown sets by name, of ``SOURCES`` and ``SAMPLES``, or ``dtd``.

    Grey images become colour images of three equal channels where the data set has colour, and smaller images
    lie in the middle of black.
    """
    return {name: partial(_fitted, name) for name in names}


def _fitted(name: str, splits: Splits) -> torch.Tensor:
    if name in SOURCES:
        images = official_part(name, SOURCES[name], False).inputs
    else:
        images = _textures() if name == "dtd" else _sample(name, data_root() / SAMPLES[name])
    channels, height, width = splits.test.inputs.shape[1:]
    top, left = (height - images.shape[2]) // 2, (width - images.shape[3]) // 2
    bottom, right = height - images.shape[2] - top, width - images.shape[3] - left
    return F.pad(images.expand(-1, channels, -1, -1), (left, right, top, bottom)).contiguous()


def _sample(name: str, file: Path) -> torch.Tensor:
    """Read an array of colour images, and return it with the channels first."""
    try:
        images = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"unknown set {name}: {file} cannot be read ({type(error).__name__}); it is an array of bytes "
            "(N, 32, 32, 3) written by numpy.save, below the folder of BENCH_DATA_ROOT"
        ) from None
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


@cache
def _textures() -> torch.Tensor:
    """Return the 1,880 test images of the first partition of DTD: centre squares, reduced to 32x32."""
    import torchvision.datasets
    from PIL import Image

    try:
        found = torchvision.datasets.DTD(data_root(), split="test")
    except RuntimeError:
        raise UserError(
            f"unknown set dtd: no folder dtd in {data_root()}; torchvision.datasets.DTD(root, download=True) "
            "gets it, and BENCH_DATA_ROOT names its root"
        ) from None
    images = []
    for picture, _ in found:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.crop((left, top, left + side, top + side))
        images.append(np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
