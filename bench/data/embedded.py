"""Share what small data sets have in common that need no download and have no official parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.data.base import Dataset, DatasetOptions, Split, Splits
from bench.data.splitting import channel_statistics, stratified
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
    """Base class of a data set of images of ten classes without official parts.

    The training, validation and test part are stratified draws. ``Options`` of a subclass extend
    ``EmbeddedOptions`` by ``val`` and ``test``, the numbers of examples held out; the rest is for training.
    """

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
        return Splits(train, val, test, 10)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each channel."""
        return channel_statistics(train.inputs)
