"""Any network to its variational twin: which kernels are sparsifiable, and the exchange of modules.

Every kernel is one of three kinds: deterministic (it cannot be converted), dense (a posterior
over every weight) or sparse. What is not sparse has a reason.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from methods.core.contractions import even_padding
from methods.core.errors import UserError
from methods.layers.attention import is_separable, separate
from methods.layers.inventory import CONVOLUTIONS, TRANSPOSED, exchange, kernel_layers, tied
from methods.layers.layer import VariationalLayer, variational_twin
from methods.layers.posterior import Posterior, Slots

#: Makes the posterior of a kernel from the layer's name and its freshly initialised weight.
PosteriorFactory = Callable[[str, torch.Tensor], Posterior]


def convertible(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers whose kernel can be variational, by name: Linear and Conv2d with zero padding."""
    barred = obstacles(network)
    return {
        name: layer
        for name, layer in kernel_layers(network)
        if name not in barred and isinstance(layer, (nn.Linear, nn.Conv2d))
    }


def obstacles(network: nn.Module) -> dict[str, str]:
    """Why a kernel layer cannot be converted, by the names of those that cannot."""
    shared = tied(network)
    reasons = {}
    for name, layer in kernel_layers(network):
        if isinstance(layer, VariationalLayer) or name in reasons:
            continue
        if any(id(parameter) in shared for parameter in layer.parameters(recurse=False)):
            reasons[name] = "tied: used under several names"
        elif (reason := _obstacle(layer)) is not None:
            reasons[name] = reason
        if isinstance(layer, nn.MultiheadAttention):  # which reads this one's weight too
            reasons[f"{name}.out_proj".lstrip(".")] = reasons[name]
    return reasons


#: Where torch keeps hooks of a module.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _obstacle(layer: nn.Module) -> str | None:
    if isinstance(layer, TRANSPOSED):
        return "transposed convolution"
    if isinstance(layer, (nn.Conv1d, nn.Conv3d)):
        return f"{layer.weight.dim() - 2}-D convolution"
    if isinstance(layer, nn.MultiheadAttention):
        return "attention that is not separated into layers"
    plain = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    own = "forward" in vars(layer) or type(layer).forward is not plain.forward
    if own or getattr(type(layer), "_conv_forward", None) is not getattr(plain, "_conv_forward", None):
        return f"{type(layer).__name__} has a forward of its own"
    if "weight" not in dict(layer.named_parameters(recurse=False)):
        return "its weight is computed from other parameters"
    if isinstance(layer, nn.Conv2d) and even_padding(layer) is None:
        uneven = layer.padding_mode == "zeros"
        return "uneven padding" if uneven else f"padding with mode {layer.padding_mode!r}"
    if not layer.weight.requires_grad:
        return "frozen"
    if any(getattr(layer, hooks) for hooks in _HOOKS):
        return "it has hooks, which would be lost"
    if not getattr(layer, "is_called", True):
        return "never called: its weight is read, or goes unused"
    return None


def dense_by_rule(network: nn.Module, keep_dense: Sequence[str] = ()) -> dict[str, str]:
    """Why a convertible layer is never sparse, by the names of those that are not.

    keep_dense: patterns of layer names (as for file names, ``*`` matches dots too) that the
    configuration excepts. Raises ``UserError`` for a pattern that matches no sparsifiable layer.
    """
    convolutions = (name for name, layer in kernel_layers(network) if isinstance(layer, CONVOLUTIONS))
    first = next(convolutions, None)
    reasons, sparsifiable = {}, []
    for name, layer in convertible(network).items():
        if name == first:
            reasons[name] = "first convolution"
        elif isinstance(layer, nn.Conv2d) and layer.groups > 1:
            reasons[name] = "grouped convolution"
        else:
            sparsifiable.append(name)
    for pattern in keep_dense:
        matched = [name for name in sparsifiable if fnmatchcase(name, pattern)]
        if not matched:
            raise UserError(
                f"keep_dense: {pattern!r} matches no sparsifiable layer; there are: {', '.join(sparsifiable)}"
            )
        reasons |= dict.fromkeys(matched, "keep_dense names it")
    return reasons


def sparsifiable(network: nn.Module, keep_dense: Sequence[str] = ()) -> dict[str, torch.Size]:
    """Kernel shapes of the layers that sparsity is about, by name; ``network`` is left as it is.

    All convertible ones but the first convolution, grouped ones and those that ``keep_dense``
    names. The classifier belongs to it; an MLP has no convolution to leave out.
    """
    if any(map(is_separable, network.modules())):
        # the same tensors in other modules: nothing of their size is copied but projections
        parts = [*network.parameters(), *network.buffers()]
        network = separate(copy.deepcopy(network, {id(part): part for part in parts}))
    dense = dense_by_rule(network, keep_dense)
    return {name: layer.weight.shape for name, layer in convertible(network).items() if name not in dense}


def to_variational(
    network: nn.Module,
    posterior: PosteriorFactory,
    variance_floor: float,
    keep_dense: Sequence[str] = (),
    why_dense: str = "the method keeps every weight",
) -> nn.Module:
    """Exchange, in place, every convertible layer for its variational twin; returns the network.

    Attention is first separated into layers (``attention.separate``). why_dense: why sparsifiable layers
    have all their weights, where they have.
    """
    network = separate(network)
    dense = dense_by_rule(network, keep_dense)
    for name, layer in convertible(network).items():
        twin = variational_twin(layer, posterior(name, layer.weight.detach()), variance_floor)
        twin.sparsifiable = name not in dense
        if not isinstance(twin.posterior, Slots):
            twin.why_dense = dense.get(name, why_dense)
        network = exchange(network, name, twin)
    return network
