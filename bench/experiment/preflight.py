"""What a run is about before anything is trained: its task, its network, the work of a step.

The network is a real one. On torch's meta device it would take no memory, but the first
operation there imports a compiler for seconds, many times what it takes to build ResNet-18.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from bench.data.base import DATASETS
from bench.experiment.budget import budget_of, planned_stages, steps_of
from bench.experiment.cached import once_per
from bench.experiment.problem import load, task_of
from bench.experiment.spec import RunSpec
from bench.networks.base import NETWORKS
from methods.base import METHODS, Budget, Task
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.layers import costs

#: Precisions whose contractions sparse kernels know.
_KERNEL_PRECISIONS = ("float32", "tf32")


@once_per("dataset", "protocol")
def task(spec: RunSpec) -> Task:
    """Input shape, classes and training examples; a data set that can't say is loaded."""
    name, options = spec.dataset
    return DATASETS.get(name)(options).task(refit=spec.protocol == "refit") or task_of(load(spec))


def budget(spec: RunSpec) -> Budget:
    """The training length that the stages of ``spec`` are made from."""
    return budget_of(spec, task(spec))


def steps(spec: RunSpec) -> int:
    """Optimiser steps of all stages of ``spec``."""
    name, options = spec.method
    length = budget(spec)
    return sum(
        steps_of(spec, length, stage.epochs) for stage in planned_stages(METHODS.get(name)(options), length)
    )


def missing_data(specs: Iterable[RunSpec]) -> str | None:
    """Why the data of some of ``specs`` can't be loaded, in one line; None where all can."""
    first: dict[str, RunSpec] = {}
    for spec in specs:
        first.setdefault(spec.key("dataset", "protocol"), spec)
    for spec in first.values():
        try:
            load(spec)
        except UserError as error:
            return str(error)
    return None


@once_per("dataset", "protocol", "network")
def network(spec: RunSpec) -> nn.Module:
    """The plain network of ``spec``. One object a process: to look at, not to change."""
    name, options = spec.network
    return NETWORKS.get(name)(options).initialised(task(spec), Streams(0))


def check(spec: RunSpec) -> None:
    """Raise ``UserError`` where the network or the method does not fit the data or each other.

    One example has gone through the network when it is there (``Network.initialised``).
    A method is asked by its class method ``validate(options, network)``, if it has one.
    """
    name, options = spec.method
    validate = getattr(METHODS.get(name), "validate", None)
    try:
        plain = network(spec)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"network {spec.network[0]}: cannot be built: {reason}") from None
    if validate is not None:
        validate(options, plain)
    _check_rewinding(spec)


def _check_rewinding(spec: RunSpec) -> None:
    """Raise ``UserError`` where ``max_steps`` or ``budget`` leaves out what a later stage rewinds to."""
    name, options = spec.method
    length = budget(spec)
    stages = planned_stages(METHODS.get(name)(options), length)
    reached = steps_of(spec, length, stages[0].epochs)
    for stage in stages:
        if stage.start == "rewind" and stage.rewind_to * length.steps_per_epoch > reached:
            key = "max_steps" if spec.training.max_steps is not None else "budget"
            raise UserError(
                f"{key}: {getattr(spec.training, key)} ends before epoch {stage.rewind_to} does, to which "
                f"stage {stage.name!r} of {name} rewinds"
            )


def training_flops(spec: RunSpec) -> float:
    """FLOPs of one training step of the plain network, an example."""
    return costs.flops(network(spec), "step")


def check_execution(specs: Iterable[RunSpec], mode: str) -> None:
    """Raise ``UserError`` where sparse execution is asked for and a run's precision has no kernels."""
    for spec in specs:
        if mode == "sparse" and spec.precision not in _KERNEL_PRECISIONS:
            valid = ", ".join(_KERNEL_PRECISIONS)
            raise UserError(
                f"--execution sparse: there are no kernels for precision {spec.precision}; valid: {valid}"
            )
