"""Read the handwritten digits that scikit-learn includes: 1,797 real 8x8 scans, without a download."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bench.data.base import Split, Splits, Unknown
from bench.data.embedded import EmbeddedDataset, EmbeddedOptions
from methods.core.errors import UserError
from methods.core.options import option

_FILE = "datasets/data/digits.csv.gz"
_HELD_OUT = 9


@dataclass(frozen=True)
class DigitsOptions(EmbeddedOptions):
    """Numbers of examples held out of the 1,797; the rest, 1,097 by default, is for training."""

    val: int = option(250, "validation examples", within="[10, 600]")
    test: int = option(450, "test examples", within="[10, 600]")


class Digits(EmbeddedDataset):
    """Optical recognition of handwritten digits (Alpaydin and Kaynak 1998), as in scikit-learn.

    Inputs (N, 1, 8, 8), uint8 ink counts 0 to 16; ten classes.
    """

    name = "digits"
    Options = DigitsOptions
    size, top = 8, 16

    def examples(self) -> Split:
        """Return the 1,797 scans in scikit-learn's order."""
        return _examples()


class DigitsWithout9(Digits):
    """The digits 0 to 8 as in digits; the 180 nines are inputs of a class that is not learned."""

    name = "digits_without_9"
    classes = 9

    def examples(self) -> Split:
        """Return the 1,617 scans of the other digits in scikit-learn's order."""
        whole = _examples()
        kept = whole.labels != _HELD_OUT
        return Split(whole.inputs[kept], whole.labels[kept])

    def unknown(self) -> Mapping[str, Unknown]:
        """Return the nines, and the unknown sets of ``digits``."""
        return {"digit_9": _held_out, **super().unknown()}


def _held_out(splits: Splits) -> torch.Tensor:
    whole = _examples()
    return whole.inputs[whole.labels == _HELD_OUT]


@cache
def _examples() -> Split:
    pixels, labels = np.split(_table(), [64], axis=1)
    inputs = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 1, 8, 8)
    return Split(inputs, torch.from_numpy(labels[:, 0].astype(np.int64)))


def _table() -> np.ndarray:
    """Return all examples (1797, 65): the pixels row by row, then the label.

    They are read from scikit-learn's data file, since importing scikit-learn takes longer than a run.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError("data set digits: ships inside scikit-learn, which is not installed")
    file = Path(spec.origin).parent / _FILE
    if file.exists():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True))
