"""The weights that a network really uses, found from its layers' outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from methods.core.contractions import even_padding
from methods.layers.inventory import kernel_layers

#: Numbers of the inputs that a layer is probed with at once.
_AT_ONCE = 2**22
#: Share of a layer's largest weight below which one is none: convolutions by FFT leave rounding errors.
_NOTHING = 1e-6


def weights_used(plain: nn.Module, module: nn.Module, predict: Callable[[], Any]) -> dict[str, int]:
    """Weights that are not zero, by the layers of ``module`` that ``predict()`` calls.

    plain: the network that ``module`` was made from (or each of its members): the layers are those of
    the same names, whatever has taken their place. Each is asked for its derivative in its input, which
    is its weight, with every mask and sample that is in force. Layers that are no linear map or
    convolution with even padding in ``plain`` are left out.
    """
    found: dict[str, int] = {}
    hooks = []
    for name, layer, like in _counterparts(plain, module):

        def note(layer: nn.Module, inputs: Any, output: Any, name: str = name, like: Any = like) -> None:
            found[name] = max(found.get(name, 0), _nonzeros(layer, like))

        hooks.append(layer.register_forward_hook(note))
    try:
        predict()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _counterparts(
    plain: nn.Module, module: nn.Module
) -> Iterator[tuple[str, nn.Module, nn.Linear | nn.Conv2d]]:
    """Full name, layer of ``module``, and its plain form: of each copy of ``plain`` that ``module`` holds."""
    parts = dict(module.named_modules())
    known = {name: layer for name, layer in kernel_layers(plain) if isinstance(layer, nn.Linear | nn.Conv2d)}
    first = next(iter(known), "")
    prefixes = [full[: len(full) - len(first)] for full in parts if f".{full}".endswith(f".{first}")]
    for prefix in prefixes:
        if all(prefix + name in parts for name in known):
            for name, like in known.items():
                if isinstance(like, nn.Linear) or even_padding(like) is not None:
                    yield prefix + name, parts[prefix + name], like


def _nonzeros(layer: nn.Module, like: nn.Linear | nn.Conv2d) -> int:
    """Rows of the weight are derivatives of one output each, at a position that sees no padding."""
    size, position = _window(like)
    outputs = like.out_features if isinstance(like, nn.Linear) else like.out_channels
    rows = []
    for chosen in torch.arange(outputs).split(max(1, _AT_ONCE // math.prod(size))):
        with torch.enable_grad():
            x = like.weight.new_zeros((len(chosen), *size)).requires_grad_()
            # not by calling it, which would be noted again
            output = layer.forward(x)
            picked = output[(torch.arange(len(chosen)), chosen, *position)].sum()
            (row,) = torch.autograd.grad(picked, x)
        rows.append(row.abs().flatten(1))
    weight = torch.cat(rows)
    return int((weight > _NOTHING * weight.max()).sum())


def _window(like: nn.Linear | nn.Conv2d) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """An input without batch, and the place of an output within its plane that depends on no padding."""
    if isinstance(like, nn.Linear):
        return (like.in_features,), ()
    padding = even_padding(like)
    assert padding is not None
    sizes, position = [], []
    for k, s, d, p in zip(like.kernel_size, like.stride, like.dilation, padding, strict=True):
        at = -(-p // s)
        position.append(at)
        sizes.append(at * s - p + d * (k - 1) + 1)
    return (like.in_channels, *sizes), tuple(position)
