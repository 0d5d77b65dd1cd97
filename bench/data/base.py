"""Define the base class of data sets: a name, options, and a function from a seed to three splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from bench.data import validation
from methods.base import Task
from methods.core.errors import UserError
from methods.core.registry import Registry


@dataclass(frozen=True)
class Split:
    """Hold inputs (N, ...) in the stored dtype and integer labels (N,), from 0 on, on one device."""

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """Return the same examples on ``device``."""
        return Split(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Splits:
    """Hold the training, validation and test part of a data set; nothing is ever chosen on the test part.

    Parameters
    ----------
    train, test
        The parts.
    val
        The validation part; None if there is none.
    classes
        Number of classes.
    mean, std
        Mean and standard deviation that standardise inputs, computed on the training part only, in the units
        of stored inputs. Their shape broadcasts against a batch: (1, C, 1, 1) for images. 0 and 1 by default.
        Features that are constant in the training part become 0.
    """

    train: Split
    val: Split | None
    test: Split
    classes: int
    mean: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    std: torch.Tensor = field(default_factory=lambda: torch.ones(()))

    def to(self, device: torch.device | str) -> Splits:
        """Return the same data and statistics on ``device``."""
        names = ("train", "val", "test", "mean", "std")
        moved: dict[str, Any] = {
            name: held.to(device) for name in names if (held := getattr(self, name)) is not None
        }
        return replace(self, **moved)

    def merged(self) -> Splits:
        """Join the training and the validation part, in this order, into one training part."""
        if self.val is None:
            return self
        inputs = torch.cat([self.train.inputs, self.val.inputs])
        labels = torch.cat([self.train.labels, self.val.labels])
        return replace(self, train=Split(inputs, labels), val=None)


#: Makes inputs that belong to no class: from a run's parts to stored inputs (M, ...), on the CPU.
Unknown = Callable[[Splits], torch.Tensor]
#: Shifts a batch of stored inputs: from the batch, a severity and a run's parts to inputs of the same shape.
Shift = Callable[[torch.Tensor, int, Splits], torch.Tensor]
#: The severities of a shift, from mild to strong.
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class DatasetOptions:
    """Options that every data set has."""


class Dataset:
    """Base class of a data set.

    A subclass sets ``name``, may set ``Options`` (a dataclass), and implements ``load``.

    ``version`` is part of the run id unless it is 1: raise it when a change alters the examples.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type] = DatasetOptions

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    def load(self, split: torch.Generator) -> Splits:
        """Load the three parts on the CPU.

        Parameters
        ----------
        split
            The run's random stream for splitting. The split may depend on it or ignore it.
        """
        raise NotImplementedError

    def load_seed(self, seed: int, split: torch.Generator) -> Splits:
        """Load the three parts of a run, whose number a protocol such as cross-validation may need.

        The default is ``load``.

        Parameters
        ----------
        seed
            Seed of the run.
        split
            The run's random stream for splitting.
        """
        return self.load(split)

    def relevant(self) -> torch.Tensor | None:
        """Return which inputs decide the classes, as sorted positions in a flattened example.

        None, the default, if this is not known. Real data do not tell; a simulated problem does.
        """
        return None

    def task(self, refit: bool = False) -> Task | None:
        """Return the shape and number of inputs and the number of classes, if known without loading the data.

        A plan uses it on a machine that does not have the data.

        Parameters
        ----------
        refit
            Count validation examples as training examples.

        Returns
        -------
        Task or None
            None, the default, if the data have to be loaded first.
        """
        return None

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the mean and standard deviation of the training part, shaped as ``Splits`` describes.

        None, the default, keeps those that ``load`` returned.
        """
        return None

    def parts(self, split: torch.Generator, refit: bool = False, seed: int = 0) -> Splits:
        """Load the three parts with their statistics, as runs use them.

        Parameters
        ----------
        split
            The run's random stream for splitting.
        refit
            Move validation examples to the training part; the statistics then include them.
        seed
            Seed of the run.

        Raises
        ------
        UserError
            The data cannot be trained on; see ``bench.data.validation``.
        """
        name = getattr(self, "name", type(self).__name__)  # a class that no registry knows needs none
        splits = validation.checked(name, self.load_seed(seed, split))
        if refit:
            splits = splits.merged()
        found = self.statistics(splits.train)
        if found is not None:
            splits = replace(splits, mean=found[0], std=found[1])
        splits = validation.standardising(name, splits)
        validation.require_prepared(name, self, splits)
        self._require_task(name, splits, refit)
        return splits

    def _require_task(self, name: str, splits: Splits, refit: bool) -> None:
        told, shape = self.task(refit), tuple(splits.train.inputs.shape[1:])
        if told is not None and (told.input_shape, told.classes) != (shape, splits.classes):
            raise UserError(
                f"data set {name}: task says inputs of {told.input_shape} and {told.classes} classes, "
                f"load gives {shape} and {splits.classes}; they must agree"
            )

    def prepare(
        self, inputs: torch.Tensor, splits: Splits, augmentation: torch.Generator | None
    ) -> torch.Tensor:
        """Turn a stored batch into an input of the network: floating point, standardised, perhaps augmented.

        The default standardises and never augments.

        Parameters
        ----------
        inputs
            A batch of stored inputs.
        splits
            The data set. In evaluation only its statistics may be used, since a stored model has no examples.
        augmentation
            Random stream of augmentation in training; None in evaluation, which does not augment.
        """
        # uint8 minus float32 is float32, so that no separate conversion is needed
        return (inputs - splits.mean) / splits.std

    def unknown(self) -> Mapping[str, Unknown]:
        """Return the sets of inputs that belong to no class, on which a network should be unsure.

        A call of ``unknown`` reads no files; its functions do.

        Returns
        -------
        mapping
            By name, a function from the parts of a run to stored inputs (M, ...) of the shape and dtype of
            its test part, on the CPU. A result depends on the parts alone: it is the same in each process and
            for each seed with these parts. Names are small letters, digits and ``_``, and not ``train``,
            ``val`` or ``test``. A function raises ``UserError`` of one line if its files are missing: which
            set, where it was looked for, and how to get it. None by default.
        """
        return {}

    def shifts(self) -> Mapping[str, Shift]:
        """Return the ways in which test inputs can be shifted while their labels stay right.

        A call of ``shifts`` reads no files; its functions may.

        Returns
        -------
        mapping
            By name, a function from a batch of stored inputs, a severity of 1 to 5 and the parts of a run to
            inputs of the same shape and dtype, on the device of the batch. What becomes of an example depends
            on the example, the severity and the training part alone, not on the other examples of the batch
            or their order: noise is seeded from the example itself. Missing files are as in ``unknown``.
            None by default.
        """
        return {}


DATASETS: Registry[Dataset] = Registry("data set", "bench.data", Dataset, "ssvi_bench.datasets")
