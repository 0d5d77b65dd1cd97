"""Toy methods, data and network: the contract proved on the smallest things that have it all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.networks.base import NETWORKS, Network, NetworkOptions
from methods.base import METHODS, Batch, Budget, Context, Method, Progress, Stage, Task
from methods.core.options import option
from methods.core.style import Style

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


@DATASETS.register
class NoisyBlobs(Blobs):
    """Blobs that are drawn anew around their places whenever they are trained on."""

    name = "toy_noisy_blobs"

    def prepare(
        self, inputs: torch.Tensor, splits: Splits, augmentation: torch.Generator | None
    ) -> torch.Tensor:
        prepared = super().prepare(inputs, splits, augmentation)
        if augmentation is None:
            return prepared
        return prepared + 0.1 * torch.randn(prepared.shape, generator=augmentation)


class Rows(nn.Module):
    """Applies a recurrent network to the rows of an image, and returns its last output."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        self.rnn.flatten_parameters()
        return self.rnn(x[:, 0])[0][:, -1]


#: What comes before the classifier, for images (N, 1, 8, 8).
BODIES = {
    "conv1d": lambda: [nn.Flatten(1, 2), nn.Conv1d(8, 12, 3), nn.ReLU(), nn.Conv1d(12, 8, 3)],
    "circular": lambda: [
        nn.Conv2d(1, 6, 3, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(6, 4, 2, stride=2, padding=1, padding_mode="circular"),
    ],
    "same": lambda: [nn.Conv2d(1, 6, 2, padding="same"), nn.ReLU(), nn.Conv2d(6, 2, 4, padding="same")],
    "conv3d": lambda: [
        nn.Unflatten(1, (1, 1)),
        nn.Conv3d(1, 4, (1, 3, 3)),
        nn.ReLU(),
        nn.Conv3d(4, 4, (1, 3, 3)),
    ],
    "transposed": lambda: [nn.Conv2d(1, 6, 3, 2), nn.ReLU(), nn.ConvTranspose2d(6, 3, 2, stride=2)],
    "transposed1d": lambda: [nn.Flatten(1, 2), nn.ReLU(), nn.ConvTranspose1d(8, 4, 3)],
    "lstm": lambda: [Rows(nn.LSTM(8, 10, 2, batch_first=True, dropout=0.1))],
    "gru": lambda: [Rows(nn.GRU(8, 10, batch_first=True, bidirectional=True))],
}


@dataclass(frozen=True)
class KindsOptions(NetworkOptions):
    body: str = option("conv1d", "layers before the classifier", choices=tuple(BODIES))


@NETWORKS.register
class Kinds(Network):
    """A body of one kind of layer, and a classifier."""

    name = "toy_kinds"
    Options = KindsOptions

    def build(self, task):
        body = nn.Sequential(*BODIES[self.options.body](), nn.Flatten())
        features = body(torch.zeros(1, *task.input_shape)).shape[1]
        return nn.Sequential(body, nn.Linear(features, task.classes))
