"""Compute how long a method trains: the nominal epochs, or as many as the FLOPs of dense VI allow."""

from __future__ import annotations

import bisect
from dataclasses import replace

from torch import nn

from bench.experiment.building import build_module, plain_network
from bench.experiment.cached import once_per
from bench.experiment.spec import RunSpec
from methods.base import METHODS, Budget, Method, Stage, Task
from methods.core import global_generators
from methods.core.errors import UserError
from methods.core.streams import Streams

#: Relative tolerance of FLOPs: equal FLOPs summed in another order differ by rounding, which costs no epoch.
_ROUNDING = 1e-9


def nominal_budget(spec: RunSpec, task: Task) -> Budget:
    """Return the budget of the recipe's epochs, as for dense VI; a smaller last batch counts as a step."""
    steps, last = minibatches(spec, task.examples)
    size = spec.training.batch_size
    return Budget(spec.training.epochs, steps, last / size, size)


def minibatches(spec: RunSpec, examples: int) -> tuple[int, int]:
    """Return the number of minibatches in an epoch and the size of the last one.

    Parameters
    ----------
    spec
        The run. Under its setting ``last_batch: merge``, one example that would be left for a minibatch of
        its own joins the one before; without one before, it stays.
    examples
        Number of training examples.
    """
    size = spec.training.batch_size
    whole, rest = divmod(examples, size)
    if rest == 0:
        return whole, size
    if rest == 1 and whole and spec.training.last_batch == "merge":
        return whole, size + 1
    return whole + 1, rest


def steps_of(spec: RunSpec, budget: Budget, epochs: int) -> int:
    """Return the number of steps of one stage.

    Parameters
    ----------
    spec
        The run. Its setting ``max_steps`` limits the whole budget; the stage gets its share of it.
    budget
        The whole training length.
    epochs
        Epochs of the stage.
    """
    whole, limit = epochs * budget.steps_per_epoch, spec.training.max_steps
    return whole if limit is None else min(whole, max(1, round(limit * epochs / budget.epochs)))


def planned_stages(method: Method, budget: Budget) -> list[Stage]:
    """Return the stages of ``method`` under ``budget``, checked.

    Raises
    ------
    UserError
        If there is no stage, two have the same name, or a name, ``epochs`` or ``start`` is not valid.
    """
    stages = list(method.stages(budget))
    place = f"method {method.name}: stages"
    if not stages:
        raise UserError(f"{place}: there is none; a method has at least one")
    names = [stage.name for stage in stages]
    for number, stage in enumerate(stages):
        if not stage.name or stage.name in names[:number]:
            raise UserError(
                f"{place}: the name {stage.name!r} is empty or used twice; tables tell stages apart by it"
            )
        if type(stage.epochs) is not int or stage.epochs < 1:
            raise UserError(f"{place}: {stage.name!r} has {stage.epochs!r} epochs; valid: 1, 2, …")
        if stage.start not in ("fresh", "keep", "rewind"):
            raise UserError(f"{place}: {stage.name!r} starts {stage.start!r}; valid: fresh, keep, rewind")
    return stages


def budget_of(spec: RunSpec, task: Task) -> Budget:
    """Return the training length from which the method makes its stages.

    It is the nominal budget, or under ``budget: flops`` the most epochs that cost no more training FLOPs than
    dense VI. For that, the module of a sparse method is built once per process to count its FLOPs. All seeds
    get the same epochs: if layers have other numbers of weights under another seed, those of seed 0 count.

    Raises
    ------
    UserError
        If the module cannot be built.
    """
    nominal = nominal_budget(spec, task)
    if spec.training.budget == "epochs":
        return nominal
    return replace(nominal, epochs=allowed_epochs(spec, task, nominal, spec.training.budget_cap))


@once_per("network", "method", "precision")
def allowed_epochs(spec: RunSpec, task: Task, nominal: Budget, cap: int) -> int:
    """Return the epochs under ``budget: flops``; those of ``nominal`` if the method is not sparse."""
    method, module = _to_count(spec, task)
    if not is_sparse(method, module):
        return nominal.epochs
    return most_epochs(method, module, nominal, _flops_of_dense_vi(spec, task, nominal), cap)


@once_per("network", "precision")
def _flops_of_dense_vi(spec: RunSpec, task: Task, nominal: Budget) -> float:
    """Return the FLOPs of the whole training of dense VI for one example."""
    dense = "dense_vi", METHODS.get("dense_vi").Options()
    method, module = _to_count(replace(spec, method=dense), task)
    return method.training_flops(module, nominal)


def _to_count(spec: RunSpec, task: Task) -> tuple[Method, nn.Module]:
    """Build a method and its module to count FLOPs, with seed 0 and without drawing from a run's streams."""
    name, options = spec.method
    method, streams = METHODS.get(name)(options), Streams(0)
    try:
        with global_generators.restored():
            streams.take_global()
            network = plain_network(spec, method, task, streams)
            return method, build_module(spec, method, task, network, streams)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        names = f"method {name}, network {spec.network[0]}"
        raise UserError(f"budget: flops: {names}: cannot be built to count FLOPs: {reason}") from None


def is_sparse(method: Method, module: nn.Module) -> bool:
    """Tell whether a method has an option ``sparsity`` above 0, or its module inactive weights as built."""
    return (getattr(method.options, "sparsity", None) or 0) > 0 or method.counts(module).density < 1


def most_epochs(method: Method, module: nn.Module, nominal: Budget, allowed: float, cap: int) -> int:
    """Return the most epochs whose training costs at most ``allowed`` FLOPs.

    Parameters
    ----------
    method
        The method.
    module
        Its module as built.
    nominal
        The nominal budget.
    allowed
        FLOPs of a whole training for one example, as ``Method.training_flops`` returns them.
    cap
        Most epochs, as a multiple of the nominal epochs.

    Returns
    -------
    int
        From 1 to ``cap`` times the nominal epochs.
    """

    def exceeds(epochs: int) -> bool:
        try:
            cost = method.training_flops(module, replace(nominal, epochs=epochs))
        except UserError:  # too few epochs for the stages, an error that the stages report if it matters
            return False
        return cost > allowed * (1 + _ROUNDING)

    return 1 + bisect.bisect(range(2, cap * nominal.epochs + 1), False, key=exceeds)
