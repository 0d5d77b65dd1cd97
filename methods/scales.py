"""How an unconstrained parameter rho becomes a standard deviation sigma > 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


class ScaleMap(NamedTuple):
    """``std(rho)`` and its inverse ``rho(std)``, element-wise."""

    std: Callable[[torch.Tensor], torch.Tensor]
    rho: Callable[[torch.Tensor], torch.Tensor]


def _softplus_inverse(std: torch.Tensor) -> torch.Tensor:
    # log(expm1(std)), written so that it neither overflows for large nor cancels for small std
    return std + torch.log(-torch.expm1(-std))


SCALE_MAPS = {
    "softplus": ScaleMap(F.softplus, _softplus_inverse),
    "exp": ScaleMap(torch.exp, torch.log),
}
