"""Maps from an unconstrained parameter rho to a standard deviation sigma > 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


class ScaleMap(NamedTuple):
    """Element-wise ``std(rho)``, its inverse ``rho(std)``, and the derivative dstd/drho.

    Parameters
    ----------
    std, rho
        The map and its inverse.
    slope
        The derivative as a new tensor, from rho and std.
    is_even
        Whether -rho has the scale of rho; the inverse is then the one that is not negative.
    """

    std: Callable[[torch.Tensor], torch.Tensor]
    rho: Callable[[torch.Tensor], torch.Tensor]
    slope: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    is_even: bool = False


def _softplus_inverse(std: torch.Tensor) -> torch.Tensor:
    # log(expm1(std)), in a form that neither overflows for large std nor cancels for small std
    return std + torch.log(-torch.expm1(-std))


def _softplus_slope(rho: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    # the derivative of softplus is the logistic function of rho, which is 1 - exp(-softplus(rho))
    return torch.expm1(-std).neg_()


SCALE_MAPS = {
    "softplus": ScaleMap(F.softplus, _softplus_inverse, _softplus_slope),
    "exp": ScaleMap(torch.exp, torch.log, lambda rho, std: std.clone()),
    "abs": ScaleMap(torch.abs, torch.clone, lambda rho, std: rho.sign(), is_even=True),
}
