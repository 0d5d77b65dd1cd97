"""The two bilinear maps from x and W to y, linear and convolutional, with their gradients.

The geometry of a layer is a value. A variational layer applies the same map twice: to
(x, W_mean) for the mean and to (x^2, W_variance) for the variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn


class Contraction(Protocol):
    """A map y = contract(x, W) that is linear in both arguments; shapes are those of the torch functions."""

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Compute y; ``bias`` has one entry for each output channel."""
        ...

    def backward(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, need_input: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return the gradients of sum(grad * y) with respect to ``x`` and ``weight``.

        The first is None unless ``need_input``; the second is contiguous.
        """
        ...

    def bias_gradient(self, grad: torch.Tensor) -> torch.Tensor:
        """Return the gradient of sum(grad * y) with respect to the bias."""
        ...


@dataclass(frozen=True)
class Linear:
    """Map x (..., in) and W (out, in) to y (..., out)."""

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.linear(x, weight, bias)

    def backward(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, need_input: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        rows = grad.reshape(-1, grad.shape[-1])
        grad_weight = rows.t() @ x.reshape(-1, x.shape[-1])
        return (grad @ weight if need_input else None), grad_weight

    def bias_gradient(self, grad: torch.Tensor) -> torch.Tensor:
        return grad.reshape(-1, grad.shape[-1]).sum(0)


@dataclass(frozen=True)
class Conv2d:
    """Map x (N, in, H, W) and W (out, in/groups, h, w) to y (N, out, H', W') with zero padding."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def backward(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, need_input: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, self.stride, self.padding, self.dilation, False, (0, 0), self.groups,
            (need_input, True, False),
        )  # fmt: skip
        return grad_input, grad_weight.contiguous()  # torch gives it the memory layout of x

    def bias_gradient(self, grad: torch.Tensor) -> torch.Tensor:
        return grad.sum((0, 2, 3))


def even_padding(layer: nn.Conv2d) -> tuple[int, int] | None:
    """Return the zero padding of height and width; None if it is not zeros or differs between sides."""
    if layer.padding_mode != "zeros":
        return None
    if not isinstance(layer.padding, str):
        return layer.padding[0], layer.padding[1]
    if layer.padding == "valid":
        return 0, 0
    rows, columns = (d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    return None if rows % 2 or columns % 2 else (rows // 2, columns // 2)


def contraction_of(layer: nn.Linear | nn.Conv2d) -> Contraction:
    """Return the map of a plain layer; its padding must be zeros, the same on both sides."""
    if isinstance(layer, nn.Linear):
        return Linear()
    padding, stride, dilation = even_padding(layer), layer.stride, layer.dilation
    assert padding is not None
    return Conv2d((stride[0], stride[1]), padding, (dilation[0], dilation[1]), layer.groups)
