"""Base of methods that train on a subspace from the first step on, and how that subspace is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from methods.base import Budget, Context
from methods.core.data_loss import data_loss
from methods.core.options import option
from methods.families.sparse import SparsityOptions, WithSlots
from methods.layers import convert
from methods.layers.layer import SparseLayer, sparse_layers
from methods.subspace import foresight, surgery


@dataclass(frozen=True)
class FirstSubspaceOptions(SparsityOptions):
    """Option for the subspace with which training starts."""

    subspace_init: str = option(
        "random",
        "how the first subspace is chosen; w are the network's initial weights, L the loss of the first "
        "minibatch",
        choices=foresight.RULES,
        neutral="random",
    )


class FirstSubspace(WithSlots):
    """Base of methods whose ``build`` draws a random subspace; others are chosen before the first step.

    The choice needs gradients in all weights. They are computed with the plain network, which exists for the
    choice only, so that training never has state of its size.
    """

    Options: ClassVar[type] = FirstSubspaceOptions

    def choose_at_start(self, context: Context) -> bool:
        """Choose the subspace before the first step, unless it is random; return whether this was done."""
        rule, found = self._rule, list(sparse_layers(context.module))
        if rule == "random" or context.progress.step > 1 or not found:
            return False
        network, device = convert.separated(context.network()), found[0][2].mean.device
        initial = {name: weight.detach().clone() for name, weight in self._weights(network, found).items()}
        network.to(device)

        def loss() -> torch.Tensor:
            with context.arithmetic():
                return data_loss(network, context.batch)

        keep = {name: posterior.active for name, _, posterior in found}
        quota = sum(keep.values()) if self.options.allocation == "global" else keep
        weights = self._weights(network, found)
        chosen = foresight.choose(rule, network, weights, loss, context.batch[0][:1], quota)
        for name, _, posterior in found:
            weight, index = initial[name], chosen[name].cpu()
            # what scores choose is larger than what chance would: the usual factor would enlarge outputs
            squares = weight.square().view(-1)
            chosen_squares = float(squares[index].sum())
            share = chosen_squares / float(squares.sum()) if chosen_squares else None  # layers may begin at 0
            first = self.slots(weight, index, context.streams["posterior"], share).to(device)
            before = {key: getattr(posterior, key) for key in posterior.PARAMETERS}
            posterior.set_slots(first.index, **{key: getattr(first, key).detach() for key in before})
            for key, parameter in before.items():
                surgery.move_state(
                    context.optimiser, parameter, getattr(posterior, key), lambda _, value: value
                )
        context.pruned = True
        context.events += ["dense_pass"] * foresight.passes(rule, len(context.batch[1]))
        return True

    def flops_at_start(self, module: nn.Module, budget: Budget) -> float:
        """Return the FLOPs of the choice of the first subspace, as ``training_flops`` counts."""
        passes = foresight.passes(self._rule, budget.batch_size)
        return budget.in_epochs(range(1, 2)) * passes * self.flops(module, "dense_pass")

    @property
    def _rule(self) -> str:
        return getattr(self.options, "subspace_init", "random")

    def _weights(self, network: nn.Module, found: list[SparseLayer]) -> dict[str, nn.Parameter]:
        """Return the weights of the plain network by the names that their layers have in the module.

        A module may contain the network as a part, whose name then precedes those of its layers.
        """
        plain = convert.sparsifiable(network, self.options.keep_dense)
        own = {
            name: max((part for part in plain if f".{name}".endswith(f".{part}")), key=len)
            for name, *_ in found
        }
        return {name: network.get_submodule(part).get_parameter("weight") for name, part in own.items()}
