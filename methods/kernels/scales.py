"""Variances and KL divergences of Gaussian posteriors in one pass each; see ``methods.layers.posterior``."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from methods.kernels.library import library, pointer

#: Scale maps that the kernels can compute.
KNOWN = ("softplus", "exp")


class Variance(torch.autograd.Function):
    """Squares of the scales of ``rho`` (float32, contiguous); the scale map is ``softplus`` or exp."""

    @staticmethod
    def forward(ctx: Any, rho: torch.Tensor, softplus: bool) -> torch.Tensor:
        out = torch.empty_like(rho)
        library().variance(rho.numel(), softplus, pointer(rho), pointer(out), torch.get_num_threads())
        ctx.softplus = softplus
        ctx.save_for_backward(rho)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (rho,) = ctx.saved_tensors
        grad, out = grad.contiguous(), torch.empty_like(rho)
        library().variance_backward(
            rho.numel(), ctx.softplus, pointer(rho), pointer(grad), pointer(out), torch.get_num_threads()
        )
        return out, None


class KL(torch.autograd.Function):
    """KL(q || N(0, prior_std^2)), summed over the coordinates, in nats, a scalar."""

    @staticmethod
    def forward(
        ctx: Any, mean: torch.Tensor, rho: torch.Tensor, softplus: bool, prior_std: float
    ) -> torch.Tensor:
        ctx.softplus, ctx.precision = softplus, prior_std**-2
        ctx.save_for_backward(mean, rho)
        threads = torch.get_num_threads()
        return mean.new_tensor(
            library().kl(mean.numel(), softplus, pointer(mean), pointer(rho), prior_std, threads)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mean, rho = ctx.saved_tensors
        grad_mean, grad_rho = torch.empty_like(mean), torch.empty_like(rho)
        library().kl_backward(
            mean.numel(), ctx.softplus, pointer(mean), pointer(rho), ctx.precision, float(grad),
            pointer(grad_mean), pointer(grad_rho), torch.get_num_threads(),
        )  # fmt: skip
        return grad_mean, grad_rho, None, None
