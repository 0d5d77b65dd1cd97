"""Look at a run before it is trained: its task, network, steps and FLOPs, and whether its parts fit together.

The network is built on the CPU. On torch's meta device it would take no memory, but the first operation there
imports a compiler for seconds, many times longer than building ResNet-18 takes.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from bench.data import validation
from bench.experiment import beside
from bench.experiment.budget import budget_of, minibatches, planned_stages, steps_of
from bench.experiment.building import initialised
from bench.experiment.cached import once_per
from bench.experiment.problem import dataset_of, load, task_of
from bench.experiment.spec import RunSpec
from bench.networks.base import NETWORKS
from methods.base import METHODS, Budget, Task
from methods.core.errors import UserError
from methods.core.global_generators import seeded
from methods.core.streams import Streams, derive
from methods.layers import costs

#: Precisions for which there are sparse kernels.
_KERNEL_PRECISIONS = ("float32", "tf32")

#: From where ``last_batch: merge`` is, if ``with_last_batch`` set it.
LAST_BATCH_ORIGIN = {
    "training.last_batch": "its data and network: a last minibatch of one cannot be trained on"
}


@once_per("dataset", "protocol")
def task(spec: RunSpec) -> Task:
    """Return input shape, classes and training examples; load the data set if it cannot tell them."""
    with seeded(derive(0, "split")):
        known = dataset_of(*spec.dataset).task(refit=spec.protocol == "refit")
    return known or task_of(load(spec))


def budget(spec: RunSpec) -> Budget:
    """Return the training length from which the stages of ``spec`` are made; see ``budget_of``."""
    return budget_of(spec, task(spec))


def steps(spec: RunSpec) -> int:
    """Return the number of optimiser steps of all stages of ``spec``."""
    name, options = spec.method
    length = budget(spec)
    return sum(
        steps_of(spec, length, stage.epochs) for stage in planned_stages(METHODS.get(name)(options), length)
    )


def missing_data(specs: Iterable[RunSpec]) -> str | None:
    """Return in one line why the data of a run can't be loaded; None if all data can."""
    first: dict[str, RunSpec] = {}
    for spec in specs:
        first.setdefault(spec.key("dataset", "protocol"), spec)
    for spec in first.values():
        try:
            load(spec)
        except UserError as error:
            return str(error)
    return None


def tell_of_data(specs: Iterable[RunSpec]) -> None:
    """Print a line to stderr for each thing that is suspicious in the data of runs, which can be loaded.

    Parameters
    ----------
    specs
        The runs. Of each data set the split of the first run is looked at.
    """
    first: dict[str, RunSpec] = {}
    for spec in specs:
        first.setdefault(spec.key("dataset"), spec)
    for spec in first.values():
        for line in validation.warnings(spec.dataset[0], load(spec)):
            print(f"warning: {line}", file=sys.stderr)


@once_per("dataset", "protocol", "network")
def network(spec: RunSpec) -> nn.Module:
    """Return the plain network of ``spec``. Callers share the object, so they must not change it."""
    return initialised(spec, task(spec), Streams(0))


def with_last_batch(spec: RunSpec, chosen: Container[str]) -> RunSpec:
    """Return ``spec`` with ``last_batch: merge`` if the setting was not chosen and it can't train otherwise.

    Parameters
    ----------
    spec
        The run.
    chosen
        Full keys of the settings that somebody chose.
    """
    if "training.last_batch" in chosen:
        return spec
    merged = replace(spec, training=replace(spec.training, last_batch="merge"))
    try:
        return merged if _untrainable(spec) and not _untrainable(merged) else spec
    except Exception:  # data, network or method are at fault, which `check` and what follows it report
        return spec


def _untrainable(spec: RunSpec) -> bool:
    """Tell whether a run meets a minibatch of one example that its network can't be trained on."""
    count, last = minibatches(spec, task(spec).examples)
    single = last == 1 and (count == 1 or spec.training.batch_size == 1 or _whole_epochs(spec))
    return single and not _trains_on_one(spec)


def _whole_epochs(spec: RunSpec) -> bool:
    """Tell whether some stage has a whole epoch, which ``max_steps`` may prevent."""
    name, options = spec.method
    length = budget(spec)
    stages = planned_stages(METHODS.get(name)(options), length)
    return any(steps_of(spec, length, stage.epochs) >= length.steps_per_epoch for stage in stages)


@once_per("dataset", "protocol", "network")
def _trains_on_one(spec: RunSpec) -> bool:
    """Tell whether the network in training gives one row of outputs for one example, if it gives two for two.

    Batch normalisation does not where it has one value of each channel.
    """
    shape, module = task(spec), deepcopy(network(spec)).train()
    with torch.no_grad(), seeded(0):
        if not _passes(module, torch.zeros(2, *shape.input_shape)):
            return True  # the network fails for another reason
        return _passes(module, torch.zeros(1, *shape.input_shape))


def _passes(module: nn.Module, inputs: torch.Tensor) -> bool:
    try:
        outputs = module(inputs)
    except (RuntimeError, ValueError):
        return False
    return isinstance(outputs, torch.Tensor) and outputs.dim() > 0 and len(outputs) == len(inputs)


def _check_class_weights(spec: RunSpec) -> None:
    """Raise ``UserError`` if there is not one class weight for each class."""
    weights, classes = spec.training.class_weights, task(spec).classes
    if isinstance(weights, tuple) and len(weights) != classes:
        raise UserError(
            f"class_weights: {len(weights)} weights, but data set {spec.dataset[0]} has {classes} classes"
        )


def _check_single(spec: RunSpec) -> None:
    """Raise ``UserError`` if a run meets a minibatch of one example that its network can't be trained on."""
    if not _untrainable(spec):
        return
    size, examples = spec.training.batch_size, task(spec).examples
    remedy = "set last_batch: merge, or another batch_size"
    if size == 1:
        remedy = "set batch_size to 2 or more"
    elif examples == 1:
        remedy = "train on more examples"
    raise UserError(
        f"batch_size: {size} leaves a minibatch of one of {examples} training examples, on which network "
        f"{spec.network[0]} can't be trained (batch normalisation needs two); {remedy}"
    )


def check(spec: RunSpec) -> None:
    """Check that network, method and data of a run fit together.

    Building the network passes an example through it (``Network.initialised``), and so does a copy in
    training (``Network.require_logits``). A method checks its options
    by its class method ``validate(options, network)``, if it has one.

    Raises
    ------
    UserError
        If the network cannot be built for the data or trained on a minibatch of one that the run has, the
        method rejects its options or the network, a stage rewinds to an epoch that is not reached, or there
        is no evaluation set of a name.
    """
    name, options = spec.method
    validate = getattr(METHODS.get(name), "validate", None)
    try:
        plain = network(spec)
        _require_logits(spec)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"network {spec.network[0]}: cannot be built: {reason}") from None
    if validate is not None:
        validate(options, plain)
    _check_single(spec)
    _check_class_weights(spec)
    _check_rewinding(spec)
    beside.check(spec, task(spec))


@once_per("dataset", "protocol", "network")
def _require_logits(spec: RunSpec) -> None:
    name, options = spec.network
    NETWORKS.get(name)(options).require_logits(network(spec), task(spec))


def _check_rewinding(spec: RunSpec) -> None:
    """Raise ``UserError`` if a stage rewinds to an epoch that ``max_steps`` or ``budget`` cuts off."""
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


@once_per("dataset", "protocol", "network")
def training_flops(spec: RunSpec) -> float:
    """Return the FLOPs of one training step of the plain network for one example."""
    return costs.flops(network(spec), "step")


def check_execution(specs: Iterable[RunSpec], mode: str) -> None:
    """Raise ``UserError`` if ``mode`` is ``sparse`` and there are no kernels for the precision of a run."""
    for spec in specs:
        if mode == "sparse" and spec.precision not in _KERNEL_PRECISIONS:
            valid = ", ".join(_KERNEL_PRECISIONS)
            raise UserError(
                f"--execution sparse: there are no kernels for precision {spec.precision}; valid: {valid}"
            )
