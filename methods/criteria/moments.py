"""The quantities that criteria are computed from, for q = N(mean, std^2), without cancellation or overflow.

With a = |mean|, z = a / std and s = lambda * std, every criterion of Li et al. (ICLR 2024, arXiv 2402.11025)
has a closed form. The textbook expressions of the exponential criteria subtract numbers that agree to six
digits at typical scales (std = 6e-4, lambda = 1): in float32, a sixth of the scores are NaN or infinite, and
the others are in the wrong order. Therefore everything is computed in float64, for the active weights only,
and from formulas in which these differences are already taken.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch

# Below this s, expansions in s are more accurate in float64 than the exact forms.
_SMALL = 5e-6
# From this z on, g(z) < 1e-199 is negligible beside every term to which it is added.
_FAR = 30.0


class Moments:
    """The quantities that criteria are computed from, each computed at most once, in float64.

    Every attribute but ``lam`` has the shape of the weights: ``mean``, ``std``, a = |mean|, z = a / std,
    s = lambda * std, and those below. Criteria share the tensors, so none may write to them.

    Parameters
    ----------
    mean, std
        Mean and standard deviation of each weight, of one shape and any floating type.
    lam
        lambda of the exponential criteria.

    Raises
    ------
    ValueError
        If an std or lambda is not positive.
    """

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, lam: float = 1.0) -> None:
        if not bool((std > 0).all()):
            raise ValueError("std must be positive everywhere")
        if not lam > 0:
            raise ValueError(f"lambda must be positive, got {lam!r}")
        self.lam = lam
        self._given = mean.detach()
        self.a, self.std = self._given.double().abs(), std.detach().double()
        self.z, self.s = self.a / self.std, lam * self.std

    @cached_property
    def mean(self) -> torch.Tensor:
        """The means, with their signs."""
        return self._given.double()

    @cached_property
    def normal_loss(self) -> torch.Tensor:
        """g(z) = phi(z) - z Phi(-z)."""
        # the scaled complementary error function gives Phi(-z) = phi(z) sqrt(pi/2) erfcx(z / sqrt 2)
        near = self.z.clamp(max=_FAR)
        density = torch.exp(-0.5 * near.square()) / math.sqrt(2 * math.pi)
        mills = math.sqrt(math.pi / 2) * torch.special.erfcx(near / math.sqrt(2))
        return torch.where(self.z < _FAR, density * (1 - near * mills), 0.0 * near)

    @cached_property
    def unit_variance_abs(self) -> torch.Tensor:
        """v(z) = Var|w| / std^2 = 1 - 4 g (z + g), from 1 - 2/pi at z = 0 up to 1."""
        loss = self.normal_loss
        return 1 - 4 * loss * (self.z.clamp(max=_FAR) + loss)  # the clamp avoids 0 * inf

    @cached_property
    def expected_abs(self) -> torch.Tensor:
        """E|w| = a + 2 std g(z)."""
        return self.a + 2 * self.std * self.normal_loss

    @cached_property
    def log_expected_exp(self) -> torch.Tensor:
        """ln E exp(lambda |w|).

        The exact form is lambda a + s^2/2 + log1p(R_1), but R_1 loses all digits as s -> 0. For small s, the
        first two cumulants are used: lambda E|w| + lambda^2 Var|w| / 2. The relative error is below 1e-10.
        """
        half = 0.5 * self.s.square()
        exact = self.lam * self.a + half + self._log_reflection_1
        if self._none_small:
            return exact
        cumulants = self.lam * self.expected_abs + half * self.unit_variance_abs
        return torch.where(self.s >= _SMALL, exact, cumulants)

    @cached_property
    def log_moment_ratio(self) -> torch.Tensor:
        """D = ln E exp(2 lambda |w|) - 2 ln E exp(lambda |w|) > 0.

        SNR(exp(lambda |w|)) = expm1(D)^(-1/2) decreases in D. The terms in lambda a cancel analytically:
        D = s^2 + log1p(R_2) - 2 log1p(R_1), which tends to s^2 v(z) as s -> 0. The relative error is largest
        at the switch between the two forms, about 2e-5, and falls as 1/s^2 beyond it (5e-8 from s = 1e-4 on).
        """
        square = self.s.square()
        exact = square + _log_reflection(self.z, self.s, 2) - 2 * self._log_reflection_1
        if self._none_small:
            return exact
        return torch.where(self.s >= _SMALL, exact, square * self.unit_variance_abs)

    @cached_property
    def _none_small(self) -> bool:
        """Whether no weight needs an expansion in s: the exact forms are then all that is computed."""
        return bool((self.s >= _SMALL).all())

    @cached_property
    def _log_reflection_1(self) -> torch.Tensor:
        return _log_reflection(self.z, self.s, 1)


def _log_reflection(z: torch.Tensor, s: torch.Tensor, k: int) -> torch.Tensor:
    """Compute log1p(R_k) with R_k = exp(-2ksz) Phi(ks - z) - Phi(-(z + ks)).

    R_k is the effect of folding the Gaussian at 0:
    E exp(k lambda |w|) = exp(k lambda a + k^2 s^2 / 2) (1 + R_k).
    """
    z = z.clamp(max=1e150)  # R_k vanishes at much smaller z; the clamp avoids 0 * inf
    shift = k * s
    # both factors are in [0, 1]: if one underflows, the product is negligible beside 1
    folded = torch.exp(-2 * shift * z) * torch.special.ndtr(shift - z)
    return torch.log1p(folded - torch.special.ndtr(-(z + shift)))
