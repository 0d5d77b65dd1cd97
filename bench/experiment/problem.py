"""A run specification made concrete: data on the device, the network, the method object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.experiment.budget import is_sparse, most_epochs, nominal_budget, steps_of
from bench.experiment.compilation import compile_plain
from bench.experiment.execution import Execution
from bench.experiment.spec import RunSpec
from bench.networks.base import NETWORKS
from methods.base import METHODS, Batch, Budget, Method, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import Streams, derive
from methods.layers import costs, execution

#: Examples at once in evaluation on a GPU, and at least and at most on a CPU.
EVALUATION_BATCH = {"cuda": (1024, 1024), "cpu": (16, 256)}
#: Bytes of the largest activation in evaluation on a CPU. What lies beyond its caches comes as new pages
#: each time: ResNet-18 predicted half as many images a second by 128 as by 32.
EVALUATION_BYTES = 2**23
#: Of parameters and inputs; under tf32 and bfloat16 contractions alone are in less.
DTYPES = {
    "float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64,
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What training and evaluation of one run work on."""

    spec: RunSpec
    dataset: Dataset
    splits: Splits
    method: Method
    task: Task
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
    def budget(self) -> Budget:
        """The training length that stages are made from."""
        return budget_of(self.spec, self.task)

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
        name, options = self.spec.network
        plain = NETWORKS.get(name)(options)
        salts = [salt, *(f"{salt}/member {number}" for number in range(2, self.method.members() + 1))]
        networks = [plain.initialised(self.task, streams, each).to(self.dtype) for each in salts]
        return networks[0] if len(networks) == 1 else nn.ModuleList(networks)

    def build(self, streams: Streams, salt: str = "") -> nn.Module:
        """The method's module on the device, with its FLOPs traced."""
        module = self.method.build(self.network(streams, salt), streams, self.task).to(self.device)
        if self.execution.channels_last:
            module.to(memory_format=torch.channels_last)
        mean = self.method.mean(module)
        predictors = [mean] if mean else self.method.draws(module, 1, streams.fresh("evaluation"))
        try:
            costs.trace(module, self.task.input_shape, predictors)
        except AttributeError as error:
            exchanged = {type(part).__name__ for part in passes.modules(module)}
            if not any(f"{name!r} object" in str(error) for name in exchanged):
                raise
            reason = f"reads an attribute of a layer that the method has exchanged ({error})"
            raise UserError(f"network {self.spec.network[0]}: {reason}") from None
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


_most_epochs: dict[str, int] = {}
_dense_vi_flops: dict[str, float] = {}


def budget_of(spec: RunSpec, task: Task) -> Budget:
    """The training length that stages are made from: the nominal epochs, or those that the recipe allows.

    Under ``budget: flops`` a sparse method's module is built once a process, to be counted. The epochs are
    those of every seed: where a seed decides how many weights a layer has, they are what seed 0 gives.
    Raises ``UserError`` where the module can't be built.
    """
    nominal = nominal_budget(spec, task)
    if spec.training.budget == "epochs":
        return nominal
    key = repr((spec.network, spec.method, task, nominal))
    if key not in _most_epochs:
        method, module = _to_count(spec, task)
        sparse = is_sparse(method, module)
        allowed = _flops_of_dense_vi(spec, task, nominal) if sparse else 0.0
        _most_epochs[key] = most_epochs(method, module, nominal, allowed) if sparse else nominal.epochs
    return replace(nominal, epochs=_most_epochs[key])


def _flops_of_dense_vi(spec: RunSpec, task: Task, nominal: Budget) -> float:
    """An example, in the whole training."""
    key = repr((spec.network, task, nominal))
    if key not in _dense_vi_flops:
        dense = "dense_vi", METHODS.get("dense_vi").Options()
        method, module = _to_count(replace(spec, method=dense), task)
        _dense_vi_flops[key] = method.training_flops(module, nominal)
    return _dense_vi_flops[key]


def _to_count(spec: RunSpec, task: Task) -> tuple[Method, nn.Module]:
    """A method and its module, of no seed; no stream of a run is touched."""
    nothing = Split(torch.empty(0), torch.empty(0, dtype=torch.long))
    splits = Splits(nothing, None, nothing, task.classes)
    problem = problem_of(spec, splits, task, Execution(mode="dense"))
    try:
        with torch.random.fork_rng(devices=[]):
            return problem.method, problem.build(Streams(0))
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        names = f"method {spec.method[0]}, network {spec.network[0]}"
        raise UserError(f"budget: flops: {names}: cannot be built to be counted: {reason}") from None


def set_arithmetic(spec: RunSpec) -> None:
    """On GPUs: float32 in full unless ``tf32`` is asked for, and kernels that repeat their bits."""
    mode = "tf32" if spec.precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True


def make_problem(spec: RunSpec, execution: Execution = Execution()) -> Problem:
    """Load the data of ``spec`` and construct its method."""
    splits = _load(*spec.dataset, spec.seed, spec.protocol, execution.device)
    task = Task(tuple(splits.train.inputs.shape[1:]), splits.classes, len(splits.train))
    return problem_of(spec, splits, task, execution)


def problem_of(spec: RunSpec, splits: Splits, task: Task, execution: Execution = Execution()) -> Problem:
    """The problem of ``spec`` on ``splits``, which may have lost the examples that ``task`` counts."""
    (dataset, dataset_options), (method, method_options) = spec.dataset, spec.method
    return Problem(
        spec,
        DATASETS.get(dataset)(dataset_options),
        splits,
        METHODS.get(method)(method_options),
        task,
        execution,
    )


@lru_cache(maxsize=2)
def _load(name: str, options: Any, seed: int, protocol: str, device: str) -> Splits:
    """A worker's runs mostly share data: keep the last ones."""
    generator = torch.Generator().manual_seed(derive(seed, "split"))
    splits = DATASETS.get(name)(options).parts(generator, refit=protocol == "refit")
    return splits.to(device)
