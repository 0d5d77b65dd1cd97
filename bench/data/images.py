"""Read the usual image sets through torchvision: Fashion-MNIST, CIFAR-10, CIFAR-100, SVHN.

Images are kept as uint8 tensors on the device of the run. They are read from the folder in the environment
variable ``BENCH_DATA_ROOT``, or from ``~/.cache/ssvi-bench/data``; ``python -m bench.download`` puts them
there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from bench.data.augmentation import crop_and_flip
from bench.data.base import DATASETS, Dataset, DatasetOptions, Split, Splits
from bench.data.splitting import channel_statistics, stratified
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option


@dataclass(frozen=True)
class ImageOptions(DatasetOptions):
    """Options for the use of the official training part."""

    val: int = option(5000, "validation examples, held out of the training part", within="[10, inf)")
    train: int = option(0, "training examples, a stratified draw; 0 for all that are left", within="[0, inf)")
    augment: bool = option(True, "in training, crop (and flip, where the set allows) at random")


class ImageDataset(Dataset):
    """Base class of an image set with an official training and test part.

    The run's random stream decides which training examples are held out for validation.
    """

    Options = ImageOptions

    #: Name of the class in ``torchvision.datasets``.
    source: ClassVar[str]
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    classes: ClassVar[int] = 10
    #: Number of images in the official training part.
    images: ClassVar[int] = 50_000
    #: Zeros around an image, in pixels, before it is cropped to its size again; 0 means no augmentation.
    padding: ClassVar[int] = 4
    #: Whether augmentation mirrors half of the images.
    flip: ClassVar[bool] = True

    def task(self, refit: bool = False) -> Task:
        """Return shape, classes and number of training examples, from the sizes of the official parts.

        Raises
        ------
        UserError
            The options ask for more examples than there are.
        """
        self._require(self.images)
        train = self.options.train or self.images - self.options.val
        return Task(self.shape, self.classes, train + self.options.val if refit else train)

    def load(self, split: torch.Generator) -> Splits:
        """Load the three parts; the random stream ``split`` draws the validation part.

        Raises
        ------
        UserError
            Files are missing, or the options ask for more examples than there are.
        """
        whole, test = (
            official_part(self.name, self.source, True),
            official_part(self.name, self.source, False),
        )
        self._require(len(whole))
        val, rest = stratified(whole.labels, (self.options.val,), split)
        if self.options.train:
            chosen, _ = stratified(whole.labels[rest], (self.options.train,), split)
            rest = rest[chosen]
        train = Split(whole.inputs[rest], whole.labels[rest])
        held_out = Split(whole.inputs[val], whole.labels[val])
        return Splits(train, held_out, test, self.classes)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each channel."""
        return channel_statistics(train.inputs)

    def _require(self, available: int) -> None:
        if self.options.val + max(self.options.train, 1) > available:
            raise UserError(
                f"data set {self.name}: val {self.options.val} and train {self.options.train} are more than "
                f"its {available} training examples"
            )

    def prepare(
        self, inputs: torch.Tensor, splits: Splits, augmentation: torch.Generator | None
    ) -> torch.Tensor:
        """Standardise a batch; in training also crop it at random, with black outside, and mirror it."""
        if augmentation is not None and self.options.augment and self.padding:
            inputs = crop_and_flip(inputs, self.padding, self.flip, augmentation)
        return super().prepare(inputs, splits, augmentation)


class FashionMNIST(ImageDataset):
    """Clothes in grey, 28x28, ten classes (Xiao, Rasul and Vollgraf 2017); MIT licence."""

    name = "fashion_mnist"
    source = "FashionMNIST"
    shape = (1, 28, 28)
    images = 60_000
    padding = 2


class CIFAR10(ImageDataset):
    """Photographs in colour, 32x32, ten classes (Krizhevsky 2009)."""

    name = "cifar10"
    source = "CIFAR10"


class CIFAR100(ImageDataset):
    """Photographs in colour, 32x32, a hundred classes (Krizhevsky 2009)."""

    name = "cifar100"
    source = "CIFAR100"
    classes = 100


class SVHN(ImageDataset):
    """House numbers in colour, 32x32, ten digits (Netzer et al. 2011); never mirrored."""

    name = "svhn"
    source = "SVHN"
    images = 73_257
    flip = False


def data_root() -> Path:
    """Return the folder of image sets: ``BENCH_DATA_ROOT``, or ``~/.cache/ssvi-bench/data``."""
    return Path(os.path.expanduser(os.environ.get("BENCH_DATA_ROOT") or "~/.cache/ssvi-bench/data"))


def fetch(source: str, train: bool, download: bool) -> Any:
    """Open one part of torchvision's data set ``source`` and verify its files.

    Raises
    ------
    RuntimeError
        Files are missing or damaged, and ``download`` is false.
    """
    import torchvision.datasets  # imported here since it takes seconds

    part = {"split": "train" if train else "test"} if source == "SVHN" else {"train": train}
    return getattr(torchvision.datasets, source)(data_root(), download=download, **part)


def image_sets() -> dict[str, type[ImageDataset]]:
    """The sets that can be downloaded, by name."""
    found = {name: DATASETS.get(name) for name in DATASETS.names()}
    return {name: cls for name, cls in found.items() if issubclass(cls, ImageDataset)}


def download(dataset: type[ImageDataset]) -> None:
    """Download a set, with torchvision's progress bar; ``UserError`` when the network fails."""
    try:
        data_root().mkdir(parents=True, exist_ok=True)
        for train in (True, False):
            fetch(dataset.source, train, download=True)
    except (OSError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = data_root()
        raise UserError(f"data set {dataset.name}: cannot be downloaded to {where}: {first}") from None


@cache
def official_part(name: str, source: str, train: bool) -> Split:
    """Load the official training or test part in the order of its files: uint8 (N, C, H, W), int64 labels.

    Raises
    ------
    UserError
        Files are missing or damaged.
    """
    try:
        found = fetch(source, train, download=False)
    except RuntimeError:
        raise UserError(
            f"data set {name}: missing or incomplete in {data_root()}; python -m bench.download {name} gets "
            "it, or set BENCH_DATA_ROOT to the folder that has it"
        ) from None
    images = torch.as_tensor(np.asarray(found.data))
    if source == "FashionMNIST":
        images = images.unsqueeze(1)
    elif source != "SVHN":  # CIFAR stores channels last
        images = images.permute(0, 3, 1, 2)
    labels = found.labels if source == "SVHN" else found.targets
    return Split(images.contiguous(), torch.as_tensor(np.asarray(labels)).long())
