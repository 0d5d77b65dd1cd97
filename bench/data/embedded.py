"""Share what small data sets have in common that need no download and are split anew for every seed."""

from __future__ import annotations

import torch

from bench.data.base import Dataset, Split, Splits
from bench.data.splitting import channel_statistics, stratified


class EmbeddedDataset(Dataset):
    """Base class of a data set of images of ten classes without official parts.

    Each seed draws its own stratified training, validation and test part, so that intervals over seeds also
    cover the choice of examples. ``Options`` of a subclass have ``val`` and ``test``, the numbers of examples
    held out; the rest is for training.
    """

    def examples(self) -> Split:
        """Return all images, uint8 (N, C, H, W), and their labels, always in the same order."""
        raise NotImplementedError

    def load(self, split: torch.Generator) -> Splits:
        """Draw the three parts from the random stream ``split``."""
        whole = self.examples()
        chosen = stratified(whole.labels, (self.options.test, self.options.val), split)
        test, val, train = (Split(whole.inputs[rows], whole.labels[rows]) for rows in chosen)
        return Splits(train, val, test, 10)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each channel."""
        return channel_statistics(train.inputs)
