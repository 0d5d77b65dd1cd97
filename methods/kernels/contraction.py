"""Compute the map of a variational layer with sparse kernels: mean and variance in one pass, with noise."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from methods.core import passes
from methods.core.contractions import Contraction, Conv2d, Linear, in_two_dimensions
from methods.kernels.blocks import Blocks, from_blocks
from methods.kernels.library import Layer, Pattern, library, pointer


class Kernel:
    """The kernel of one layer: plans for each input size, and the weights arranged for them.

    Weights are arranged again when the index of the layer has changed. A convolution of sequences is
    computed as one of images of height 1.

    Parameters
    ----------
    contraction
        Geometry of the layer.
    shape
        Shape of the weight tensor.
    """

    def __init__(self, contraction: Contraction, shape: torch.Size) -> None:
        self.contraction, self.shape = in_two_dimensions(contraction, shape)
        assert isinstance(self.contraction, Linear | Conv2d)
        self._arranged: dict[tuple[int, ...], Arranged] = {}
        self._every: torch.Tensor | None = None
        self._index: torch.Tensor | None = None
        self._version = -1

    def arranged(self, index: torch.Tensor | None, in_size: tuple[int, ...]) -> Arranged:
        """Return the weights arranged for inputs of a given size.

        Parameters
        ----------
        index
            Active coordinates, flat and sorted, int32; None for all.
        in_size
            Height and width of the input, or ``()`` for a linear layer.
        """
        if index is None:
            if self._every is None:
                self._every = torch.arange(self.shape.numel(), dtype=torch.int32)
            index = self._every
        version = 0 if index.is_inference() else index._version
        if self._index is not index or self._version != version:
            self._arranged = {}
            self._index, self._version = index, version
        arranged = self._arranged.get(in_size)
        if arranged is None:
            arranged = Arranged(geometry(self.contraction, self.shape, in_size), index)
            self._arranged[in_size] = arranged
        return arranged

    def __reduce__(self) -> tuple[Any, ...]:
        return Kernel, (self.contraction, self.shape)  # a copy arranges its own weights


def geometry(contraction: Contraction, shape: torch.Size, in_size: tuple[int, ...]) -> Layer:
    """Plan how the kernels cut a layer into tasks.

    Raises
    ------
    ValueError
        If the kernels cannot compute a layer of these sizes.
    """
    layer = Layer(in_channels=shape[1], out_channels=shape[0])
    spatial: tuple[tuple[int, ...], ...] = ((1, 1), (1, 1), (1, 1), (0, 0), (1, 1))
    if isinstance(contraction, Conv2d):
        spatial = (in_size, shape[2:], contraction.stride, contraction.padding, contraction.dilation)
    for name, value in zip(("in_size", "kernel", "stride", "padding", "dilation"), spatial, strict=True):
        setattr(layer, name, (ctypes.c_int32 * 2)(*value))
    if not library().plan(ctypes.byref(layer)):
        raise ValueError(f"no kernel for a weight {tuple(shape)} and an input {tuple(in_size)}")
    return layer


class Arranged:
    """The weights at ``index`` of one layer, in the orders in which the two directions read them.

    Raises
    ------
    IndexError
        If the index is not sorted or not within the weight.
    """

    def __init__(self, layer: Layer, index: torch.Tensor) -> None:
        self.layer, self.count = layer, index.numel()
        index = index.contiguous()
        self._memory = [
            [index.new_empty(size) for size in (rows + 1, self.count, self.count)]
            for rows in (layer.forward_rows, layer.backward_rows)
        ]
        self.forward, self.backward = (Pattern(*map(pointer, parts)) for parts in self._memory)
        valid = library().arrange(
            ctypes.byref(layer),
            pointer(index),
            self.count,
            ctypes.byref(self.forward),
            ctypes.byref(self.backward),
        )
        if not valid:
            size = layer.in_channels * layer.out_channels * layer.kernel[0] * layer.kernel[1]
            raise IndexError(f"the index of active weights must be sorted and within 0…{size - 1}")
        if layer.forward.blocks == 1:  # weights are read in the order of slots: no permutation is needed
            self._memory[0].pop()
            self.forward.slots = None


def sparse_map(
    x: Blocks, values: torch.Tensor, variance: torch.Tensor | None, layer: Any, now: passes.Pass
) -> Blocks:
    """Return y = contract(x, W) + bias of a variational layer, with W given by its slots.

    Parameters
    ----------
    x
        Input in blocks.
    values
        Means or sampled weights (s,).
    variance
        Variances (s,); used only if ``now.noise`` is given.
    layer
        The ``VariationalLayer``.
    now
        Pass that is in force.

    Raises
    ------
    RuntimeError
        If the input has another number of channels than the layer takes.
    """
    inside = layer.posterior.shape[1]
    if x.shape[1] != inside:
        raise RuntimeError(
            f"an input of shape {tuple(x.shape)} for a layer that takes {inside} channels or features"
        )
    flat = values.reshape(-1)
    flat_variance = None if variance is None or now.noise is None else variance.reshape(-1)
    out = _SparseMap.apply(x.values, flat, flat_variance, layer.bias, x.examples, layer, now)
    return Blocks(out, x.examples)


class _SparseMap(torch.autograd.Function):
    """Saves the input, the slots and the derivative of the output in its variance for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        values: torch.Tensor,
        variance: torch.Tensor | None,
        bias: torch.Tensor | None,
        examples: int,
        layer: Any,
        now: passes.Pass,
    ) -> torch.Tensor:
        x, values = x.contiguous(), values.contiguous()
        variance, bias = (None if t is None else t.contiguous() for t in (variance, bias))
        arranged = layer.kernel.arranged(getattr(layer.posterior, "index", None), tuple(x.shape[2:-1]))
        plan = arranged.layer
        spatial = tuple(plan.out_size) if x.dim() == 5 else ()
        y = x.new_empty((len(x), plan.out_channels, *spatial, x.shape[-1]))
        slope, seed = None, 0
        if variance is not None and now.noise is not None:
            slope = torch.empty_like(y)
            seed = int(torch.randint(2**63 - 1, (), generator=now.noise))
        done = library().forward(
            ctypes.byref(plan), ctypes.byref(arranged.forward), arranged.count, examples, pointer(x),
            pointer(values), pointer(variance), pointer(bias), layer.variance_floor, seed, pointer(y),
            pointer(slope), torch.get_num_threads(),
        )  # fmt: skip
        if not done:
            raise MemoryError(f"no memory for the kernels of a layer with {arranged.count} weights")
        ctx.arranged, ctx.examples, ctx.layer, ctx.consumer = arranged, examples, layer, now.dense_gradients
        ctx.has_bias = bias is not None
        ctx.save_for_backward(x, values, variance, slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, values, variance, slope = ctx.saved_tensors
        arranged, grad = ctx.arranged, grad.contiguous()
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_values = torch.empty_like(values)
        grad_variance = None if slope is None else torch.empty_like(values)
        done = library().backward(
            ctypes.byref(arranged.layer), ctypes.byref(arranged.backward), arranged.count, ctx.examples,
            pointer(x), pointer(grad), pointer(slope), pointer(values), pointer(variance), pointer(grad_x),
            pointer(grad_values), pointer(grad_variance), torch.get_num_threads(),
        )  # fmt: skip
        if not done:
            raise MemoryError(f"no memory for the kernels of a layer with {arranged.count} weights")
        if ctx.consumer is not None and hasattr(ctx.layer.posterior, "index"):
            ctx.consumer.deliver(ctx.layer, _dense_gradient(ctx.layer, grad, x, ctx.examples))
        grad_bias = grad.sum((0, *range(2, grad.dim()))) if ctx.has_bias else None
        return grad_x, grad_values, grad_variance, grad_bias, None, None, None


def _dense_gradient(layer: Any, grad: torch.Tensor, x: torch.Tensor, examples: int) -> torch.Tensor:
    """Return the gradient with respect to every mean, active or not, by an ordinary contraction."""
    weight = x.new_zeros(()).expand(layer.kernel.shape)  # only the shape of the weight matters
    _, dense = layer.kernel.contraction.backward(
        from_blocks(grad, examples), from_blocks(x, examples), weight, False
    )
    return dense.view(layer.posterior.shape)
