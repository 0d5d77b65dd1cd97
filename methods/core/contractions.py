"""The bilinear maps from x and W to y, linear and convolutional, with their gradients.

The geometry of a layer is a value. A variational layer applies the same map twice: to
(x, W_mean) for the mean and to (x^2, W_variance) for the variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

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
class Convolution:
    """Map x (N, in, *size) and W (out, in/groups, *kernel) to y (N, out, *size') with zero padding.

    Sizes have one to three dimensions, as many as ``stride``. With ``output_padding`` it is the transposed
    map, with W (in, out/groups, *kernel).
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    output_padding: tuple[int, ...] | None = None

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        dimensions = len(self.stride)
        if self.output_padding is None:
            convolve = (F.conv1d, F.conv2d, F.conv3d)[dimensions - 1]
            return convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dimensions - 1]
        return transposed(
            x, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def backward(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, need_input: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        transposed = self.output_padding is not None
        single = x.dim() == len(self.stride) + 1  # one example, without N
        if single:
            grad, x = grad[None], x[None]
        grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, self.stride, self.padding, self.dilation, transposed,
            self.output_padding or (0,) * len(self.stride), self.groups, (need_input, True, False),
        )  # fmt: skip
        if single and grad_input is not None:
            grad_input = grad_input[0]
        return grad_input, grad_weight.contiguous()  # torch gives it the memory layout of x

    def bias_gradient(self, grad: torch.Tensor) -> torch.Tensor:
        channels = grad.dim() - len(self.stride) - 1
        return grad.sum([place for place in range(grad.dim()) if place != channels])


@dataclass(frozen=True)
class Conv2d(Convolution):
    """The convolution of images, which has sparse kernels."""

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)


@dataclass(frozen=True)
class Padding:
    """Put values around the inputs (N, in, *size) of a convolution before they are contracted.

    Each value is 0 or a copy of one of the inputs, so padding x^2 is the same as squaring padded x.

    Parameters
    ----------
    sizes
        Numbers of values before and after each dimension, the last dimension first, as ``F.pad`` takes them.
    mode
        Mode of ``F.pad``.
    """

    sizes: tuple[int, ...]
    mode: str

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.sizes, self.mode)


TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
#: Layers that have a contraction.
PlainLayer = (
    nn.Linear
    | nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
)


def _sizes(values: Any) -> tuple[int, ...]:
    return tuple(values)


def _both_sides(layer: Any) -> list[tuple[int, int]]:
    """Return how much a convolution pads before and after each dimension."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.stride)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(padding, padding) for padding in layer.padding]


def even_padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[int, ...] | None:
    """Return the zero padding of each dimension; None if it is not zeros or differs between sides."""
    sides = _both_sides(layer)
    if layer.padding_mode != "zeros" or any(before != after for before, after in sides):
        return None
    return tuple(before for before, _ in sides)


def contraction_of(layer: PlainLayer) -> tuple[Contraction, Padding | None]:
    """Return the map of a plain layer, and what pads its inputs if the map itself cannot."""
    if isinstance(layer, nn.Linear):
        return Linear(), None
    if isinstance(layer, TRANSPOSED):
        padding, more = _sizes(layer.padding), _sizes(layer.output_padding)
        return Convolution(layer.stride, padding, layer.dilation, layer.groups, more), None
    kind = Conv2d if isinstance(layer, nn.Conv2d) else Convolution
    even = even_padding(layer)
    if even is not None:
        return kind(layer.stride, even, layer.dilation, layer.groups), None
    sizes = tuple(size for sides in reversed(_both_sides(layer)) for size in sides)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return kind(layer.stride, (0,) * len(layer.stride), layer.dilation, layer.groups), Padding(sizes, mode)


def in_two_dimensions(contraction: Contraction, shape: torch.Size) -> tuple[Contraction, torch.Size]:
    """Return a map with the shape of its weight; that of a sequence as one of images of height 1."""
    if not isinstance(contraction, Convolution) or len(contraction.stride) > 1:
        return contraction, shape
    (stride,), (padding,), (dilation,) = contraction.stride, contraction.padding, contraction.dilation
    images = Conv2d((1, stride), (0, padding), (1, dilation), contraction.groups, contraction.output_padding)
    return images, torch.Size((*shape[:2], 1, shape[2]))
