"""What a data set is: a name, options, and a function from a seed to three splits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from methods.registry import Registry


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

    mean, std: what inputs are standardised by, in stored units, shaped to broadcast against a
    batch ((1, C, 1, 1) for images). They come from the training part alone. By default 0 and 1.
    """

    train: Split
    val: Split
    test: Split
    classes: int
    mean: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    std: torch.Tensor = field(default_factory=lambda: torch.ones(()))

    def to(self, device: torch.device | str) -> Splits:
        """The same data and statistics on ``device``."""
        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in ("train", "val", "test")}
        return replace(self, **moved, mean=self.mean.to(device), std=self.std.to(device))


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
