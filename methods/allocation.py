"""How many weights each layer of the sparsifiable set keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from methods.errors import UserError


def uniform(kernels: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Active weights a layer when floor(sparsity * n) of its n are removed (the released SSVI code).

    Raises ``UserError`` when a layer would be left without a weight.
    """
    counts = {}
    for name, shape in kernels.items():
        size = shape.numel()
        # 0.9 * 10 is 9.000000000000002 in some roundings of the product: not 10 removed
        counts[name] = size - math.floor(sparsity * size + 1e-9)
        if counts[name] < 1:
            raise UserError(f"sparsity {sparsity} leaves layer {name!r} ({size} weights) without a weight")
    return counts
