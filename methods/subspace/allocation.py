"""How many weights each layer of the sparsifiable set keeps.

Every rule gives the same total: what is left when floor(sparsity * n) of each layer's n go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch

from methods.core.errors import UserError

RULES = {
    "uniform": "the same share of every layer (released)",
    "erk": "Erdős–Rényi kernel: a layer's density in proportion to the sum of its kernel's dimensions over "
    "their product",
    "global": "one budget for the whole network: drawn or ranked jointly, and moved between layers",
}


def allocate(
    rule: str, kernels: Mapping[str, torch.Size], sparsity: float, generator: torch.Generator
) -> dict[str, int]:
    """Active weights a layer, by name, under one of ``RULES``; ``generator`` decides in ``global``.

    Raises ``UserError`` when a layer would be left without a weight, or there is no layer.
    """
    if not kernels:
        raise UserError(f"sparsity {sparsity}: there is no layer to make sparse")
    if rule == "erk":
        return erk(kernels, sparsity)
    return joint(kernels, sparsity, generator) if rule == "global" else uniform(kernels, sparsity)


def uniform(kernels: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Active weights a layer when floor(sparsity * n) of its n are removed (the released SSVI code).

    Raises ``UserError`` when a layer would be left without a weight.
    """
    counts = {name: _left(shape.numel(), sparsity) for name, shape in kernels.items()}
    _require_one(counts, kernels, sparsity)
    return counts


def erk(kernels: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Densities of an Erdős–Rényi kernel: epsilon * sum(dimensions) / product(dimensions), 1 at most.

    Mocanu et al. 2018, Evci et al. 2020 (appendix). A layer that would exceed 1 is dense, and
    epsilon is solved for again; counts are rounded by largest remainder, the earlier layer first.
    Raises ``UserError`` when a layer would be left without a weight.
    """
    budget, full = total(kernels, sparsity), set[str]()
    while True:
        scaled = {name: sum(shape) for name, shape in kernels.items() if name not in full}
        rest = budget - sum(kernels[name].numel() for name in full)
        # of integers, so that no rounding decides; epsilon * sum(dimensions) is the count itself
        epsilon = Fraction(rest, sum(scaled.values())) if scaled else Fraction(0)
        above = {name for name, dimensions in scaled.items() if epsilon * dimensions > kernels[name].numel()}
        if not above:
            break
        full |= above
    exact = {
        name: epsilon * scaled[name] if name in scaled else Fraction(shape.numel())
        for name, shape in kernels.items()
    }
    counts = {name: math.floor(count) for name, count in exact.items()}
    by_remainder = sorted(counts, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: budget - sum(counts.values())]:
        counts[name] += 1
    _require_one(counts, kernels, sparsity)
    return counts


def joint(kernels: Mapping[str, torch.Size], sparsity: float, generator: torch.Generator) -> dict[str, int]:
    """What falls to each layer when the total is drawn uniformly from all coordinates of all layers.

    A layer without a weight is given one of the layer that has most. Raises ``UserError`` when there
    are fewer weights than layers.
    """
    budget, sizes = total(kernels, sparsity), [shape.numel() for shape in kernels.values()]
    if budget < len(sizes):
        raise UserError(f"sparsity {sparsity} leaves {budget} weights for {len(sizes)} layers")
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    counts = np.random.default_rng(seed).multivariate_hypergeometric(sizes, budget, method="marginals")
    while not counts.all():
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return dict(zip(kernels, counts.tolist(), strict=True))


def total(kernels: Mapping[str, torch.Size], sparsity: float) -> int:
    """The weights that are active in all layers together, whatever the rule."""
    return sum(_left(shape.numel(), sparsity) for shape in kernels.values())


def _left(size: int, sparsity: float) -> int:
    # 0.9 * 10 is 9.000000000000002 in some roundings of the product: not 10 removed
    return size - math.floor(sparsity * size + 1e-9)


def _require_one(counts: Mapping[str, int], kernels: Mapping[str, torch.Size], sparsity: float) -> None:
    for name, count in counts.items():
        if count < 1:
            size = kernels[name].numel()
            raise UserError(f"sparsity {sparsity} leaves layer {name!r} ({size} weights) without a weight")
