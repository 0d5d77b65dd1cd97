"""Toy methods, data and network: the contract proved on the smallest things that have it all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.networks.base import NETWORKS, Network
from methods.base import METHODS, Batch, Budget, Context, Method, Predictor, Progress, Stage, Style, Task
from methods.options import option
from methods.streams import Streams

STYLE = Style("Toy", hue="#000000", hue_dark="#FFFFFF")


@METHODS.register
class TwoStage(Method):
    """Plain training, then rewound to the weights after one epoch, and trained again."""

    name = "toy_two_stage"
    style = STYLE

    def stages(self, budget: Budget) -> list[Stage]:
        first = budget.epochs // 2
        return [
            Stage("search", first),
            Stage("final", budget.epochs - first, start="rewind", rewind_to=1),
        ]

    def enter_stage(self, context: Context, stage: Stage) -> None:
        context.memory["entered"] = [*context.memory.get("entered", []), stage.name]
        if stage.name == "final":
            context.memory["start of final"] = {k: v.clone() for k, v in context.module.state_dict().items()}

    def after_step(self, context: Context) -> None:
        context.memory["steps"] = context.memory.get("steps", 0) + 1


@METHODS.register
class TwoMembers(Method):
    """An ensemble of two networks, trained one after the other, that predicts by both."""

    name = "toy_two_members"
    style = STYLE

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        generator = streams["subspace"]
        second = type(network)(task.input_shape[0], task.classes)
        for parameter in second.parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)
        return nn.ModuleList([network, second])

    def stages(self, budget: Budget) -> list[Stage]:
        return [Stage("first", budget.epochs), Stage("second", budget.epochs, start="keep")]

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        member = module[0] if progress.stage == "first" else module[1]
        return super().loss(member, batch, progress)

    def mean(self, module: nn.Module) -> Predictor | None:
        return None

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        yield from module


@METHODS.register
class Failing(Method):
    """Raises in the step it is told to."""

    @dataclass(frozen=True)
    class FailingOptions:
        fail_at: int = option(3, "step that fails", within="[1, inf)")
        how: str = option("raise", "raise or nan", choices=("raise", "nan"))

    name = "toy_failing"
    style = STYLE
    Options = FailingOptions

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        loss = super().loss(module, batch, progress)
        if progress.step == self.options.fail_at:
            if self.options.how == "raise":
                raise RuntimeError("told to fail\nin two lines")
            return loss * float("nan")
        return loss


class Small(nn.Module):
    """A hidden layer with batch normalisation: parameters and buffers."""

    def __init__(self, inputs: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, 16)
        self.norm = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(torch.relu(self.norm(self.hidden(x)))))


@NETWORKS.register
class SmallNetwork(Network):
    """The network of the toys."""

    @dataclass(frozen=True)
    class SmallOptions:
        dropout: float = option(0.0, "share of hidden units dropped in training", within="[0, 1)")

    name = "toy_network"
    Options = SmallOptions

    def build(self, task: Task) -> nn.Module:
        return Small(task.input_shape[0], task.classes, self.options.dropout)


@DATASETS.register
class Blobs(Dataset):
    """Gaussian blobs in eight dimensions, three classes."""

    @dataclass(frozen=True)
    class BlobOptions:
        examples: int = option(90, "training examples", within="[1, inf)")

    name = "toy_blobs"
    Options = BlobOptions

    def load(self, split: torch.Generator) -> Splits:
        def part(n: int) -> Split:
            labels = torch.arange(n) % 3
            centres = 2 * torch.eye(3, 8)[labels]
            return Split(centres + torch.randn(n, 8, generator=split), labels)

        return Splits(part(self.options.examples), part(30), part(60), classes=3)
