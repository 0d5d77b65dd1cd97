"""A posterior that includes each weight with a probability of its own: spike at zero and Gaussian slab."""

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

    Hubin & Storvik 2024 (Mathematics 12(6), 788). logit: a parameter of the shape of ``mean``, a its logistic
    function. mean, rho and ``std`` are those of the slab, and so is what ``at`` keeps: weights that are
    included for certain.
    """

    PARAMETERS = ("mean", "rho", "logit")
    logit: nn.Parameter

    def __init__(self, slab: DenseGaussian, inclusion: float, prior_inclusion: float) -> None:
        """slab: with probability ``inclusion`` it is included at first; ``prior_inclusion``: for ``kl``."""
        super().__init__(slab.shape, slab.mean, slab.std, slab.scale_map)
        self.rho.data.copy_(slab.rho)  # to the bit, not by way of std
        self.logit = nn.Parameter(torch.full_like(slab.mean, _logit(inclusion)))
        self.prior_inclusion = prior_inclusion

    @property
    def inclusion(self) -> torch.Tensor:
        """The probabilities a, differentiable in ``logit``."""
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
        """One draw of the weights, zero where they are not included; detached."""
        slab, inclusion = super().sample(generator), self.inclusion.detach()
        uniform = torch.rand(slab.shape, generator=generator, device=slab.device, dtype=slab.dtype)
        return slab.mul_(uniform < inclusion)

    def kl(self, prior_std: float) -> torch.Tensor:
        """KL from the prior of the same form, of weights and inclusions jointly; summed, in nats, a scalar.

        sum_i a_i KL(N(mean_i, std_i^2) || N(0, prior_std^2)) + KL(Bernoulli(a_i) || Bernoulli(pi)), with pi
        the prior's inclusion probability: Skaaret-Lund, Storvik & Hubin 2024 (TMLR, arXiv 2305.03395).
        """
        kl: torch.Tensor = _KL.apply(self.mean, self.rho, self.logit, self, prior_std)
        return kl


class _KL(torch.autograd.Function):
    """The closed form above and its gradients, by hand as those of ``Gaussian.kl`` are.

    With g the KL of the slab and p its prior's width: a mean/p^2, a (std/p^2 - 1/std) dstd/drho, and
    a (1 - a) (g + logit(a) - logit(pi)).
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
        ctx.save_for_backward(mean, std, logit, slab)
        # by the logit, as logarithms of a and 1 - a are lost where these are rounded to 0
        included = F.logsigmoid(logit).add_(slab).sub_(math.log(prior)).mul_(logit.sigmoid())
        excluded = F.logsigmoid(-logit).sub_(math.log1p(-prior)).mul_(torch.sigmoid(-logit))
        return (included + excluded).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        mean, std, logit, slab = ctx.saved_tensors
        inclusion = logit.sigmoid().mul_(grad)
        grad_mean = (inclusion * mean).mul_(ctx.precision)
        slope = (std * ctx.precision).sub_(std.reciprocal()).mul_(ctx.scale_map.slope(std)).mul_(inclusion)
        grad_logit = (slab + logit).sub_(ctx.prior_logit).mul_(inclusion).mul_(torch.sigmoid(-logit))
        return grad_mean, slope, grad_logit, None, None


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)
