"""A posterior that includes each weight with its own probability: a spike at zero and a Gaussian slab."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from methods.layers.posterior import DenseGaussian
from methods.layers.scale_maps import SCALE_MAPS


class SpikeAndSlab(DenseGaussian):
    """Independent w_i = gamma_i v_i with gamma_i ~ Bernoulli(a_i) and v_i ~ N(mean_i, std_i^2), all stored.

    ``mean``, ``rho`` and ``std`` describe the slab; the parameter ``logit`` has the shape of ``mean`` and
    a is its logistic function. ``at`` returns a Gaussian posterior that keeps the slab: the weights at
    these coordinates are included for certain.

    Parameters
    ----------
    slab
        Gaussian posterior whose parameters become the slab.
    inclusion
        Initial inclusion probability of every weight, in (0, 1).
    prior_inclusion
        Inclusion probability pi of the prior in ``kl``, in (0, 1).

    References
    ----------
    Hubin & Storvik 2024, Mathematics 12(6), 788.
    """

    PARAMETERS = ("mean", "rho", "logit")
    logit: nn.Parameter

    def __init__(self, slab: DenseGaussian, inclusion: float, prior_inclusion: float) -> None:
        super().__init__(slab.shape, slab.mean, slab.std, slab.scale_map)
        self.rho.data.copy_(slab.rho)  # converting std back to rho would round
        self.logit = nn.Parameter(torch.full_like(slab.mean, _logit(inclusion)))
        self.prior_inclusion = prior_inclusion

    @property
    def inclusion(self) -> torch.Tensor:
        """Inclusion probabilities a, differentiable in ``logit``."""
        return self.logit.sigmoid()

    @property
    def expected(self) -> torch.Tensor:
        """E w = a mean, differentiable."""
        return self.inclusion * self.mean

    @property
    def variance(self) -> torch.Tensor:
        """Var w = a (std^2 + (1 - a) mean^2), differentiable."""
        inclusion = self.inclusion
        return inclusion * (super().variance + (1 - inclusion) * self.mean.square())

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Draw the weights once, zero where they are not included; detached."""
        slab, inclusion = super().sample(generator), self.inclusion.detach()
        uniform = torch.rand(slab.shape, generator=generator, device=slab.device, dtype=slab.dtype)
        return slab.mul_(uniform < inclusion)

    def kl(self, prior_std: float) -> torch.Tensor:
        """Return the joint KL of weights and inclusions from a prior of the same form, in nats, a scalar.

        sum_i a_i KL(N(mean_i, std_i^2) || N(0, prior_std^2)) + KL(Bernoulli(a_i) || Bernoulli(pi)), with
        pi = ``prior_inclusion``.

        References
        ----------
        Skaaret-Lund, Storvik & Hubin 2024, TMLR, arXiv 2305.03395.
        """
        kl: torch.Tensor = _KL.apply(self.mean, self.rho, self.logit, self, prior_std)
        return kl


class _KL(torch.autograd.Function):
    """The closed form of ``SpikeAndSlab.kl`` and its gradients, written by hand for speed.

    With g the KL of the slab and p the standard deviation of its prior, the gradients are a mean/p^2 in
    the mean, a (std/p^2 - 1/std) dstd/drho in rho, and a (1 - a) (g + logit(a) - logit(pi)) in the logit.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mean: torch.Tensor,
        rho: torch.Tensor,
        logit: torch.Tensor,
        posterior: SpikeAndSlab,
        prior_std: float,
    ) -> torch.Tensor:
        std, prior = posterior.std, posterior.prior_inclusion
        ctx.scale_map, ctx.precision, ctx.prior_logit = (
            SCALE_MAPS[posterior.scale_map], prior_std**-2, _logit(prior),
        )  # fmt: skip
        slab = (std.square() + mean.square()).mul_(0.5 * ctx.precision).sub_(std.log())
        slab.add_(math.log(prior_std) - 0.5)
        ctx.save_for_backward(mean, rho, std, logit, slab)
        # logarithms are taken of the logit: a or 1 - a may round to 0, whose logarithm is infinite
        included = F.logsigmoid(logit).add_(slab).sub_(math.log(prior)).mul_(logit.sigmoid())
        excluded = F.logsigmoid(-logit).sub_(math.log1p(-prior)).mul_(torch.sigmoid(-logit))
        return (included + excluded).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mean, rho, std, logit, slab = ctx.saved_tensors
        inclusion = logit.sigmoid().mul_(grad)
        grad_mean = (inclusion * mean).mul_(ctx.precision)
        slope = (std * ctx.precision).sub_(std.reciprocal()).mul_(ctx.scale_map.slope(rho, std))
        slope = slope.mul_(inclusion)
        grad_logit = (slab + logit).sub_(ctx.prior_logit).mul_(inclusion).mul_(torch.sigmoid(-logit))
        return grad_mean, slope, grad_logit, None, None


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)
