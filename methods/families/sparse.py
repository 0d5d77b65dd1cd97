"""Options and helpers of all sparse methods: requested sparsity, layers kept dense, random subspaces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from methods.base import Method
from methods.core.options import option
from methods.layers import convert
from methods.layers.posterior import Slots
from methods.subspace import allocation


@dataclass(frozen=True)
class RequestedSparsity:
    """Options for how many weights are active."""

    sparsity: float = option(0.9, "share of the sparsifiable weights to remove", within="[0, 1)")
    allocation: str = option(
        "uniform",
        "; ".join(f"{name}: {doc}" for name, doc in allocation.RULES.items()),
        choices=tuple(allocation.RULES),
        neutral="uniform",
    )


@dataclass(frozen=True)
class KeepDense:
    """Option for layers that sparsity does not apply to."""

    keep_dense: tuple[str, ...] = option(
        (), "patterns of the names of layers that stay dense, such as [classifier, layer1.*]", neutral=()
    )


@dataclass(frozen=True)
class SparsityOptions(KeepDense, RequestedSparsity):
    """Options for how many weights are active, and where."""


class WithSlots(Method):
    """Base of methods that can store some coordinates of a kernel only."""

    def slots(
        self,
        weight: torch.Tensor,
        index: torch.Tensor,
        generator: torch.Generator,
        share: float | None = None,
    ) -> Slots:
        """Return the initial posterior of the coordinates ``index`` (flat, sorted) of a kernel.

        Parameters
        ----------
        weight
            Initial weights of the plain network.
        index
            Active coordinates.
        generator
            Draws initial values that do not come from the network.
        share
            Their share of the layer's sum of squared weights, by whose root initial weights are divided so
            that the layer's outputs keep their variance. By default their share of the number of weights, as
            for coordinates drawn at random.
        """
        raise NotImplementedError


def slot_counts(options: SparsityOptions, network: nn.Module, generator: torch.Generator) -> dict[str, int]:
    """Return the number of active weights of each sparse layer, by name; other layers are dense.

    Parameters
    ----------
    options
        Sparsity, allocation rule, and layers to keep dense.
    network
        Network to make sparse; not changed.
    generator
        Draws the numbers of the allocation ``global``.

    Raises
    ------
    UserError
        If there is no layer to make sparse, or a layer would be left without a weight.
    """
    kernels = convert.sparsifiable(network, options.keep_dense)
    counts = allocation.allocate(options.allocation, kernels, options.sparsity, generator)
    if options.allocation == "erk":  # layers that keep all weights never change: treat them as dense
        counts = {name: count for name, count in counts.items() if count < kernels[name].numel()}
    return counts


def random_index(size: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``count`` of ``size`` coordinates uniformly; sorted, int64."""
    order = torch.randperm(size, generator=generator, dtype=torch.int32)
    return order[:count].sort().values.long()
