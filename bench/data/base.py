"""What a data set is: a name, options, and a function from a seed to three splits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from methods.base import Task
from methods.core.registry import Registry


@dataclass(frozen=True)
class Split:
    """Inputs (N, ...) in the stored dtype and integer labels (N,), on one device."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same examples on ``device``."""
        return Split(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """Training, validation and test part; nothing is ever chosen on the last.

    val: None where there is none. mean, std: what inputs are standardised by, in stored units, shaped
    to broadcast against a batch ((1, C, 1, 1) for images). They come from the training part alone.
    By default 0 and 1.
    """

    train: Split
    val: Split | None
    test: Split
    classes: int
    mean: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    std: torch.Tensor = field(default_factory=lambda: torch.ones(()))

    def to(self, device: torch.device | str) -> Splits:
        """The same data and statistics on ``device``."""
        names = ("train", "val", "test", "mean", "std")
        moved: dict[str, Any] = {
            name: held.to(device) for name in names if (held := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    def merged(self) -> Splits:
        """Training and validation part as one training part, in this order; no validation part is left."""
        if self.val is None:
            return self
        inputs = torch.cat([self.train.inputs, self.val.inputs])
        labels = torch.cat([self.train.labels, self.val.labels])
        return replace(self, train=Split(inputs, labels), val=None)


@dataclass(frozen=True)
class DatasetOptions:
    """Options every data set has."""


class Dataset:
    """One data set. ``load`` may depend on the seed (a split of its own per seed) or ignore it."""

    name: ClassVar[str]
    Options: ClassVar[type] = DatasetOptions

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    def load(self, split: torch.Generator) -> Splits:
        """The three parts on the CPU; ``split`` is the stream that decides which example goes where."""
        raise NotImplementedError

    def task(self, refit: bool = False) -> Task | None:
        """What a plan has to know of the data, where it is known without loading them; else None.

        refit: validation examples count as training examples.
        """
        return None

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Mean and standard deviation of the part that is trained on, shaped as ``Splits`` has them.

        By default None: those that ``load`` gave stay.
        """
        return None

    def parts(self, split: torch.Generator, refit: bool = False) -> Splits:
        """What ``load`` gives, with its statistics: what runs work on.

        refit: validation examples are trained on too, and count in the statistics.
        """
        splits = self.load(split)
        if refit:
            splits = splits.merged()
        found = self.statistics(splits.train)
        return splits if found is None else replace(splits, mean=found[0], std=found[1])

    def prepare(
        self, inputs: torch.Tensor, splits: Splits, augmentation: torch.Generator | None
    ) -> torch.Tensor:
        """A stored batch as the network takes it: floating point, standardised, augmented when training.

        ``augmentation`` is the stream of random augmentation in training and None in evaluation, where
        nothing of ``splits`` but its statistics may be used: a stored model has no more of the data.
        By default inputs are standardised by the statistics of ``splits``, and never augmented.
        """
        # uint8 minus float32 is float32: no separate conversion
        return (inputs - splits.mean) / splits.std


DATASETS: Registry[Dataset] = Registry("data set", "bench.data", Dataset, "ssvi_bench.datasets")
