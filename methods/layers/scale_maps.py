"""Maps from an unconstrained parameter rho to a standard deviation sigma > 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


class ScaleMap(NamedTuple):
    """Element-wise ``std(rho)``, its inverse ``rho(std)``, and the derivative dstd/drho as ``slope(std)``."""

    std: Callable[[torch.Tensor], torch.Tensor]
    rho: Callable[[torch.Tensor], torch.Tensor]
    slope: Callable[[torch.Tensor], torch.Tensor]


def _softplus_inverse(std: torch.Tensor) -> torch.Tensor:
    # log(expm1(std)), in a form that neither overflows for large std nor cancels for small std
    return std + torch.log(-torch.expm1(-std))


def _softplus_slope(std: torch.Tensor) -> torch.Tensor:
    # the derivative of softplus is the logistic function of rho, which is 1 - exp(-softplus(rho))
    return torch.expm1(-std).neg_()


SCALE_MAPS = {
    "softplus": ScaleMap(F.softplus, _softplus_inverse, _softplus_slope),
    "exp": ScaleMap(torch.exp, torch.log, torch.clone),
}
