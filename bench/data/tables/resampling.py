"""Draw the parts of a data set anew for each seed: folds of cross-validation, one example, or random parts.

Fold and repeat follow from the seed (fold = seed mod k, repeat = seed div k), so that seeds stay the one
replicate of a comparison. Validation examples are drawn from the training rows of the seed's own fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from bench.data.base import Dataset, DatasetOptions, Split, Splits
from bench.data.splitting import stratified
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option
from methods.core.streams import derive

RESAMPLINGS = {
    "folds": "stratified folds of cross-validation: a seed tests fold seed mod k of repeat seed div k",
    "leave_one_out": "a seed tests the one example seed mod n",
    "split": "each seed draws its own stratified test part",
    "official": "the training and test part that the data's authors chose, for every seed",
}

#: Largest absolute value of a standardised input.
FARTHEST = 10.0


@dataclass(frozen=True)
class ResamplingOptions(DatasetOptions):
    """Options that say which rows are tested, and which of the others are for validation."""

    resampling: str = option("folds", "which examples a seed tests", choices=RESAMPLINGS)
    folds: int = option(5, "folds k of cross-validation", within="[2, 100]")
    fold: int | None = option(
        None,
        "if set, every seed tests this fold of the first repeat (with leave_one_out: this example); seeds, "
        "those of a search included, then only draw the validation part anew from the other rows, so that a "
        "search never sees the tested rows",
        within="[0, inf)",
    )
    val: float = option(0.2, "share of the examples that are not tested, for validation", within="[0, 0.5]")
    test: float = option(0.2, "share of the examples that resampling=split tests", within="(0, 0.9]")


@dataclass(frozen=True)
class Rows:
    """Hold all examples of a data set.

    Parameters
    ----------
    inputs
        Floating point (N, p) for tables, or uint8 (N, C, H, W) for images; NaN where a value is missing.
    labels
        Integer labels (N,).
    classes
        Number of classes.
    tested
        Which rows are in the official test part, boolean (N,); None if there is none.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    classes: int
    tested: torch.Tensor | None = None


class Resampled(Dataset):
    """Base class of a data set whose rows are resampled; a subclass implements ``rows``."""

    Options = ResamplingOptions

    #: Number of rows and classes, and shape of an input, where they are known without reading the data.
    known: ClassVar[tuple[int, int, tuple[int, ...]] | None] = None
    #: Number of rows of the official test part, where it is known.
    known_tested: ClassVar[int | None] = None

    def rows(self) -> Rows:
        """Return all examples, always in the same order."""
        raise NotImplementedError

    def load(self, split: torch.Generator) -> Splits:
        """Return the parts of seed 0."""
        return self.load_seed(0, split)

    def load_seed(self, seed: int, split: torch.Generator) -> Splits:
        """Draw the parts of ``seed``.

        Every seed trains on equally many examples: budgets and the weight of the KL term are the same.
        Folds differ by one example if k does not divide their number; a fold with the smaller test part
        therefore leaves one of its other rows unused.

        Raises
        ------
        UserError
            The options do not fit the data.
        """
        rows = self.rows()
        test = self._tested(rows, seed, split)
        held = torch.zeros(len(rows.labels), dtype=torch.bool)
        held[test] = True
        rest = (~held).nonzero().flatten()
        val_size, train_size = self._sizes(len(rows.labels), rows.tested)
        chosen = stratified(rows.labels[rest], (val_size, train_size), split)
        val, train = (self._part(rows, rest[part]) for part in chosen[:2])
        found = Splits(train, val if val_size else None, self._part(rows, test), rows.classes)
        return filled(found)

    def task(self, refit: bool = False) -> Task | None:
        """Return shape, classes and number of training examples, if the number of rows is known."""
        if self.known is None or (self.options.resampling == "official" and self.known_tested is None):
            return None
        count, classes, shape = self.known
        tested = None
        if self.known_tested is not None:
            tested = torch.arange(count) < self.known_tested
        val, train = self._sizes(count, tested)
        return Task(shape, classes, train + val if refit else train)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each feature."""
        inputs = train.inputs.double()
        return inputs.mean(0).float(), inputs.std(0, correction=0).float()

    def prepare(
        self, inputs: torch.Tensor, splits: Splits, augmentation: torch.Generator | None
    ) -> torch.Tensor:
        """Standardise a batch, and move values beyond ``FARTHEST`` standard deviations there.

        Few training rows may hardly vary in a feature that varies in others: without a limit a gene that is
        silent in all but one sample has standardised values of many hundreds.
        """
        return super().prepare(inputs, splits, augmentation).clamp_(-FARTHEST, FARTHEST)

    def _part(self, rows: Rows, chosen: torch.Tensor) -> Split:
        return Split(rows.inputs[chosen], rows.labels[chosen])

    def _tested(self, rows: Rows, seed: int, split: torch.Generator) -> torch.Tensor:
        count, chosen = len(rows.labels), self.options
        if chosen.resampling == "official":
            if rows.tested is None:
                valid = ", ".join(name for name in RESAMPLINGS if name != "official")
                raise UserError(
                    f"data set {self.name}: resampling: official: its authors chose no test part; "
                    f"valid: {valid}"
                )
            return rows.tested.nonzero().flatten()
        if chosen.resampling == "split":
            return stratified(rows.labels, (round(chosen.test * count),), split)[0]
        many = count if chosen.resampling == "leave_one_out" else chosen.folds
        if chosen.fold is not None:
            if chosen.fold >= many:
                raise UserError(
                    f"data set {self.name}: fold: {chosen.fold}; valid: 0 to {many - 1}, or null for that of "
                    "the seed"
                )
            repeat, fold = 0, chosen.fold
        else:
            repeat, fold = divmod(seed, many)
        if chosen.resampling == "leave_one_out":
            return torch.tensor([fold])
        return folds(rows.labels, many, repeat)[fold]

    def _sizes(self, count: int, tested: torch.Tensor | None) -> tuple[int, int]:
        """Return the numbers of validation and training examples, the same for all seeds."""
        chosen = self.options
        if chosen.resampling == "folds" and chosen.folds > count:
            raise UserError(f"data set {self.name}: folds: {chosen.folds} are more than its {count} examples")
        largest = {
            "folds": -(-count // chosen.folds),
            "leave_one_out": 1,
            "split": round(chosen.test * count),
            "official": int(tested.sum()) if tested is not None else 0,
        }[chosen.resampling]
        rest = count - largest
        val = round(chosen.val * rest)
        if largest == 0 or rest - val < 1:
            raise UserError(
                f"data set {self.name}: {count} examples leave {largest} for the test and {rest - val} for "
                "the training part; it needs one of each"
            )
        return val, rest - val


def folds(labels: torch.Tensor, count: int, repeat: int) -> list[torch.Tensor]:
    """Return the rows of each fold of a repeat of stratified cross-validation.

    Folds are disjoint and make up all rows. Their sizes differ by at most one, and so do the numbers of
    examples of a class in them.

    Parameters
    ----------
    labels
        Integer labels (N,).
    count
        Number of folds.
    repeat
        Number of the repeat; each shuffles the rows anew, in the same way for all methods.
    """
    generator = torch.Generator().manual_seed(derive(repeat, "folds"))
    order = torch.randperm(len(labels), generator=generator)
    # sorted by class, and in random order within a class, rows are dealt to the folds in turn
    order = order[labels[order].argsort(stable=True)]
    return [order[fold::count] for fold in range(count)]


def filled(splits: Splits) -> Splits:
    """Replace each missing value by the mean of its feature in the training part; by 0 if it has none."""
    train = splits.train.inputs
    if not train.is_floating_point():
        return splits
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    if not any(part is not None and bool(part.inputs.isnan().any()) for part in parts.values()):
        return splits
    mean = train.double().nanmean(0).nan_to_num(nan=0.0).to(train.dtype)
    found = {
        name: replace(part, inputs=torch.where(part.inputs.isnan(), mean, part.inputs))
        for name, part in parts.items()
        if part is not None
    }
    return replace(splits, **found)
