"""Check a data set, for ``bench.check --dataset``: all that a run checks, and on every example."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from bench.checking.parts.common import declared_line, require_global_streams_kept
from bench.checking.verdicts import Check, Failed
from bench.data import validation
from bench.data.base import SEVERITIES, Dataset, Splits
from methods.core.errors import UserError

#: Examples that are prepared at once.
_BATCH = 1024
#: Examples that are shifted at once, and one by one.
_SHIFTED = 5


@dataclass(frozen=True)
class Subject:
    """A data set to check, with its options."""

    cls: type[Dataset]
    options: Any

    @property
    def dataset(self) -> Dataset:
        """A new object on each access."""
        return self.cls(self.options)

    @cached_property
    def splits(self) -> Splits:
        """The parts of one seed."""
        return self.load(0)

    def load(self, seed: int, refit: bool = False) -> Splits:
        """Load the parts of a seed."""
        return self.dataset.parts(torch.Generator().manual_seed(seed), refit, seed)


def declared(subject: Subject) -> str:
    """Check name, version and docstring."""
    return declared_line(subject.cls)


def loads(subject: Subject) -> str:
    """Check that the parts can be trained on, with and without the validation part."""
    splits = subject.splits
    subject.load(0, refit=True)
    sizes = ", ".join(
        f"{len(split)} {part}" for part in ("train", "val", "test") if (split := getattr(splits, part))
    )
    return f"{sizes}; inputs {tuple(splits.train.inputs.shape[1:])}, {splits.classes} classes"


def seeds(subject: Subject) -> str:
    """Check that a seed fixes the parts, and that no global random stream is used."""
    require_global_streams_kept(
        lambda: subject.dataset.load_seed(0, torch.Generator().manual_seed(0)), "load"
    )
    again = subject.load(0)
    for part in ("train", "val", "test"):
        first, second = getattr(subject.splits, part), getattr(again, part)
        if first is None and second is None:
            continue
        same = len(first) == len(second) and torch.equal(first.inputs, second.inputs)
        if not same or not torch.equal(first.labels, second.labels):
            raise Failed(
                f"{part} has other examples the second time; draw from the stream that load is given"
            )
    return "the parts of a seed are the same the second time"


def disjoint(subject: Subject) -> str:
    """Check that no row is in two parts and each class has a training example."""
    if lines := validation.warnings(subject.cls.name, subject.splits):
        raise Failed("; ".join(line.removeprefix(f"data set {subject.cls.name}: ") for line in lines))
    return "no row is in two parts, and each class has a training example"


def prepared(subject: Subject) -> str:
    """Check what networks get of every example, and that preparing is repeatable in evaluation."""
    dataset, splits, largest = subject.dataset, subject.splits, 0.0
    for part in ("train", "val", "test"):
        if (split := getattr(splits, part)) is None:
            continue
        for inputs in split.inputs.split(_BATCH):
            stream = torch.Generator().manual_seed(0)
            for augmentation in (stream, None) if part == "train" else (None,):
                validation.require_prepared_batch(
                    f"{subject.cls.name}: {part}", dataset, inputs, splits, augmentation
                )
            found = dataset.prepare(inputs, splits, None)
            if not torch.equal(found, dataset.prepare(inputs, splits, None)):
                raise Failed(f"{part}: prepare gives other inputs the second time in evaluation")
            largest = max(largest, float(found.abs().max()))
    return f"all examples are finite, of absolute value up to {largest:.3g}"


def augmentation(subject: Subject) -> str:
    """Check that augmentation draws from the stream that it is given."""
    dataset, splits = subject.dataset, subject.splits
    inputs = splits.train.inputs[:_BATCH]

    def augmented() -> torch.Tensor:
        return dataset.prepare(inputs, splits, torch.Generator().manual_seed(0))

    require_global_streams_kept(augmented, "prepare")
    if not torch.equal(augmented(), augmented()):
        raise Failed("prepare augments otherwise under the same stream; draw from `augmentation` alone")
    return "the same stream gives the same inputs"


def task(subject: Subject) -> str:
    """Check that ``task`` says what is loaded."""
    if subject.dataset.task() is None:
        return "task says nothing, so that plans load the data"
    for refit in (False, True):
        told, examples = subject.dataset.task(refit), len(subject.load(0, refit).train)
        if told is not None and told.examples != examples:
            raise Failed(
                f"task(refit={refit}) says {told.examples} training examples, but load gives {examples}"
            )
    return "task says the sizes that load gives"


def unknown(subject: Subject) -> str:
    """Check the sets of inputs that belong to no class; those whose files are missing are named."""
    dataset, splits, missing = subject.dataset, subject.splits, []
    sets = dataset.unknown()
    for name, function in sets.items():
        try:
            require_global_streams_kept(partial(function, splits), f"unknown set {name}")
            found = function(splits)
        except UserError:
            missing.append(name)
            continue
        validation.require_unknown(subject.cls.name, name, found, splits)
        if not torch.equal(found, function(splits)):
            raise Failed(f"unknown set {name} has other inputs the second time")
    return _told(len(sets), "unknown sets", missing)


def shifts(subject: Subject) -> str:
    """Check that each shift keeps shape and type, and shifts each example by itself."""
    dataset, splits, missing = subject.dataset, subject.splits, []
    batch, named = splits.test.inputs[:_SHIFTED], dataset.shifts()
    for name, function in named.items():
        for severity in SEVERITIES:
            try:
                shifted = partial(function, batch, severity, splits)
                require_global_streams_kept(shifted, f"shift {name}")
                found = shifted()
            except UserError:
                missing.append(name)
                break
            validation.require_shifted(subject.cls.name, name, found, batch)
            alone = torch.cat([function(one, severity, splits) for one in reversed(batch.split(1))])
            if not torch.equal(alone.flip(0), found):
                raise Failed(
                    f"shift {name} at severity {severity}: what becomes of an example depends on its batch "
                    "or differs the second time; draw noise from the example, as bench.data.draws does"
                )
    return _told(len(named), "shifts", missing)


def _told(count: int, what: str, missing: list[str]) -> str:
    if not count:
        return f"there are no {what}"
    files = f"; not checked, since files are missing: {', '.join(missing)}" if missing else ""
    return f"{count - len(missing)} {what} fit and are the same the second time{files}"


CHECKS: tuple[Check[Subject], ...] = (
    Check("declared", "name, version and docstring are valid", declared, vital=True),
    Check("loads", "labels, inputs, parts and statistics are what can be trained on", loads, vital=True),
    Check("seeds", "a seed fixes every example of every part", seeds),
    Check("disjoint", "no row is in two parts, and each class has a training example", disjoint),
    Check("prepared", "every prepared example is finite, and the same each time in evaluation", prepared),
    Check("augmented", "augmentation draws from the stream that it is given", augmentation),
    Check("task", "task says what load gives", task),
    Check("unknown", "inputs of no class fit the test part, and are the same each time", unknown),
    Check("shifts", "shifts keep shape and type, and shift each example by itself", shifts),
)
