"""Share what small data sets have in common that need no download and have no official parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from bench.data.base import Dataset, DatasetOptions, Shift, Split, Splits, Unknown
from bench.data.splitting import channel_statistics, stratified
from bench.data.unknown import altered
from bench.data.unknown.letters import letters
from bench.data.unknown.noise import image_noise
from bench.data.unknown.photographs import photographs
from methods.core.options import option

#: Seed of the split that all runs share if ``split`` is ``fixed``.
_FIXED = 0


@dataclass(frozen=True)
class EmbeddedOptions(DatasetOptions):
    """Options of a data set without official parts; a subclass adds the sizes ``val`` and ``test``."""

    split: str = option(
        "per_seed",
        "who draws the three parts; per_seed: each seed draws its own, so that test parts of two seeds "
        "overlap and intervals over seeds are corrected for it; fixed: all seeds share one draw, and "
        "intervals over seeds cover the randomness of training only",
        choices=("per_seed", "fixed"),
        neutral="per_seed",
    )


class EmbeddedDataset(Dataset):
    """Base class of a data set of grey images without official parts.

    The training, validation and test part are stratified draws. ``Options`` of a subclass extend
    ``EmbeddedOptions`` by ``val`` and ``test``, the numbers of examples held out; the rest is for training.
    """

    classes: ClassVar[int] = 10
    #: Height and width of images, and the largest value of a pixel.
    size: ClassVar[int]
    top: ClassVar[int] = 255

    def examples(self) -> Split:
        """Return all images, uint8 (N, C, H, W), and their labels, always in the same order."""
        raise NotImplementedError

    def load(self, split: torch.Generator) -> Splits:
        """Draw the three parts, from the random stream ``split`` unless all seeds share one draw."""
        whole = self.examples()
        if self.options.split == "fixed":
            split = torch.Generator().manual_seed(_FIXED)
        chosen = stratified(whole.labels, (self.options.test, self.options.val), split)
        test, val, train = (Split(whole.inputs[rows], whole.labels[rows]) for rows in chosen)
        return Splits(train, val, test, self.classes)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each channel."""
        return channel_statistics(train.inputs)

    def unknown(self) -> Mapping[str, Unknown]:
        """Return shapes and photographs of other things, the set's own test images altered, and noise."""
        return {
            "letters": letters(self.size, self.top),
            "photographs": photographs(self.size, self.top),
            "inverted": altered.inverted(self.top),
            **image_noise(self.top),
        }

    def shifts(self) -> Mapping[str, Shift]:
        """Return corruptions made on the fly."""
        # imported here, since it loads much of scipy, and every command imports this module
        from bench.data.shifts.corruptions import corruptions

        return corruptions(self.top)
