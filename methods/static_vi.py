"""Variational inference on a subspace that never moves."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from methods.base import Budget, Context
from methods.core.style import Style
from methods.families.first_subspace import FirstSubspace, FirstSubspaceOptions
from methods.families.variational import SparseOptions, SparseVariationalMethod


@dataclass(frozen=True)
class StaticVIOptions(FirstSubspaceOptions, SparseOptions):
    """Options of ``static_vi``."""


class StaticVI(FirstSubspace, SparseVariationalMethod):
    """Mean-field VI on a fixed subspace, by default random: the control for whether moving it matters."""

    name = "static_vi"
    style = Style("Static VI", hue="#753C00", hue_dark="#E70E1A", marker="diamond", dash="dot", order=20)
    Options = StaticVIOptions

    def before_step(self, context: Context) -> None:
        self.choose_at_start(context)

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        return super().training_flops(module, budget) + self.flops_at_start(module, budget)
