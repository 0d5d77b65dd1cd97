"""Simulate problems whose relevant features are known: a teacher looks at k of p features."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.data.base import Dataset, DatasetOptions, Split, Splits
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option
from methods.core.streams import derive

TEACHERS = {
    "linear": "the sum of the relevant features, each with a random sign",
    "network": "a random network of one hidden layer of tanh units on the relevant features",
}
#: Examples from which the bounds between classes are computed.
_REFERENCE = 20_000


@dataclass(frozen=True)
class PlantedOptions(DatasetOptions):
    """Options of the planted problem."""

    features: int = option(1000, "features p", within="[1, 1000000]")
    relevant: int = option(10, "features k that the teacher looks at", within="[1, 1000]")
    teacher: str = option("linear", "what decides the class", choices=TEACHERS)
    units: int = option(4, "hidden units of teacher=network", within="[1, 1000]")
    noise: float = option(
        0.1,
        "standard deviation of Gaussian noise on the teacher's output, relative to that of the output",
        within="[0, inf)",
    )
    classes: int = option(2, "classes, intervals of the teacher's output", within="[2, 100]")
    correlation: float = option(
        0.0, "correlation of neighbouring features (autoregressive of order 1)", within="[0, 1)"
    )
    train: int = option(400, "training examples", within="[10, inf)")
    val: int = option(100, "validation examples", within="[10, inf)")
    test: int = option(500, "test examples, the same for all seeds", within="[10, inf)")
    problem: int = option(0, "number of the problem: another one has another teacher", within="[0, inf)")

    def __post_init__(self) -> None:
        if self.relevant > self.features:
            raise UserError(f"relevant: {self.relevant} is above features, {self.features}")


class Planted(Dataset):
    """Gaussian features (p,), of which a linear or network teacher looks at k; the k are known.

    Teacher and test part are those of the problem. Each seed draws its own training and validation part.
    Classes have equally many examples in each part, up to one.
    """

    name = "planted"
    Options = PlantedOptions

    def task(self, refit: bool = False) -> Task:
        """Return the sizes, which are options."""
        chosen = self.options
        train = chosen.train + chosen.val if refit else chosen.train
        return Task((chosen.features,), chosen.classes, train)

    def relevant(self) -> torch.Tensor:
        """Return the positions (k,) of the features that the teacher looks at, sorted."""
        chosen = self.options
        drawn = torch.randperm(chosen.features, generator=self._stream("relevant"))
        return drawn[: chosen.relevant].sort().values

    def load(self, split: torch.Generator) -> Splits:
        """Draw the training and the validation part from ``split``; the test part is that of the problem."""
        chosen = self.options
        train, val = self._drawn(chosen.train, split), self._drawn(chosen.val, split)
        return Splits(train, val, self._drawn(chosen.test, self._stream("test")), chosen.classes)

    def _stream(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive(self.options.problem, f"planted/{purpose}"))

    def _drawn(self, count: int, generator: torch.Generator) -> Split:
        """Draw ``count`` examples: candidates are drawn until each class has its share."""
        chosen, bounds = self.options, self._bounds()
        wanted = torch.tensor([(count + number) // chosen.classes for number in range(chosen.classes)])
        held, labels, found = [], [], torch.zeros(chosen.classes, dtype=torch.long)
        while bool((found < wanted).any()):
            # few at a time: rows that are not used are drawn too, and they are long
            inputs = self._inputs(max(16, min(count, 2**24 // chosen.features)), generator)
            label = torch.bucketize(self._noisy(inputs, generator), bounds)
            # the place of each candidate among those of its class decides whether it is still needed
            one_hot = torch.nn.functional.one_hot(label, chosen.classes)
            place = found[label] + one_hot.cumsum(0).gather(1, label[:, None])[:, 0] - 1
            kept = place < wanted[label]
            held.append(inputs[kept])
            labels.append(label[kept])
            found += one_hot[kept].sum(0)
        return Split(torch.cat(held), torch.cat(labels))

    def _inputs(self, count: int, generator: torch.Generator) -> torch.Tensor:
        chosen = self.options
        inputs = torch.randn(count, chosen.features, generator=generator)
        if chosen.correlation:
            rest = (1 - chosen.correlation**2) ** 0.5
            for column in range(1, chosen.features):
                inputs[:, column].mul_(rest).add_(inputs[:, column - 1], alpha=chosen.correlation)
        return inputs

    def _noisy(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        output, scale = self._output(inputs[:, self.relevant()]), self._scale()
        return output + self.options.noise * scale * torch.randn(len(output), generator=generator)

    def _output(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the teacher's output (N,) for the relevant features (N, k)."""
        stream, k = self._stream("teacher"), seen.shape[1]
        if self.options.teacher == "linear":
            signs = torch.randint(2, (k,), generator=stream) * 2 - 1
            return seen @ signs.float() / k**0.5
        first = torch.randn(k, self.options.units, generator=stream) / k**0.5
        second = torch.randn(self.options.units, generator=stream)
        return (2 * (seen @ first)).tanh() @ second

    def _reference(self) -> torch.Tensor:
        k = len(self.relevant())
        return self._output(torch.randn(_REFERENCE, k, generator=self._stream("reference")))

    def _scale(self) -> float:
        return float(self._reference().std())

    def _bounds(self) -> torch.Tensor:
        """Return the outputs between which classes lie, so that all are equally frequent."""
        output = self._reference()
        noise = torch.randn(_REFERENCE, generator=self._stream("noise")) * self.options.noise * output.std()
        shares = torch.arange(1, self.options.classes) / self.options.classes
        return (output + noise).quantile(shares)
