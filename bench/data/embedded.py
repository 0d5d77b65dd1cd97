"""Small sets that come with the packages: no download, and every seed splits them anew."""

from __future__ import annotations

import torch

from bench.data.base import Dataset, Split, Splits
from bench.data.splitting import channel_statistics, stratified


class EmbeddedDataset(Dataset):
    """Images of ten classes, all in one part, of which each seed draws its own stratified three.

    Intervals over seeds so cover the choice of examples as well. ``Options`` of a subclass have ``val``
    and ``test``, the examples held out; the rest is for training.
    """

    def examples(self) -> Split:
        """All images, uint8 (N, C, H, W), and their labels, in an order that is always the same."""
        raise NotImplementedError

    def load(self, split: torch.Generator) -> Splits:
        """The three parts that the stream ``split`` draws."""
        whole = self.examples()
        chosen = stratified(whole.labels, (self.options.test, self.options.val), split)
        test, val, train = (Split(whole.inputs[rows], whole.labels[rows]) for rows in chosen)
        return Splits(train, val, test, 10)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each channel."""
        return channel_statistics(train.inputs)
