"""Dense VI whose weights go by what it has learnt of each: a rule says which, so how many is an outcome.

No sparsity is asked for; the density that comes out is measured. What the methods that share this differ
in is the posterior, its KL divergence and the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.base import Budget, Context, Progress, Stage
from methods.core.errors import UserError
from methods.core.options import option
from methods.families.sparse import KeepDense
from methods.families.variational import VariationalMethod, with_finetuning
from methods.layers import convert
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import Gaussian, Slots
from methods.subspace import pruning


@dataclass(frozen=True)
class AdaptiveOptions(KeepDense):
    """What comes after the rule."""

    finetune: float = option(
        0.0,
        "share of the epochs, one at least, in which the weights that are left are trained on, with the "
        "learning rate begun anew, and batch normalisation gets to know them; 0, as the authors have it: "
        "what training ended with is pruned and scored",
        within="[0, 1)",
    )


class AdaptiveVI(VariationalMethod):
    """Dense training, at the end of which the weights go whose ``margin`` is not above 0.

    Counted as dense until then, as dense VI is. Layers that sparsity is not about keep every weight.
    """

    why_dense = "what goes is an outcome of training"

    def margin(self, posterior: Gaussian) -> torch.Tensor:
        """By how much each weight of a dense posterior passes the rule, of its shape; detached."""
        raise NotImplementedError

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Raise ``UserError`` when ``network`` has no layer to make sparse."""
        if not convert.sparsifiable(network, options.keep_dense):
            raise UserError("there is no layer to make sparse")

    def stages(self, budget: Budget) -> list[Stage]:
        if self.options.finetune == 0:
            return [Stage("train", budget.epochs)]
        return with_finetuning(budget, self.options.finetune, "finetune")

    def leave_stage(self, context: Context, stage: Stage) -> None:
        for layer, kept in self._kept(context.module).values():
            if not isinstance(layer.posterior, Slots):
                pruning.remove(layer, ~kept, context.optimiser)
                context.pruned = True

    @torch.no_grad()
    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        kept = [mask for _, mask in self._kept(module).values()]
        size = sum(layer.posterior.shape.numel() for layer in pruning.prunable(module).values())
        share = sum(int(mask.sum()) for mask in kept) / size
        return super().monitor(module, progress) | {"density_if_pruned": share}

    def _kept(self, module: nn.Module) -> Mapping[str, tuple[VariationalLayer, torch.Tensor]]:
        """Of each layer that sparsity is about which of its stored weights stay, boolean, flat."""
        found = {}
        for name, layer in pruning.prunable(module).items():
            posterior = layer.posterior
            assert isinstance(posterior, Gaussian)
            if isinstance(posterior, Slots):  # the rule has been applied
                kept = torch.ones_like(posterior.index, dtype=torch.bool)
            else:
                margin = self.margin(posterior).reshape(-1)
                kept = margin > 0
                kept[margin.argmax()] = True  # a layer of no weight would cut the network in two
            found[name] = layer, kept
        return found
