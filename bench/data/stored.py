"""Turn numbers that were computed from stored inputs into stored inputs again."""

from __future__ import annotations

import torch


def as_stored(values: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Return ``values`` with dtype and device of ``inputs``; integers are rounded and kept in their range."""
    if not inputs.is_floating_point():
        limits = torch.iinfo(inputs.dtype)
        values = values.round().clamp(limits.min, limits.max)
    return values.to(inputs.device, inputs.dtype)
