"""Batch normalisation in the layout of the kernels, with an addition and a ReLU in the same pass."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from methods.kernels.library import Normalised, library, pointer


@dataclass(frozen=True, eq=False)
class Normalisation:
    """A batch normalisation that has not been computed yet, so that an addition and a ReLU can join it.

    Parameters
    ----------
    x
        Input (blocks, channels, …, 16).
    examples
        Number of examples in ``x``.
    running_mean, running_var, weight, bias, training, momentum, eps
        As in ``torch.nn.functional.batch_norm``. Gradients are available only with ``training``.
    residual
        Tensor to add after the normalisation, of the shape of ``x``.
    seen
        Not empty once the running statistics include this batch. Copies of a normalisation share it:
        a result that a network uses twice is computed twice, but must update the statistics once. A
        result that is never used is never computed, and does not update them.
    """

    x: torch.Tensor
    examples: int
    running_mean: torch.Tensor | None
    running_var: torch.Tensor | None
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    training: bool
    momentum: float
    eps: float
    residual: torch.Tensor | None = None
    seen: list[bool] = field(default_factory=list)

    def plus(self, residual: torch.Tensor) -> Normalisation:
        """Return a copy that also adds ``residual``."""
        return replace(self, residual=residual)

    def compute(self, relu: bool = False) -> torch.Tensor:
        """Return the result, rectified if ``relu``; updates running statistics in training."""
        result: torch.Tensor = _Normalise.apply(self.x, self.residual, self.weight, self.bias, self, relu)
        return result


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        how: Normalisation,
        relu: bool,
    ) -> torch.Tensor:
        channels, positions = x.shape[1], x.shape[2:-1].numel()
        shape = Normalised(
            len(x), channels, positions, (how.examples - 1) % x.shape[-1] + 1, int(relu), how.eps
        )
        if how.training or how.running_mean is None or how.running_var is None:
            mean, variance = x.new_empty(channels), x.new_empty(channels)
        else:
            mean, variance = how.running_mean, how.running_var
        batch = mean is not how.running_mean
        x, y = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        residual = None if residual is None else residual.contiguous()
        library().normalise(
            ctypes.byref(shape), pointer(x), pointer(residual), pointer(weight), pointer(bias), pointer(mean),
            pointer(variance), pointer(y), int(batch), torch.get_num_threads(),
        )  # fmt: skip
        if how.training and how.running_mean is not None and how.running_var is not None and not how.seen:
            how.seen.append(True)
            n = how.examples * positions
            how.running_mean.lerp_(mean, how.momentum)
            how.running_var.lerp_(variance * (n / (n - 1)), how.momentum)
        ctx.shape = shape
        ctx.has_residual, ctx.has_bias = residual is not None, bias is not None
        ctx.save_for_backward(x, y if relu else None, weight, mean, variance)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, y, weight, mean, variance = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = torch.empty_like(x)
        # the gradient before the ReLU is also that of the residual; without a residual it needs no own memory
        apart = y is not None and ctx.has_residual
        before = torch.empty_like(grad) if apart else grad_x if y is not None else grad
        grad_weight = None if weight is None else torch.empty_like(weight)
        grad_bias = torch.empty_like(mean) if ctx.has_bias else None
        library().normalise_backward(
            ctypes.byref(ctx.shape), pointer(grad), pointer(x), pointer(y), pointer(weight), pointer(mean),
            pointer(variance), pointer(grad_x), pointer(before), pointer(grad_weight), pointer(grad_bias),
            torch.get_num_threads(),
        )  # fmt: skip
        return grad_x, before if ctx.has_residual else None, grad_weight, grad_bias, None, None
