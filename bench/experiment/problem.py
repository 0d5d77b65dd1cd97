"""A run specification made concrete: data on the device, the network, the method object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.experiment.budget import budget_of, nominal_budget, steps_of
from bench.experiment.building import DTYPES, build_module, plain_network
from bench.experiment.compilation import compile_plain
from bench.experiment.execution import Execution
from bench.experiment.spec import RunSpec
from methods.base import METHODS, Batch, Budget, Method, Task
from methods.core.streams import Streams, derive
from methods.layers import costs, execution

#: Examples at once in evaluation on a GPU, and at least and at most on a CPU.
EVALUATION_BATCH = {"cuda": (1024, 1024), "cpu": (16, 256)}
#: Bytes of the largest activation in evaluation on a CPU. What lies beyond its caches comes as new pages
#: each time: ResNet-18 predicted half as many images a second by 128 as by 32.
EVALUATION_BYTES = 2**23


@dataclass(frozen=True)
class Problem:
    """What training and evaluation of one run work on.

    budget: the training length that stages are made from.
    """

    spec: RunSpec
    dataset: Dataset
    splits: Splits
    method: Method
    task: Task
    budget: Budget
    execution: Execution

    @property
    def device(self) -> torch.device:
        """Where data and network lie."""
        return torch.device(self.execution.device)

    @property
    def dtype(self) -> torch.dtype:
        """The type of parameters and inputs."""
        return DTYPES[self.spec.precision]

    def autocast(self) -> AbstractContextManager[Any]:
        """The arithmetic of training, for what is computed within the block."""
        enabled = self.spec.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    @property
    def nominal_images(self) -> int:
        """Training examples of one stage of the nominal epochs: what dense VI takes."""
        nominal = nominal_budget(self.spec, self.task)
        epochs, rest = divmod(steps_of(self.spec, nominal, nominal.epochs), nominal.steps_per_epoch)
        return epochs * self.task.examples + rest * self.spec.training.batch_size

    def steps(self, epochs: int) -> int:
        """Steps of a stage of ``epochs``, cut short where the recipe says so."""
        return steps_of(self.spec, self.budget, epochs)

    def network(self, streams: Streams, salt: str = "") -> nn.Module:
        """What the method builds from: a freshly initialised plain network, or a list of its members.

        On the CPU, by random numbers that are those of every device.
        """
        return plain_network(self.spec, self.method, self.task, streams, salt)

    def build(self, streams: Streams, salt: str = "") -> nn.Module:
        """The method's module on the device, with its FLOPs traced."""
        module = build_module(
            self.spec,
            self.method,
            self.task,
            self.network(streams, salt),
            streams,
            self.device,
            self.execution.channels_last,
        )
        self.choose_execution(module)
        if self.execution.compile:
            compile_plain(module)
        return module

    def choose_execution(self, module: nn.Module) -> None:
        """Decide which layers sparse kernels compute, from the active weights that they have now."""
        here, lower = self.execution, self.spec.precision == "bfloat16"
        execution.choose(
            module,
            "dense" if lower else here.mode,  # contractions in less than float32 are torch's
            self.task.input_shape,
            self.spec.training.batch_size,
            in_layout=not here.compile,
            why_dense="kernels are for float32, not for bfloat16" if lower else "asked for",
        )

    def training_batches(self, streams: Streams) -> Iterator[Batch]:
        """One epoch in a new random order, augmented."""
        train, size = self.splits.train, self.spec.training.batch_size
        order = torch.randperm(len(train), generator=streams["order"]).to(self.device)
        for chosen in order.split(size):
            inputs = self.dataset.prepare(train.inputs[chosen], self.splits, streams["augmentation"])
            yield self._arranged(inputs), train.labels[chosen]

    def evaluation_batch(self, module: nn.Module) -> int:
        """Examples at once in evaluation, a power of two: as many as suit the device's memory."""
        fewest, most = EVALUATION_BATCH[self.device.type]
        bytes_each = costs.largest_output(module) * self.dtype.itemsize
        return max(fewest, min(most, 1 << max(EVALUATION_BYTES // bytes_each, 1).bit_length() - 1))

    def batches(self, split: Split, size: int) -> Iterator[Batch]:
        """A whole split in its order, ``size`` examples at a time, not augmented."""
        for inputs, labels in zip(split.inputs.split(size), split.labels.split(size), strict=True):
            yield self._arranged(self.dataset.prepare(inputs, self.splits, None)), labels

    def _arranged(self, inputs: torch.Tensor) -> torch.Tensor:
        channels_last = self.execution.channels_last and inputs.dim() == 4
        return inputs.to(
            self.dtype, memory_format=torch.channels_last if channels_last else torch.preserve_format
        )


def set_arithmetic(spec: RunSpec) -> None:
    """On GPUs: float32 in full unless ``tf32`` is asked for, and kernels that repeat their bits."""
    mode = "tf32" if spec.precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True


def make_problem(spec: RunSpec, execution: Execution = Execution()) -> Problem:
    """Load the data of ``spec`` and construct its method."""
    splits = load(spec, execution.device)
    return problem_of(spec, splits, task_of(splits), execution)


def problem_of(spec: RunSpec, splits: Splits, task: Task, execution: Execution = Execution()) -> Problem:
    """The problem of ``spec`` on ``splits``, which may have lost the examples that ``task`` counts."""
    (dataset, dataset_options), (method, method_options) = spec.dataset, spec.method
    return Problem(
        spec,
        DATASETS.get(dataset)(dataset_options),
        splits,
        METHODS.get(method)(method_options),
        task,
        budget_of(spec, task),
        execution,
    )


def load(spec: RunSpec, device: str = "cpu") -> Splits:
    """The data of ``spec`` on ``device``. Raises ``UserError`` where they are not on this machine."""
    return _load(*spec.dataset, spec.seed, spec.protocol, device)


def task_of(splits: Splits) -> Task:
    """What a method may know of ``splits``."""
    return Task(tuple(splits.train.inputs.shape[1:]), splits.classes, len(splits.train))


@lru_cache(maxsize=2)
def _load(name: str, options: Any, seed: int, protocol: str, device: str) -> Splits:
    """A worker's runs mostly share data: keep the last ones."""
    generator = torch.Generator().manual_seed(derive(seed, "split"))
    splits = DATASETS.get(name)(options).parts(generator, refit=protocol == "refit")
    return splits.to(device)
