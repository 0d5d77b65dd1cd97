"""Lottery tickets for Bayesian networks: train, prune, rewind, repeat (cf. arXiv 2602.18825).

Iterative magnitude pruning with rewinding is due to Frankle & Carbin 2019 and Frankle et al. 2020. Here
means and scales are rewound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from methods.base import Budget, Stage
from methods.core.errors import UserError
from methods.core.options import option
from methods.core.style import Style
from methods.criteria.base import CRITERIA
from methods.families.variational import SparseOptions, SparseVariationalMethod
from methods.subspace import pruning


@dataclass(frozen=True)
class LotteryTicketOptions(SparseOptions):
    """Options for how the ticket is found. Usual is the allocation ``global``: all layers rank together."""

    criterion: str = option("abs_mean", "weights of lowest score are pruned after a level", choices=CRITERIA)
    level_share: float = option(0.2, "share of the remaining weights that a level removes", within="(0, 1)")
    rewind_to: int = option(
        0, "epoch of the first training to whose means and scales weights are rewound; 0: the initial ones",
        within="[0, inf)",
    )  # fmt: skip
    level_length: float = option(
        1.0, "epochs of each level, as a share of the budget; 1: each level has the whole", within="(0, 1]"
    )


class LotteryTicket(SparseVariationalMethod):
    """Lottery-ticket BNN: dense VI, pruned level by level; survivors are rewound and trained again each time.

    References
    ----------
    Frankle & Carbin 2019; Frankle et al. 2020; for Bayesian networks cf. arXiv 2602.18825.
    """

    name = "lottery_ticket"
    style = Style(
        "Lottery ticket", hue="#FC3800", hue_dark="#D8A858", marker="hexagon", dash="longdashdot", order=40
    )
    Options = LotteryTicketOptions
    why_dense = "pruned level by level"

    def active_counts(self, network: nn.Module, generator: torch.Generator) -> Mapping[str, int]:
        return {}  # it starts dense

    @property
    def sparsities(self) -> list[float]:
        """Sparsity of each level, from 0 to the requested one."""
        left, wanted = 1 - self.options.level_share, self.options.sparsity
        levels = math.ceil(math.log1p(-wanted) / math.log(left) - 1e-9) if wanted else 0
        return [1 - left**level for level in range(levels)] + [wanted]

    def stages(self, budget: Budget) -> list[Stage]:
        epochs = max(round(self.options.level_length * budget.epochs), 1)
        if self.options.rewind_to > epochs:
            raise UserError(f"rewind_to: {self.options.rewind_to} comes after the {epochs} epochs of a level")
        later = [
            Stage(f"level {level}", epochs, start="rewind", rewind_to=self.options.rewind_to)
            for level in range(1, len(self.sparsities))
        ]
        return [Stage("train", epochs), *later]

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        """As counted in training; under the allocation ``global`` the largest possible value."""
        dense, room = self.flops(module, "step"), pruning.Room.of(module)
        steps = (
            room.step_flops(dense, self._quota(room, sparsity)) if sparsity else dense
            for sparsity in self.sparsities
        )
        return sum(stage.epochs * step for stage, step in zip(self.stages(budget), steps, strict=True))

    def rewind(self, module: nn.Module, snapshot: dict[str, torch.Tensor], stage: Stage) -> None:
        """Prune by what the previous level has learnt, then return the survivors to ``snapshot``."""
        sparsity = self.sparsities[int(stage.name.removeprefix("level "))]
        keep = self._quota(pruning.Room.of(module), sparsity)
        pruning.prune(module, keep, pruning.by_criterion(self.options.criterion), None)
        module.load_state_dict(pruning.survivors(module, snapshot))

    def _quota(self, room: pruning.Room, sparsity: float) -> pruning.Quota:
        return room.quota(self.options.allocation, sparsity, self.options.sparsity)
