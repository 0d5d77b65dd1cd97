"""A small tabular data set that comes with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_wine

from bench.data import Dataset, DatasetOptions, Split, Splits, stratified
from methods import option


@dataclass(frozen=True)
class WineOptions(DatasetOptions):
    """Sizes of the parts held out of the 178 examples."""

    val: int = option(30, "validation examples", within="[10, 50]")
    test: int = option(48, "test examples", within="[10, 50]")


class Wine(Dataset):
    """Wines of three growers by 13 chemical measurements (Aeberhard and Forina 1992); no download."""

    name = "wine"
    Options = WineOptions

    def load(self, split: torch.Generator) -> Splits:
        """Split the table into three stratified parts, by the random numbers of ``split``."""
        table, labels = map(torch.from_numpy, load_wine(return_X_y=True))
        rows = stratified(labels, (self.options.test, self.options.val), split)
        test, val, train = (Split(table[part].float(), labels[part].long()) for part in rows)
        return Splits(train, val, test, classes=3)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each measurement over the training part."""
        return train.inputs.mean(0), train.inputs.std(0)
