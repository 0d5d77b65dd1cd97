"""Count contractions with weights, whatever code computes them, from the operations that torch dispatches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


def _product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> int:
    return a.numel() * (b.shape[-1] if b.dim() > 1 else 1)


def _convolution(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *settings: Any) -> int:
    transposed = settings[4]  # after bias, stride, padding, dilation
    positions = (x if transposed else out).numel() // weight.shape[0]
    return positions * weight.numel()


def _trilinear(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *others: Any) -> int:
    return len(out) * weight.numel()


#: Places of the factors among the arguments of an operation, and its multiply-adds by output and arguments
#: from the first factor on.
_CONTRACTIONS: dict[Any, tuple[slice, Callable[..., int]]] = {
    **dict.fromkeys((aten.mm, aten.bmm, aten.mv, aten.dot, aten.vdot), (slice(0, 2), _product)),
    **dict.fromkeys((aten.addmm, aten.addmv, aten.baddbmm, aten.addbmm), (slice(1, 3), _product)),
    **dict.fromkeys((aten.convolution, aten._convolution), (slice(0, 2), _convolution)),
    aten._trilinear: (slice(0, 3), _trilinear),
}
#: Operations that apply several matrices to every token of their first argument; where the matrices are.
_LAYERS: dict[Any, slice] = {
    aten.mkldnn_rnn_layer: slice(1, 3),
    aten._cudnn_rnn: slice(1, 2),
    aten.miopen_rnn: slice(1, 2),
    aten._native_multi_head_attention: slice(5, 9),
    aten._transformer_encoder_layer_fwd: slice(3, None),
}


class WeightContractions(TorchDispatchMode):
    """Counts, while it is entered, the contractions of the parameters of ``module`` with other tensors.

    A tensor that is computed from parameters and constants only, such as a transposed, masked or
    normalised weight, is a weight too. Its contractions belong to the largest parameter that it is
    computed from. What depends on the input is an activation: products of activations are not counted.
    A product of weights alone is computed once for all examples: its factors are noted with 0.

    Attributes
    ----------
    multiply_adds
        Multiply-adds by ``id`` of the parameter, without those of layers within their own call.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: torch would import its compiler, in seconds, only to leave this uncompiled."""
        return False

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiply_adds: Counter[int] = Counter()
        self._calls: list[frozenset[int] | None] = []
        self._parameters: dict[int, list[nn.Parameter]] = {}
        for parameter in module.parameters():
            self._parameters.setdefault(parameter.untyped_storage()._cdata, []).append(parameter)
        # by address of a storage; the weak reference keeps the address from being used again
        self._weights: dict[int, tuple[StorageWeakRef, list[nn.Parameter]]] = {}
        self._activations: dict[int, StorageWeakRef] = {}

    def activation(self, value: Any) -> Any:
        """Note that all tensors in ``value`` depend on the input, and return ``value``."""
        for tensor in _tensors(value):
            if (address := _address(tensor)) is not None and address not in self._activations:
                self._activations[address] = StorageWeakRef(tensor.untyped_storage())
        return value

    def enter_call(self, own: Iterable[nn.Parameter] | None) -> None:
        """Begin the call of a layer, whose weights ``own`` are counted elsewhere; None: so is all it does."""
        self._calls.append(None if own is None else frozenset(map(id, own)))

    def leave_call(self, output: Any) -> None:
        """End the call of a layer."""
        self._calls.pop()
        self.activation(output)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if None in self._calls:
            return func(*args, **kwargs)
        if func.overloadpacket not in _CONTRACTIONS and func is not torch.ops.prim.device.default:
            with self:  # inference mode hands over whole operations, such as linear
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        self._count(func.overloadpacket, args, output)
        self._follow(_tensors((args, kwargs)), output)
        return output

    def _count(self, operation: Any, args: Any, output: Any) -> None:
        if operation in _CONTRACTIONS:
            places, multiply_adds = _CONTRACTIONS[operation]
            weights = [self._sources(factor) for factor in args[places]]
            alone = all(weights)
            for sources in weights if alone else [next(filter(None, weights), [])]:
                self._note(sources, 0 if alone else multiply_adds(output, *args[places.start :]))
        elif operation in _LAYERS:
            tokens = args[0].numel() // args[0].shape[-1]
            for matrix in _tensors(args[_LAYERS[operation]]):
                if matrix.dim() > 1:
                    self._note(self._sources(matrix), tokens * matrix.numel())

    def _note(self, sources: list[nn.Parameter], multiply_adds: int) -> None:
        if not sources:
            return
        largest = id(max(sources, key=torch.Tensor.numel))
        if not any(largest in own for own in self._calls if own is not None):
            self.multiply_adds[largest] += multiply_adds

    def _follow(self, inputs: list[torch.Tensor], output: Any) -> None:
        """Note whether the output is an activation, a weight, or neither."""
        if any(_address(tensor) in self._activations for tensor in inputs):
            self.activation(output)
            return
        sources = {id(source): source for tensor in inputs for source in self._sources(tensor)}
        if not sources:
            return
        for tensor in _tensors(output):
            address = _address(tensor)
            if address is not None and address not in self._parameters:
                self._weights[address] = StorageWeakRef(tensor.untyped_storage()), list(sources.values())

    def _sources(self, tensor: torch.Tensor) -> list[nn.Parameter]:
        """Return the parameters that ``tensor`` is computed from; none if it is not a weight."""
        address = _address(tensor)
        if address is None or address in self._activations:
            return []
        if address in self._weights:
            return self._weights[address][1]
        for parameter in self._parameters.get(address, []):  # several may lie in one storage
            start = parameter.storage_offset()
            if start <= tensor.storage_offset() < start + max(1, parameter.numel()):
                return [parameter]
        return []


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int | None:
    """Return what identifies the memory of ``tensor``; None for a layout without one block of memory."""
    return None if tensor.layout != torch.strided else int(tensor.untyped_storage()._cdata)
