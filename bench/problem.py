"""A run specification made concrete: data on the device, the network, the method object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.networks.base import NETWORKS
from bench.spec import RunSpec
from methods import costs
from methods.base import METHODS, Batch, Budget, Method, Task
from methods.streams import Streams, derive

EVALUATION_BATCH = 1024
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Problem:
    """What training and evaluation of one run work on."""

    spec: RunSpec
    dataset: Dataset
    splits: Splits
    method: Method
    task: Task
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """The arithmetic of training."""
        return DTYPES[self.spec.precision]

    @property
    def budget(self) -> Budget:
        """Epochs and steps an epoch; a last smaller batch is a step."""
        batch = self.spec.training.batch_size
        return Budget(self.spec.training.epochs, -(-self.task.examples // batch))

    def network(self, streams: Streams, salt: str = "") -> nn.Module:
        """A freshly initialised plain network on the device."""
        name, options = self.spec.network
        network = NETWORKS.get(name)(options).initialised(self.task, streams, salt)
        return network.to(self.device, self.dtype)

    def build(self, streams: Streams, salt: str = "") -> nn.Module:
        """The method's module with its FLOPs traced."""
        module = self.method.build(self.network(streams, salt), streams, self.task).to(self.device)
        mean = self.method.mean(module)
        predictors = [mean] if mean else self.method.draws(module, 1, streams.fresh("evaluation"))
        costs.trace(module, self.task.input_shape, predictors)
        return module

    def training_batches(self, streams: Streams) -> Iterator[Batch]:
        """One epoch in a new random order, augmented."""
        train, size = self.splits.train, self.spec.training.batch_size
        order = torch.randperm(len(train), generator=streams["order"]).to(self.device)
        for chosen in order.split(size):
            inputs = self.dataset.prepare(train.inputs[chosen], self.splits, streams["augmentation"])
            yield inputs.to(self.dtype), train.labels[chosen]

    def batches(self, split: Split) -> Iterator[Batch]:
        """A whole split in its order, not augmented."""
        for inputs, labels in zip(
            split.inputs.split(EVALUATION_BATCH), split.labels.split(EVALUATION_BATCH), strict=True
        ):
            yield self.dataset.prepare(inputs, self.splits, None).to(self.dtype), labels


def make_problem(spec: RunSpec, device: str = "cpu") -> Problem:
    """Load the data of ``spec`` and construct its method."""
    splits = _load(*spec.dataset, spec.seed, device)
    task = Task(tuple(splits.train.inputs.shape[1:]), splits.classes, len(splits.train))
    return problem_of(spec, splits, task, device)


def problem_of(spec: RunSpec, splits: Splits, task: Task, device: str = "cpu") -> Problem:
    """The problem of ``spec`` on ``splits``, which may have lost the examples that ``task`` counts."""
    (dataset, dataset_options), (method, method_options) = spec.dataset, spec.method
    return Problem(
        spec,
        DATASETS.get(dataset)(dataset_options),
        splits,
        METHODS.get(method)(method_options),
        task,
        torch.device(device),
    )


@lru_cache(maxsize=2)
def _load(name: str, options: Any, seed: int, device: str) -> Splits:
    """A worker's runs mostly share data: keep the last ones."""
    generator = torch.Generator().manual_seed(derive(seed, "split"))
    splits = DATASETS.get(name)(options).load(generator)
    return splits.to(device)
