"""Find the kernels of a module: weights of linear and convolutional layers, and others that it contracts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from methods.core.contractions import CONVOLUTIONS
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import Posterior

KERNEL_LAYERS = (VariationalLayer, nn.Linear, *CONVOLUTIONS, nn.MultiheadAttention)
#: Attention reads these weights itself; its output projection is a linear layer, found as such.
_ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass
class Kernel:
    """One weight tensor of a network, converted or not.

    Parameters
    ----------
    name
        Name of the tensor in the plain network.
    weight
        Parameter or posterior that stores it.
    layers
        All linear and convolutional layers that use it.
    outside
        Multiply-adds for one example outside the calls of these layers, as ``costs.trace`` found them.
    """

    name: str
    weight: nn.Parameter | Posterior
    layers: list[nn.Module] = field(default_factory=list)
    outside: int = 0

    @property
    def shape(self) -> torch.Size:
        """Shape of the weight tensor, also if only part of it is stored."""
        return self.weight.shape

    @property
    def active(self) -> int:
        """Number of weights that are not zero by construction."""
        return self.weight.active if isinstance(self.weight, Posterior) else self.weight.numel()

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Parameters that describe the weights: the weight itself, or the parameters of its posterior."""
        if isinstance(self.weight, Posterior):
            return tuple(getattr(self.weight, name) for name in self.weight.PARAMETERS)
        return (self.weight,)


def kernel_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every linear, convolutional, attention or variational layer, with its name."""
    for name, layer in module.named_modules():
        if isinstance(layer, KERNEL_LAYERS):
            yield name, layer


def kernels(module: nn.Module) -> list[Kernel]:
    """Return every kernel once, in the order of the module tree, even if several layers share it.

    A weight that is computed from other parameters (a parametrisation) is not a kernel. The parameters
    that it is computed from, and those of modules of other kinds, are kernels if ``costs.trace`` found
    contractions of them.
    """
    found: dict[int, Kernel] = {}
    for name, layer in module.named_modules():
        contracted = vars(layer).get("contracted", {})
        if isinstance(layer, Posterior):
            continue  # part of a variational layer
        if isinstance(layer, VariationalLayer):
            contracted = {"weight": sum(vars(layer.posterior).get("contracted", {}).values())}
        own = dict(_weights(layer))
        for leaf, weight in (
            own | {leaf: getattr(layer, leaf) for leaf in contracted if leaf not in own}
        ).items():
            kernel = found.setdefault(id(weight), Kernel(f"{name}.{leaf}" if name else leaf, weight))
            kernel.outside += contracted.get(leaf, 0)
            if leaf in own:
                kernel.layers.append(layer)
    return list(found.values())


def own_weights(layer: nn.Module) -> list[nn.Parameter] | None:
    """Return the weights that a call of a kernel layer contracts; None for a variational layer."""
    if isinstance(layer, VariationalLayer):
        return None
    names = (
        (*_ATTENTION_WEIGHTS, "out_proj.weight") if isinstance(layer, nn.MultiheadAttention) else ("weight",)
    )
    own = dict(layer.named_parameters())
    return [own[name] for name in names if name in own]


def exchange(network: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put ``module`` in place of the submodule ``name`` and return the network.

    An empty name stands for the network itself; then ``module`` is returned.
    """
    if not name:
        return module
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
    return network


#: Attributes in which torch keeps the hooks of a module, and of a tensor.
_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
#: Methods by which a class decides what its state is, and what a call of it does.
_STATE = ("get_extra_state", "_save_to_state_dict", "_load_from_state_dict", "__call__")


def would_lose(layer: nn.Module) -> str | None:
    """Return in words what an exchange of ``layer`` would lose besides its weights; None if nothing."""
    if is_parametrized(layer):
        name, *_ = dict(layer.get_submodule("parametrizations").named_children())
        return f"its {name} is not a parameter, or is computed from others"
    if any(getattr(layer, hooks) for hooks in _HOOKS):
        return "it has hooks, which would be lost"
    for name, parameter in layer.named_parameters(recurse=False):
        if any(getattr(parameter, hooks) for hooks in _TENSOR_HOOKS):
            return f"its {name} has hooks, which would be lost"
    if any(getattr(type(layer), name) is not getattr(nn.Module, name) for name in _STATE):
        return f"{type(layer).__name__} has a state or call of its own, which would be lost"
    return None


def take_over(original: nn.Module, replacement: nn.Module, replaced: Collection[str] = ()) -> None:
    """Give ``replacement`` what ``original`` has and it has not: attributes, parameters, buffers, submodules.

    Code that reads ``layer.in_features`` or a buffer of its own can so read it after an exchange.

    Parameters
    ----------
    original
        Module that is exchanged.
    replacement
        Module that is put in its place.
    replaced
        Names of parameters and submodules whose work ``replacement`` does by others.
    """
    taken = {*dir(replacement), *replaced}
    replacement.train(original.training)
    parts = original._parameters | original._modules | vars(original)
    for name, value in parts.items():
        if not name.startswith("_") and name not in taken:
            setattr(replacement, name, value)
    for name, buffer in original._buffers.items():
        if name not in taken:
            replacement.register_buffer(name, buffer, name not in original._non_persistent_buffers_set)


def tied(module: nn.Module) -> set[int]:
    """Return the ``id`` of every parameter that has more than one name, or shares memory with another one."""
    uses = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    shared = {parameter for parameter, count in uses.items() if count > 1}
    ranges = sorted((*_memory(p), id(p)) for p in module.parameters() if not is_lazy(p) and p.numel())
    last = (0, 0, 0)  # storage, end and parameter of the range that reaches furthest
    for storage, start, end, parameter in ranges:
        if storage == last[0] and start < last[1]:
            shared |= {last[2], parameter}
        last = max(last, (storage, end, parameter))
    return shared


def _memory(tensor: torch.Tensor) -> tuple[int, int, int]:
    """Return the storage of a tensor, and the range of its bytes there."""
    width, start = tensor.element_size(), tensor.storage_offset()
    steps = zip(map(int, tensor.shape), map(int, tensor.stride()), strict=True)
    end = start + 1 + sum((size - 1) * stride for size, stride in steps)
    return tensor.untyped_storage()._cdata, int(start * width), int(end * width)


def _weights(layer: nn.Module) -> Iterator[tuple[str, nn.Parameter | Posterior]]:
    if isinstance(layer, VariationalLayer):
        yield "weight", layer.posterior
        return
    names: tuple[str, ...] = ("weight",) if isinstance(layer, KERNEL_LAYERS) else ()
    own = dict(layer.named_parameters(recurse=False))
    for name in _ATTENTION_WEIGHTS if isinstance(layer, nn.MultiheadAttention) else names:
        if name in own:
            yield name, own[name]
