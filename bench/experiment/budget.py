"""How long a method may train: as many epochs as said, or as many as fit the training FLOPs of dense VI."""

from __future__ import annotations

import bisect
from dataclasses import replace

import torch
from torch import nn

from bench.experiment.building import build_module, plain_network
from bench.experiment.cached import once_per
from bench.experiment.spec import RunSpec
from methods.base import METHODS, Budget, Method, Stage, Task
from methods.core.errors import UserError
from methods.core.streams import Streams

#: No method trains more than so many times the nominal epochs.
CAP = 10
#: Sums of the same FLOPs in another order differ by their rounding: it costs no epoch.
_ROUNDING = 1e-9


def nominal_budget(spec: RunSpec, task: Task) -> Budget:
    """The epochs that the recipe says, those of dense VI; a last smaller batch is a step."""
    size = spec.training.batch_size
    whole, rest = divmod(task.examples, size)
    steps, last = (whole + 1, rest / size) if rest else (whole, 1.0)
    return Budget(spec.training.epochs, steps, last)


def steps_of(spec: RunSpec, budget: Budget, epochs: int) -> int:
    """Steps of a stage of ``epochs``: all, or its part of ``max_steps``, which are of all ``budget``."""
    whole, limit = epochs * budget.steps_per_epoch, spec.training.max_steps
    return whole if limit is None else min(whole, max(1, round(limit * epochs / budget.epochs)))


def planned_stages(method: Method, budget: Budget) -> list[Stage]:
    """The stages of ``method``; ``UserError`` where they are none that can be trained and told apart."""
    stages = list(method.stages(budget))
    place = f"method {method.name}: stages"
    if not stages:
        raise UserError(f"{place}: there is none; at least one is trained")
    names = [stage.name for stage in stages]
    for number, stage in enumerate(stages):
        if not stage.name or stage.name in names[:number]:
            raise UserError(
                f"{place}: the name {stage.name!r} is given twice, or empty; each has its own rows"
            )
        if type(stage.epochs) is not int or stage.epochs < 1:
            raise UserError(f"{place}: {stage.name!r} has {stage.epochs!r} epochs; valid: 1, 2, …")
        if stage.start not in ("fresh", "keep", "rewind"):
            raise UserError(f"{place}: {stage.name!r} starts {stage.start!r}; valid: fresh, keep, rewind")
    return stages


def budget_of(spec: RunSpec, task: Task) -> Budget:
    """The training length that stages are made from: the nominal epochs, or those that the recipe allows.

    Under ``budget: flops`` a sparse method's module is built once a process, to be counted. The epochs are
    those of every seed: where a seed decides how many weights a layer has, they are what seed 0 gives.
    Raises ``UserError`` where the module can't be built.
    """
    nominal = nominal_budget(spec, task)
    if spec.training.budget == "epochs":
        return nominal
    return replace(nominal, epochs=allowed_epochs(spec, task, nominal))


@once_per("network", "method", "precision")
def allowed_epochs(spec: RunSpec, task: Task, nominal: Budget) -> int:
    """The epochs of ``budget: flops``; those of ``nominal`` where the method is not sparse."""
    method, module = _to_count(spec, task)
    if not is_sparse(method, module):
        return nominal.epochs
    return most_epochs(method, module, nominal, _flops_of_dense_vi(spec, task, nominal))


@once_per("network", "precision")
def _flops_of_dense_vi(spec: RunSpec, task: Task, nominal: Budget) -> float:
    """An example, in the whole training."""
    dense = "dense_vi", METHODS.get("dense_vi").Options()
    method, module = _to_count(replace(spec, method=dense), task)
    return method.training_flops(module, nominal)


def _to_count(spec: RunSpec, task: Task) -> tuple[Method, nn.Module]:
    """A method and its module, of no seed; no stream of a run is touched."""
    name, options = spec.method
    method, streams = METHODS.get(name)(options), Streams(0)
    try:
        with torch.random.fork_rng(devices=[]):
            network = plain_network(spec, method, task, streams)
            return method, build_module(spec, method, task, network, streams)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        names = f"method {name}, network {spec.network[0]}"
        raise UserError(f"budget: flops: {names}: cannot be built to be counted: {reason}") from None


def is_sparse(method: Method, module: nn.Module) -> bool:
    """Whether the method was asked for a sparsity, or begins with inactive weights (``module``: as built)."""
    return getattr(method.options, "sparsity", 0) > 0 or method.counts(module).density < 1


def most_epochs(method: Method, module: nn.Module, nominal: Budget, allowed: float) -> int:
    """The most epochs, at least 1 and at most ``CAP`` times the nominal, that cost no more than ``allowed``.

    allowed: FLOPs of a training, an example, as ``Method.training_flops`` has them.
    """

    def exceeds(epochs: int) -> bool:
        try:
            cost = method.training_flops(module, replace(nominal, epochs=epochs))
        except UserError:  # too few for its stages, which will say so if it comes to that
            return False
        return cost > allowed * (1 + _ROUNDING)

    return 1 + bisect.bisect(range(2, CAP * nominal.epochs + 1), False, key=exceeds)
