"""Deterministic magnitude pruning: dense training that removes the smallest weights (Zhu & Gupta 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from methods import Budget, Context, Equivalent, Method, Stage, Streams, Style, Task, option
from methods.families.gradual import Gradual
from methods.families.sparse import SparsityOptions, slot_counts
from methods.layers.convert import to_variational
from methods.layers.posterior import DensePoint
from methods.subspace import pruning


@dataclass(frozen=True)
class PruningOptions(SparsityOptions):
    """When weights are removed; how many of which layers is set by the options of all sparse methods."""

    begin: float = option(0.2, "share of the steps after which pruning begins", within="[0, 1]")
    end: float = option(0.75, "share after which it ends; up to begin: all at once", within="[0, 1]")
    every: int = option(20, "minibatches between two prunings", within="[1, inf)")


class MagnitudePruning(Method):
    """Deterministic dense training in which the smallest weights are removed step by step."""

    name = "magnitude_pruning"
    style = Style("Magnitude pruning", hue="#8A6D00", hue_dark="#E3C94B", marker="hexagon", order=65)
    Options = PruningOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        return None if options.sparsity else Equivalent("deterministic", {}, "sparsity 0 is no pruning")

    @classmethod
    def validate(cls, options: Any, network: torch.nn.Module) -> None:
        slot_counts(options, network, torch.Generator())  # raises an error if a layer keeps no weight

    def build(self, network: torch.nn.Module, streams: Streams, task: Task) -> torch.nn.Module:
        return to_variational(network, lambda _, w: DensePoint(w.shape, w), 0.0, self.options.keep_dense)

    @property
    def schedule(self) -> Gradual:
        o = self.options
        return Gradual(o.allocation, o.sparsity, o.begin, o.end, o.every, pruning.by_magnitude)

    def after_step(self, context: Context) -> None:
        self.schedule.after_step(context)

    def leave_stage(self, context: Context, stage: Stage) -> None:
        self.schedule.leave_stage(context)

    def training_flops(self, module: torch.nn.Module, budget: Budget) -> float:
        return self.schedule.training_flops(module, budget, self.flops(module, "step"))
