"""Any network to its variational twin: which kernels are sparsifiable, and the exchange of modules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from methods.layers import variational_twin
from methods.posterior import Gaussian

#: Makes the posterior of a kernel from the layer's name and its freshly initialised weight.
PosteriorFactory = Callable[[str, torch.Tensor], Gaussian]


def convertible(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers whose kernel can be variational, by name: Linear and Conv2d with zero padding."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        or (
            isinstance(layer, nn.Conv2d)
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )
    }


def sparsifiable(network: nn.Module) -> dict[str, torch.Size]:
    """Kernel shapes of the layers that sparsity is about: all convertible ones but the first convolution.

    The classifier belongs to it; an MLP has no convolution to leave out.
    """
    layers = convertible(network)
    first = next((name for name, layer in layers.items() if isinstance(layer, nn.Conv2d)), None)
    return {name: layer.weight.shape for name, layer in layers.items() if name != first}


def to_variational(network: nn.Module, posterior: PosteriorFactory, variance_floor: float) -> nn.Module:
    """Exchange, in place, every convertible layer for its variational twin; returns the network."""
    for name, layer in convertible(network).items():
        twin = variational_twin(layer, posterior(name, layer.weight.detach()), variance_floor)
        if not name:
            return twin
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, twin)
    return network
