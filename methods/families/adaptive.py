"""Base of methods that learn which weights to remove (``sparse_vd``, ``lbbnn``).

A rule decides which weights to remove, and the resulting density is measured; or a sparsity is requested,
and the weights that the rule rates lowest go. The methods differ in the posterior, its KL divergence and the
rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.base import Budget, Context, Progress, Stage
from methods.core.errors import UserError
from methods.core.options import option
from methods.families.finetuning import with_finetuning
from methods.families.sparse import KeepDense
from methods.families.variational import VariationalMethod
from methods.layers import convert
from methods.layers.posterior import Gaussian, Slots
from methods.subspace import allocation, pruning
from methods.subspace.exchange import lowest_of_all


@dataclass(frozen=True)
class AdaptiveOptions(KeepDense):
    """Options for how many weights go, and for training on afterwards."""

    sparsity: float | None = option(
        None,
        "share of the sparsifiable weights to remove, those that the rule rates lowest over all layers (use "
        "finetune then); null: the outcome of the rule itself",
        within="[0, 1)",
        neutral=None,
    )
    finetune: float = option(
        0.0,
        "share of the epochs (at least one) in which the remaining weights are trained on after pruning, "
        "with a restarted learning rate and updated batch-norm statistics; 0, as in the papers: the network "
        "is scored as it was pruned",
        within="[0, 1)",
    )


class AdaptiveVI(VariationalMethod):
    """Base of methods that train densely and then remove weights by their ``margin``.

    Those whose margin is not above 0 go; if a sparsity is requested, those of smallest margin. Until then
    FLOPs are counted as for dense VI. Layers that sparsity does not apply to keep every weight.
    """

    why_dense = "training decides which weights go"

    def margin(self, posterior: Gaussian) -> torch.Tensor:
        """Return by how much each weight of a dense posterior passes the rule; of its shape, detached."""
        raise NotImplementedError

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``network`` has a layer to make sparse, and keeps a weight in each.

        Raises
        ------
        UserError
            If it has none, or the sparsity leaves fewer weights than layers.
        """
        kernels = convert.sparsifiable(network, options.keep_dense)
        if not kernels:
            raise UserError("there is no layer to make sparse")
        if options.sparsity is not None:
            allocation.allocate("global", kernels, options.sparsity, torch.Generator())

    def stages(self, budget: Budget) -> list[Stage]:
        if self.options.finetune == 0:
            return [Stage("train", budget.epochs)]
        return with_finetuning(budget, self.options.finetune, "finetune")

    def leave_stage(self, context: Context, stage: Stage) -> None:
        layers = pruning.prunable(context.module)
        for name, kept in self._kept(context.module).items():
            pruning.remove(layers[name], ~kept, context.optimiser)
            context.pruned = True

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        """As counted in training, or the largest possible value, since layers compete for weights.

        Where the rule decides how many weights go, every step is taken for a dense one.
        """
        stages = self.stages(budget)
        if self.options.sparsity is None or len(stages) == 1:
            return super().training_flops(module, budget)
        dense = self.flops(module, "step")
        pruned = pruning.Room.of(module).step_flops(dense, self._keep(module))
        return stages[0].epochs * dense + stages[1].epochs * pruned

    @torch.no_grad()
    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        kept, active, size = self._kept(module), 0, 0
        for name, layer in pruning.prunable(module).items():
            active += int(kept[name].sum()) if name in kept else layer.posterior.active
            size += layer.posterior.shape.numel()
        return super().monitor(module, progress) | {"density_if_pruned": active / size}

    def _kept(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """Return which weights of each dense layer will stay, boolean and flat, by name."""
        margins = {}
        for name, layer in pruning.prunable(module).items():
            assert isinstance(layer.posterior, Gaussian)
            if not isinstance(layer.posterior, Slots):
                margins[name] = self.margin(layer.posterior).reshape(-1)
        if self.options.sparsity is None or not margins:
            kept = {name: margin > 0 for name, margin in margins.items()}
            for name, margin in margins.items():
                kept[name][margin.argmax()] = True  # a layer without weights would cut the network in two
            return kept
        excess = sum(margin.numel() for margin in margins.values()) - self._keep(module)
        lowest = lowest_of_all(list(margins.values()), excess)  # each layer keeps its best weight here too
        return {name: ~removed for name, removed in zip(margins, lowest, strict=True)}

    def _keep(self, module: nn.Module) -> int:
        """Return how many weights stay in all prunable layers together at the requested sparsity."""
        return allocation.total(pruning.Room.of(module).shapes, self.options.sparsity)
