"""Base of methods that train dense VI and prune it to a requested sparsity (``magnitude_vi``, ``snr_vi``).

There are two schedules: at once, followed by fine-tuning with a restarted learning rate (Renda et al.
2020), or the cubic schedule of Zhu & Gupta 2017 within one training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from methods.base import Budget, Context, Stage
from methods.core.options import option
from methods.families.finetuning import FINETUNE, with_finetuning
from methods.families.gradual import Gradual
from methods.families.variational import SparseOptions, SparseVariationalMethod
from methods.subspace import pruning


@dataclass(frozen=True)
class PrunedOptions(SparseOptions):
    """Options for when weights are pruned. Under the allocation ``global`` all layers are ranked together."""

    pruning: str = option(
        "cubic",
        "cubic: step by step between prune_from and prune_until (Zhu & Gupta 2017); one_shot: all at "
        "prune_until, followed by fine-tuning with a restarted learning rate",
        choices=("cubic", "one_shot"),
    )
    prune_from: float = option(0.2, "share of the steps at which cubic pruning begins", within="[0, 1]")
    prune_until: float = option(
        0.75, "share of the steps (one_shot: epochs) after which pruning is done", within="[0, 1]"
    )
    prune_every: int = option(20, "minibatches from one cubic pruning to the next", within="[1, inf)")


class PrunedVI(SparseVariationalMethod):
    """Base of methods that train dense VI, prune by ``criterion`` and train on."""

    Options = PrunedOptions
    criterion: ClassVar[str]
    why_dense = "pruned in training"

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``options`` fit ``network`` and each other.

        Raises
        ------
        UserError
            If they do not.
        """
        super().validate(options, network)
        if options.pruning == "cubic":
            Gradual.check_order(options.prune_from, options.prune_until)

    def active_counts(self, network: nn.Module, generator: torch.Generator) -> Mapping[str, int]:
        return {}  # it starts dense

    def stages(self, budget: Budget) -> list[Stage]:
        if self.options.pruning == "cubic" or self.options.sparsity == 0:
            return [Stage("train", budget.epochs)]
        return with_finetuning(budget, 1 - self.options.prune_until, "pruning one_shot")

    def enter_stage(self, context: Context, stage: Stage) -> None:
        if stage.name == FINETUNE:
            scores = pruning.by_criterion(self.criterion)
            pruning.prune_in_training(context, self._quota(pruning.Room.of(context.module)), scores)

    def after_step(self, context: Context) -> None:
        if self.options.pruning == "cubic":
            self._gradual.after_step(context)

    def leave_stage(self, context: Context, stage: Stage) -> None:
        if self.options.pruning == "cubic":
            self._gradual.leave_stage(context)

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        """As counted in training; under the allocation ``global`` the largest possible value."""
        if self.options.sparsity == 0:
            return super().training_flops(module, budget)
        dense, stages = self.flops(module, "step"), self.stages(budget)
        if len(stages) == 1:
            return self._gradual.training_flops(module, budget, dense)
        room = pruning.Room.of(module)
        pruned = room.step_flops(dense, self._quota(room))
        return stages[0].epochs * dense + stages[1].epochs * pruned

    @property
    def _gradual(self) -> Gradual:
        chosen = self.options
        when = chosen.prune_from, chosen.prune_until, chosen.prune_every
        return Gradual(chosen.allocation, chosen.sparsity, *when, pruning.by_criterion(self.criterion))

    def _quota(self, room: pruning.Room) -> pruning.Quota:
        return room.quota(self.options.allocation, self.options.sparsity, self.options.sparsity)
