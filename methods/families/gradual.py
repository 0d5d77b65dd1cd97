"""Gradual pruning within one training, on the cubic schedule of Zhu & Gupta 2017 (arXiv 1710.01878)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from methods.base import Budget, Context
from methods.core.errors import UserError
from methods.subspace import pruning

#: Most prunings that ``training_flops`` tells apart. If there are more, some count as done with a later one.
_TOLD_APART = 200


@dataclass(frozen=True)
class Gradual:
    """Prunes a module step by step within a stage; methods call it in their hooks.

    Parameters
    ----------
    allocation
        One of ``allocation.RULES``.
    sparsity
        Sparsity at the end.
    begin, end
        Shares of the steps between which pruning happens. If ``end`` does not come after ``begin``,
        everything is pruned at ``end``.
    every
        Minibatches from one pruning to the next.
    scores
        Scores the weights; the lowest are removed.
    """

    allocation: str
    sparsity: float
    begin: float
    end: float
    every: int
    scores: pruning.Scores

    @staticmethod
    def check_order(begin: float, end: float) -> None:
        """Raise ``UserError`` if the option ``prune_from`` comes after ``prune_until``."""
        if begin > end:
            raise UserError(f"prune_from: {begin} comes after prune_until, {end}")

    def after_step(self, context: Context) -> None:
        """Remove the weights that are due after this step."""
        step, (first, last) = context.progress.step, self._span(context.progress.steps)
        if self._is_due(step, first, last):
            self._prune(context, pruning.cubic(step, first, last, self.sparsity))

    def leave_stage(self, context: Context) -> None:
        """Remove the rest, because a training that is cut short may not have reached the last pruning."""
        self._prune(context, self.sparsity)

    def training_flops(self, module: nn.Module, budget: Budget, dense: float) -> float:
        """Return the FLOPs of a training of one stage, for one example.

        They equal what is counted in training, or are a little more if there are many prunings. Under the
        allocation ``global`` they are the largest possible value.

        Parameters
        ----------
        module
            Dense module.
        budget
            Length of training.
        dense
            FLOPs of a training step of the dense module for one example.
        """
        steps = budget.epochs * budget.steps_per_epoch
        first, last = self._span(steps)
        every = range(first, last, self.every)
        due = [*every[:: math.ceil(len(every) / _TOLD_APART)], last]
        total, begun, cost, room = 0.0, 0, dense, pruning.Room.of(module)
        for step in due:
            total += cost * budget.in_epochs(range(begun + 1, step + 1))
            keep = self._quota(room, pruning.cubic(step, first, last, self.sparsity))
            begun, cost = step, room.step_flops(dense, keep)
        return total + cost * budget.in_epochs(range(begun + 1, steps + 1))

    def _span(self, steps: int) -> tuple[int, int]:
        """Return the first and the last of ``steps`` steps at which weights are pruned."""
        last = max(math.floor(self.end * steps), 1)
        return min(math.floor(self.begin * steps), last - 1), last

    def _is_due(self, step: int, first: int, last: int) -> bool:
        return step == last or (first <= step < last and (step - first) % self.every == 0)

    def _prune(self, context: Context, sparsity: float) -> None:
        keep = self._quota(pruning.Room.of(context.module), sparsity)
        pruning.prune_in_training(context, keep, self.scores)

    def _quota(self, room: pruning.Room, sparsity: float) -> pruning.Quota:
        return room.quota(self.allocation, sparsity, self.sparsity)
