"""Read the usual image sets: MNIST and its relatives, CIFAR-10, CIFAR-100, SVHN.

Images are kept as uint8 tensors on the device of the run. ``bench.data.files`` says where they are read from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from bench.data.augmentation import crop_and_flip
from bench.data.base import DATASETS, Dataset, DatasetOptions, Shift, Split, Splits, Unknown
from bench.data.files import data_root, fetch, official_part
from bench.data.splitting import channel_statistics, stratified
from bench.data.unknown import altered
from bench.data.unknown.noise import image_noise
from bench.data.unknown.other_images import other_images
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option

#: The largest value of a pixel.
TOP = 255


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
    #: Other collections of images that have none of its classes; see ``bench.data.unknown.other_images``.
    others: ClassVar[tuple[str, ...]] = ()

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
        whole, test = (official_part(self.name, self.source, train) for train in (True, False))
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

    def unknown(self) -> Mapping[str, Unknown]:
        """Return other collections, the set's own test images altered, and noise."""
        if self.shape[0] == 1:
            own = {"rotated": altered.rotated, "inverted": altered.inverted(TOP)}
        else:
            own = {"patches_shuffled": altered.patches_shuffled(4)}
        return {**other_images(*self.others), **own, **image_noise(TOP)}

    def shifts(self) -> Mapping[str, Shift]:
        """Return corruptions made on the fly, and the published ones of CIFAR-10-C and CIFAR-100-C."""
        # imported here, since they load much of scipy, and every command imports this module
        from bench.data.shifts.corruptions import corruptions
        from bench.data.shifts.official import official_shifts

        return {**corruptions(TOP), **official_shifts(self.name, self.source)}


class FashionMNIST(ImageDataset):
    """Clothes in grey, 28x28, ten classes (Xiao, Rasul and Vollgraf 2017); MIT licence."""

    name = "fashion_mnist"
    source = "FashionMNIST"
    shape = (1, 28, 28)
    images = 60_000
    padding = 2
    others = ("mnist", "kmnist")


class MNIST(ImageDataset):
    """Handwritten digits in grey, 28x28, ten classes (LeCun et al. 1998); never mirrored."""

    name = "mnist"
    source = "MNIST"
    shape = (1, 28, 28)
    images = 60_000
    padding = 2
    flip = False
    others = ("fashion_mnist", "kmnist")


class KMNIST(ImageDataset):
    """Handwritten Japanese characters in grey, 28x28, ten classes (Clanuwat et al. 2018); never mirrored."""

    name = "kmnist"
    source = "KMNIST"
    shape = (1, 28, 28)
    images = 60_000
    padding = 2
    flip = False
    others = ("fashion_mnist", "mnist")


class CIFAR10(ImageDataset):
    """Photographs in colour, 32x32, ten classes (Krizhevsky 2009)."""

    name = "cifar10"
    source = "CIFAR10"
    others = ("cifar100", "svhn", "svhn_sample", "dtd", "dtd_sample", "mnist")


class CIFAR100(ImageDataset):
    """Photographs in colour, 32x32, a hundred classes (Krizhevsky 2009)."""

    name = "cifar100"
    source = "CIFAR100"
    classes = 100
    others = ("cifar10", "svhn", "svhn_sample", "dtd", "dtd_sample", "mnist")


class SVHN(ImageDataset):
    """House numbers in colour, 32x32, ten digits (Netzer et al. 2011); never mirrored."""

    name = "svhn"
    source = "SVHN"
    images = 73_257
    flip = False
    others = ("cifar10", "cifar100", "dtd", "dtd_sample")


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
