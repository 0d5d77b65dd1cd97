"""Convert a network to its variational twin: which kernels can be sparse, and the exchange of layers.

Every kernel is of one of three kinds: deterministic (it cannot be converted), dense (a posterior
over every weight) or sparse. For every kernel that is not sparse there is a reason in words.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from methods.core.contractions import CONVOLUTIONS, TRANSPOSED, PlainLayer, even_padding
from methods.core.errors import UserError
from methods.layers import recurrent
from methods.layers.attention import is_separable, separate
from methods.layers.inventory import exchange, kernel_layers, take_over, tied, would_lose
from methods.layers.layer import VariationalLayer, variational_twin
from methods.layers.posterior import Posterior, Slots
from methods.layers.recurrent import gates, unroll

#: Makes the posterior of a kernel, given the layer's name and its freshly initialised weight.
PosteriorFactory = Callable[[str, torch.Tensor], Posterior]


def convertible(network: nn.Module) -> dict[str, PlainLayer]:
    """Return the layers that can become variational, by name: linear layers and convolutions."""
    barred = obstacles(network)
    return {
        name: layer
        for name, layer in kernel_layers(network)
        if name not in barred and isinstance(layer, PlainLayer)
    }


def obstacles(network: nn.Module) -> dict[str, str]:
    """Return why layers with kernels cannot be converted, by name; those that can be are left out."""
    shared = tied(network)
    reasons: dict[str, str] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.RNNBase) and (reason := recurrent.obstacle(layer, shared)) is not None:
            reasons[name] = reason
    for name, layer in kernel_layers(network):
        if isinstance(layer, VariationalLayer) or name in reasons:
            continue
        if any(id(parameter) in shared for parameter in layer.parameters(recurse=False)):
            reasons[name] = "tied: used under several names"
        elif (reason := _obstacle(layer)) is not None:
            reasons[name] = reason
        if isinstance(layer, nn.MultiheadAttention):  # attention reads the weight of out_proj too
            reasons[f"{name}.out_proj".lstrip(".")] = reasons[name]
    return reasons


def _obstacle(layer: nn.Module) -> str | None:
    if isinstance(layer, nn.MultiheadAttention):
        return "attention that is not separated into layers"
    if (why := getattr(layer, "why_kept", None)) is not None:
        return str(why)
    plain = next(kind for kind in (nn.Linear, *CONVOLUTIONS) if isinstance(layer, kind))
    own = "forward" in vars(layer) or type(layer).forward is not plain.forward
    if own or getattr(type(layer), "_conv_forward", None) is not getattr(plain, "_conv_forward", None):
        return f"{type(layer).__name__} has a forward of its own"
    parameters = dict(layer.named_parameters(recurse=False))
    for name in ("weight", "bias"):
        if name not in parameters and getattr(layer, name, None) is not None:
            return f"its {name} is not a parameter, or is computed from others"
    if not layer.weight.requires_grad:
        return "frozen"
    if (loss := would_lose(layer)) is not None:
        return loss
    if getattr(layer, "has_arguments", False):
        return "called with an output size"
    called = getattr(layer, "is_called", True)
    if "weight" in vars(layer).get("contracted", {}):
        return f"its weight is {'also ' if called else ''}read without calling the layer"
    return None if called else "never called"


def keep_earlier(network: nn.Module) -> None:
    """Mark the layers of kinds that methods did not convert at first, so that they still do not.

    These are 1-D, 3-D and transposed convolutions, padding that is not zeros or not even, LSTM and GRU.
    """
    layer: Any
    for layer in network.modules():
        kind = None
        if isinstance(layer, TRANSPOSED):
            kind = "transposed convolution"
        elif isinstance(layer, nn.Conv1d | nn.Conv3d):
            kind = f"{layer.weight.dim() - 2}-D convolution"
        elif isinstance(layer, nn.Conv2d) and even_padding(layer) is None:
            uneven = layer.padding_mode == "zeros"
            kind = "uneven padding" if uneven else f"padding with mode {layer.padding_mode!r}"
        elif isinstance(layer, nn.LSTM | nn.GRU):
            kind = "recurrent"
        if kind is not None:
            layer.why_kept = f"{kind}: network.convert=all converts it"


def dense_by_rule(network: nn.Module, keep_dense: Sequence[str] = ()) -> dict[str, str]:
    """Return why convertible layers are never sparse, by name; layers that can be sparse are left out.

    Parameters
    ----------
    network
        Network whose layers are considered.
    keep_dense
        Patterns of layer names that the configuration keeps dense. They are matched as file names
        are, and ``*`` matches dots too.

    Raises
    ------
    UserError
        If a pattern matches no sparsifiable layer.
    """
    convolutions = (name for name, layer in kernel_layers(network) if isinstance(layer, CONVOLUTIONS))
    first = next(convolutions, None)
    reasons, sparsifiable = {}, []
    for name, layer in convertible(network).items():
        if name == first:
            reasons[name] = "first convolution"
        elif isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
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
    """Return the kernel shapes of the layers that sparsity applies to, by name; ``network`` is not changed.

    These are all convertible layers except the first convolution, grouped convolutions and layers that
    match ``keep_dense``. The classifier is among them. An MLP has no convolution, so all its layers are.
    """
    network = separated(network)
    dense = dense_by_rule(network, keep_dense)
    return {name: layer.weight.shape for name, layer in convertible(network).items() if name not in dense}


def require_convertible(network: nn.Module) -> None:
    """Raise ``UserError`` if no layer of ``network``, which is not changed, can have a posterior."""
    network = separated(network)
    if not convertible(network):
        reasons = [f"{name or 'the network'}: {reason}" for name, reason in obstacles(network).items()]
        there = "; ".join(reasons[:3]) + "; ..." * (len(reasons) > 3) if reasons else "it has no weight layer"
        raise UserError(f"no layer of the network can have a posterior ({there})")


def separated(network: nn.Module) -> nn.Module:
    """Return ``network`` with attention, LSTM and GRU in layers; a copy that shares all other tensors."""
    if not any(is_separable(part) or isinstance(part, nn.LSTM | nn.GRU) for part in network.modules()):
        return network
    parts = [*network.parameters(), *network.buffers()]
    return unroll(separate(copy.deepcopy(network, {id(part): part for part in parts})))


def to_variational(
    network: nn.Module,
    posterior: PosteriorFactory,
    variance_floor: float,
    keep_dense: Sequence[str] = (),
    why_dense: str = "the method keeps every weight",
) -> nn.Module:
    """Replace every convertible layer by its variational twin, in place, and return the network.

    Attention, LSTM and GRU are first separated into layers (``attention.separate``, ``recurrent.unroll``).

    Parameters
    ----------
    network
        Network to convert.
    posterior
        Makes the posterior of each kernel.
    variance_floor
        See ``VariationalLayer``.
    keep_dense
        Patterns of layer names to keep dense (see ``dense_by_rule``).
    why_dense
        Why sparsifiable layers have a posterior over all weights, if they have.

    Raises
    ------
    UserError
        If a pattern of ``keep_dense`` matches no sparsifiable layer, or attention is not supported.
    """
    network = unroll(separate(network))
    dense, in_time = dense_by_rule(network, keep_dense), gates(network)
    for name, layer in convertible(network).items():
        twin = variational_twin(layer, posterior(name, layer.weight.detach()), variance_floor)
        twin.sparsifiable = name not in dense
        twin.in_time = twin.one_sample = layer in in_time
        if not isinstance(twin.posterior, Slots):
            twin.why_dense = dense.get(name, why_dense)
        take_over(layer, twin)
        network = exchange(network, name, twin)
    return network
