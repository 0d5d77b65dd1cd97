"""Make a run specification concrete: data on the device, network, method and budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.experiment.budget import budget_of, minibatches, nominal_budget, steps_of
from bench.experiment.building import DTYPES, build_module, plain_network
from bench.experiment.compilation import compile_plain
from bench.experiment.execution import Execution
from bench.experiment.spec import RunSpec
from bench.networks.fingerprint import fingerprint
from methods.base import METHODS, Batch, Budget, Method, Stage, Task
from methods.core.data_loss import Targets
from methods.core.errors import UserError
from methods.core.global_generators import seeded
from methods.core.streams import Streams, derive
from methods.layers import costs, execution

#: Least and greatest batch size in evaluation, by type of device.
EVALUATION_BATCH = {"cuda": (1024, 1024), "cpu": (16, 256)}
#: Size in bytes of the largest activation in evaluation on a CPU. Activations that exceed the caches take new
#: pages each time: ResNet-18 predicted half as many images per second in batches of 128 as of 32.
EVALUATION_BYTES = 2**23


@dataclass(frozen=True)
class Problem:
    """Everything that training and evaluation of one run work on.

    Parameters
    ----------
    spec
        The run.
    dataset
        Its data set, which prepares inputs.
    splits
        Its data, on the device.
    method
        Its method.
    task
        What the method may know of the data.
    budget
        Training length from which the method makes its stages.
    execution
        How the run is computed.
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
        """Device of data and network."""
        return torch.device(self.execution.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of parameters and inputs."""
        return DTYPES[self.spec.precision]

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which operations use the arithmetic of training (bfloat16 if asked for)."""
        enabled = self.spec.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    @property
    def nominal_images(self) -> int:
        """Number of training examples in one stage of the nominal epochs, as dense VI trains."""
        nominal = nominal_budget(self.spec, self.task)
        epochs, rest = divmod(steps_of(self.spec, nominal, nominal.epochs), nominal.steps_per_epoch)
        return epochs * self.task.examples + rest * self.spec.training.batch_size

    def steps(self, epochs: int) -> int:
        """Return the number of steps of a stage of ``epochs``; fewer if the recipe limits the steps."""
        return steps_of(self.spec, self.budget, epochs)

    def targets(self) -> Targets:
        """Return how labels count in training, by the settings ``class_weights`` and ``label_smoothing``.

        Raises
        ------
        UserError
            If weights are to be balanced and a class has no training example.
        """
        training = self.spec.training
        chosen, classes = training.class_weights, self.task.classes
        if chosen is None:
            return Targets(None, training.label_smoothing)
        if chosen != "balanced":
            weights = torch.tensor(chosen)
        else:
            counts = self.splits.train.labels.bincount(minlength=classes)
            if absent := (counts == 0).nonzero().flatten().tolist():
                raise UserError(
                    f"class_weights: balanced: class {absent[0]} of data set {self.spec.dataset[0]} has no "
                    f"training example; give a list of {classes} weights"
                )
            weights = len(self.splits.train) / (classes * counts.double())
        return Targets(weights.to(self.device, self.dtype), training.label_smoothing)

    def network(self, streams: Streams, salt: str = "") -> nn.Module:
        """Return the freshly initialised plain network that the method builds from; see ``plain_network``."""
        return plain_network(self.spec, self.method, self.task, streams, salt)

    def build(self, streams: Streams, salt: str = "") -> nn.Module:
        """Build the method's module on the device, and trace its FLOPs."""
        return self.build_described(streams, salt)[0]

    def build_described(self, streams: Streams, salt: str = "") -> tuple[nn.Module, dict[str, list[Any]]]:
        """Build the method's module as ``build`` does, and return it with the fingerprint of its network."""
        network = self.network(streams, salt)
        described = fingerprint(network)
        module = build_module(
            self.spec,
            self.method,
            self.task,
            network,
            streams,
            self.device,
            self.execution.channels_last,
        )
        self.choose_execution(module)
        if self.execution.compile:
            compile_plain(module)
        return module, described

    def choose_execution(self, module: nn.Module) -> None:
        """Choose the layers that sparse kernels compute, from the numbers of weights active now."""
        here, lower = self.execution, self.spec.precision == "bfloat16"
        execution.choose(
            module,
            "dense" if lower else here.mode,  # torch computes contractions below float32
            self.task.input_shape,
            self.spec.training.batch_size,
            in_layout=not here.compile,
            why_dense="kernels are for float32, not for bfloat16" if lower else "asked for",
        )

    def training_batches(self, streams: Streams) -> Iterator[Batch]:
        """Yield the minibatches of one epoch in a new random order, augmented."""
        train, size = self.splits.train, self.spec.training.batch_size
        order = torch.randperm(len(train), generator=streams["order"]).to(self.device)
        count, last = minibatches(self.spec, len(train))
        for chosen in order.split([*[size] * (count - 1), last]):
            inputs = self.dataset.prepare(train.inputs[chosen], self.splits, streams["augmentation"])
            yield self._arranged(inputs), train.labels[chosen]

    def evaluation_batch(self, module: nn.Module) -> int:
        """Return the batch size for evaluation, a power of two that suits the device and the network."""
        fewest, most = EVALUATION_BATCH[self.device.type]
        bytes_each = costs.largest_output(module) * self.dtype.itemsize
        return max(fewest, min(most, 1 << max(EVALUATION_BYTES // bytes_each, 1).bit_length() - 1))

    def batches(self, split: Split, size: int) -> Iterator[Batch]:
        """Yield a whole split in its order, in batches of ``size`` examples, not augmented."""
        for inputs, labels in zip(split.inputs.split(size), split.labels.split(size), strict=True):
            yield self._arranged(self.dataset.prepare(inputs, self.splits, None)), labels

    def _arranged(self, inputs: torch.Tensor) -> torch.Tensor:
        channels_last = self.execution.channels_last and inputs.dim() == 4
        return inputs.to(
            self.dtype, memory_format=torch.channels_last if channels_last else torch.preserve_format
        )


def salt_of(stages: Sequence[Stage]) -> str:
    """Return the salt of the network in training after ``stages``: that of the last one that starts fresh."""
    fresh = [stage.name for stage in stages[1:] if stage.start == "fresh"]
    return f"/{fresh[-1]}" if fresh else ""


def make_problem(spec: RunSpec, execution: Execution = Execution()) -> Problem:
    """Load the data of ``spec`` and return its problem.

    Raises
    ------
    UserError
        If the data are not on this machine, or the budget cannot be computed.
    """
    splits = load(spec, execution.device)
    return problem_of(spec, splits, task_of(splits), execution)


def problem_of(spec: RunSpec, splits: Splits, task: Task, execution: Execution = Execution()) -> Problem:
    """Return the problem of ``spec`` on given splits.

    Parameters
    ----------
    spec
        The run.
    splits
        Its data. They may have fewer examples than ``task`` says, as for a preview or a stored model.
    task
        What the method may know of the data.
    execution
        How the run is computed.
    """
    name, options = spec.method
    return Problem(
        spec,
        dataset_of(*spec.dataset),
        splits,
        METHODS.get(name)(options),
        task,
        budget_of(spec, task),
        execution,
    )


def dataset_of(name: str, options: Any) -> Dataset:
    """Return the data set ``name``, without its examples."""
    with seeded(derive(0, "split")):  # the same for all seeds, which share what is known of a data set
        return DATASETS.get(name)(options)


def load(spec: RunSpec, device: str = "cpu") -> Splits:
    """Return the data of ``spec`` on ``device``; raise ``UserError`` if they are not on this machine."""
    return _load(*spec.dataset, spec.seed, spec.protocol, device)


def task_of(splits: Splits) -> Task:
    """Return what a method may know of ``splits``: input shape, classes and training examples."""
    return Task(tuple(splits.train.inputs.shape[1:]), splits.classes, len(splits.train))


@lru_cache(maxsize=2)
def _load(name: str, options: Any, seed: int, protocol: str, device: str) -> Splits:
    """Load data, and keep those of the last two calls, because the runs of a worker mostly share them."""
    start = derive(seed, "split")
    generator = torch.Generator().manual_seed(start)
    with seeded(start):
        splits = dataset_of(name, options).parts(generator, protocol == "refit", seed)
    return splits.to(device)
