"""Base of methods that learn which weights to remove (``sparse_vd``, ``lbbnn``).

No sparsity is requested: a rule decides which weights to remove, and the resulting density is
measured. The methods differ in the posterior, its KL divergence and the rule.
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
from methods.families.finetuning import with_finetuning
from methods.families.sparse import KeepDense
from methods.families.variational import VariationalMethod
from methods.layers import convert
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import Gaussian, Slots
from methods.subspace import pruning


@dataclass(frozen=True)
class AdaptiveOptions(KeepDense):
    """Option for training on after the rule has removed weights."""

    finetune: float = option(
        0.0,
        "share of the epochs (at least one) in which the remaining weights are trained on after pruning, "
        "with a restarted learning rate and updated batch-norm statistics; 0, as in the papers: the network "
        "is scored as it was pruned",
        within="[0, 1)",
    )


class AdaptiveVI(VariationalMethod):
    """Base of methods that train densely and then remove the weights whose ``margin`` is not above 0.

    Until then FLOPs are counted as for dense VI. Layers that sparsity does not apply to keep every weight.
    """

    why_dense = "training decides which weights go"

    def margin(self, posterior: Gaussian) -> torch.Tensor:
        """Return by how much each weight of a dense posterior passes the rule; of its shape, detached."""
        raise NotImplementedError

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``network`` has a layer to make sparse.

        Raises
        ------
        UserError
            If it has none.
        """
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
        """Return each prunable layer, by name, with the stored weights that stay, boolean and flat."""
        found = {}
        for name, layer in pruning.prunable(module).items():
            posterior = layer.posterior
            assert isinstance(posterior, Gaussian)
            if isinstance(posterior, Slots):  # the rule has been applied
                kept = torch.ones_like(posterior.index, dtype=torch.bool)
            else:
                margin = self.margin(posterior).reshape(-1)
                kept = margin > 0
                kept[margin.argmax()] = True  # a layer without weights would cut the network in two
            found[name] = layer, kept
        return found
