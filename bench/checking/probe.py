"""Find the weights that a network really uses, from the outputs of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from methods.core.contractions import even_padding
from methods.layers.inventory import kernel_layers

#: Most input values with which a layer is probed at once.
_AT_ONCE = 2**22
#: Share of a layer's largest weight below which a weight counts as zero: convolutions by FFT have rounding
#: errors.
_NOTHING = 1e-6


def weights_used(plain: nn.Module, module: nn.Module, predict: Callable[[], Any]) -> dict[str, int]:
    """Count the weights that are not zero, by the layers of ``module`` that ``predict()`` calls.

    A layer's weight is found as the derivative of its output in its input, with every mask and sample that
    is in force. Only layers that are a linear map or a convolution with even padding in ``plain`` are probed.

    Parameters
    ----------
    plain
        Network that ``module``, or each of its members, was made from. Layers are matched by their names,
        so it does not matter by which class they were replaced.
    module
        Trained module.
    predict
        Calls the layers.
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
    """Yield full name, layer of ``module`` and plain layer, for each copy of ``plain`` in ``module``."""
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
    """Count the weights that are not zero; a row of the weight is the derivative of one output.

    For a convolution, that output is at a position that sees no padding.
    """
    size, position = _window(like)
    outputs = like.out_features if isinstance(like, nn.Linear) else like.out_channels
    rows = []
    for chosen in torch.arange(outputs).split(max(1, _AT_ONCE // math.prod(size))):
        with torch.enable_grad():
            x = like.weight.new_zeros((len(chosen), *size)).requires_grad_()
            # forward is called directly, because calling the layer would run the hook again
            output = layer.forward(x)
            picked = output[(torch.arange(len(chosen)), chosen, *position)].sum()
            (row,) = torch.autograd.grad(picked, x)
        rows.append(row.abs().flatten(1))
    weight = torch.cat(rows)
    return int((weight > _NOTHING * weight.max()).sum())


def _window(like: nn.Linear | nn.Conv2d) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of an input, without batch, and a position of the output that sees no padding."""
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
