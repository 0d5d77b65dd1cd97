"""How long a method may train: as many epochs as said, or as many as fit the training FLOPs of dense VI."""

from __future__ import annotations

import bisect
from dataclasses import replace

from torch import nn

from bench.experiment.spec import RunSpec
from methods.base import Budget, Method, Stage, Task
from methods.core.errors import UserError

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
