"""Sparse variational dropout (Molchanov, Ashukha & Vetrov, ICML 2017, arXiv 1701.05369)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from methods.core.options import option
from methods.core.style import Style
from methods.families.adaptive import AdaptiveOptions, AdaptiveVI
from methods.families.variational import PosteriorOptions
from methods.layers.posterior import Gaussian
from methods.layers.scale_maps import SCALE_MAPS

# Constants of equation 14 of the paper, -KL = K1 sigmoid(K2 + K3 log alpha) - log(1 + 1/alpha) / 2 - K1.
K1, K2, K3 = 0.63576, 1.87320, 1.48695
# Smallest |mean|/std that is told apart from 0. Below it the sigmoid term of the KL is negligible in any
# precision. At mean 0 the formula of the derivative is 0/0; its value is 0.
_NOTHING = 1e-12


@dataclass(frozen=True)
class SparseVDOptions(AdaptiveOptions, PosteriorOptions):
    """Options of sparse variational dropout; its log-uniform prior has no width to choose."""

    log_alpha_max: float = option(
        3.0,
        "weights of a larger log alpha = log(std^2 / mean^2) are removed at the end of training; the paper's "
        "value 3 means a dropout rate of alpha / (1 + alpha) = 0.95",
        within="(-inf, inf)",
    )


class SparseVD(AdaptiveVI):
    """Sparse variational dropout: Gaussian VI under a log-uniform prior; removes weights lost in noise.

    Means and scales are separate parameters (the additive parameterisation of section 4.1), trained under
    local reparameterisation. The paper has ``kl_factor`` 1 after a warm-up, and no fine-tuning.

    References
    ----------
    Molchanov, Ashukha & Vetrov, ICML 2017, arXiv 1701.05369.
    """

    name = "sparse_vd"
    style = Style(
        "Sparse VD", hue="#E16984", hue_dark="#E07C77", marker="triangle-left", dash="longdash", order=50
    )
    Options = SparseVDOptions

    def kl_of(self, posterior: Gaussian) -> torch.Tensor:
        return log_uniform_kl(posterior)

    def margin(self, posterior: Gaussian) -> torch.Tensor:
        log_alpha = 2 * (posterior.std.log() - posterior.mean.detach().abs().log())
        return self.options.log_alpha_max - log_alpha


def log_uniform_kl(posterior: Gaussian) -> torch.Tensor:
    """Return KL(q || log-uniform) by the paper's fit, summed over stored coordinates, in nats, a scalar.

    The prior, p(log |w|) = constant, is improper, so the KL is known up to a constant only; here it is 0 at
    mean 0. With t = |mean|/std, so that alpha = 1/t^2, the KL of a weight is
    log(1 + t^2) / 2 + K1 sigmoid(2 K3 log t - K2). This is equation 14 in a form that neither cancels nor
    overflows. It is within 0.0095 nats of the exact KL, which goes from 0 to infinity; the error is largest
    at log alpha = -3.5.
    """
    kl: torch.Tensor = _LogUniformKL.apply(posterior.mean, posterior.rho, posterior)
    return kl


class _LogUniformKL(torch.autograd.Function):
    """The KL of ``log_uniform_kl`` and its gradients, written by hand as those of ``Gaussian.kl`` are.

    With h(t) = t dKL/dt = t^2 / (1 + t^2) + 2 K1 K3 s (1 - s), where s is the sigmoid, the gradients are
    h / mean and -h/std dstd/drho. As t goes to 0, h falls faster than t, so the first gradient goes to 0.
    """

    @staticmethod
    def forward(ctx: Any, mean: torch.Tensor, rho: torch.Tensor, posterior: Gaussian) -> torch.Tensor:
        std = posterior.std
        ratio = mean.abs().div_(std)
        square = ratio.square()
        share = ratio.clamp_min_(_NOTHING).log_().mul_(2 * K3).sub_(K2).sigmoid_()
        ctx.scale_map = SCALE_MAPS[posterior.scale_map]
        ctx.save_for_backward(mean, rho, std, square, share)
        return 0.5 * square.log1p().sum() + K1 * share.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        mean, rho, std, square, share = ctx.saved_tensors
        slope = (1 - share).mul_(share).mul_(2 * K1 * K3).add_(square / (1 + square)).mul_(grad)
        grad_mean = torch.where(mean.abs() > _NOTHING * std, slope / mean, 0)
        return grad_mean, slope.div_(std).mul_(ctx.scale_map.slope(rho, std)).neg_(), None
