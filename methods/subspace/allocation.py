"""Decide how many weights each sparsifiable layer keeps.

Every rule gives the same total: the sum of n - floor(sparsity * n) over layers of n weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch

from methods.core.errors import UserError

RULES = {
    "uniform": "the same share of every layer, as in the released SSVI code",
    "erk": "Erdős–Rényi kernel: a layer's density is proportional to the sum of its kernel's dimensions over "
    "their product",
    "global": "one budget for the whole network: weights of all layers are drawn or ranked together",
}


def allocate(
    rule: str, kernels: Mapping[str, torch.Size], sparsity: float, generator: torch.Generator
) -> dict[str, int]:
    """Return the number of active weights of each layer, by name, under one of ``RULES``.

    Parameters
    ----------
    rule
        Key of ``RULES``.
    kernels
        Kernel shapes, by layer name.
    sparsity
        Share of the weights to remove, in [0, 1).
    generator
        Draws the numbers of the rule ``global``; other rules do not use it.

    Raises
    ------
    UserError
        If there is no layer, or a layer would be left without a weight.
    """
    if not kernels:
        raise UserError(f"sparsity {sparsity}: there is no layer to make sparse")
    if rule == "erk":
        return erk(kernels, sparsity)
    return joint(kernels, sparsity, generator) if rule == "global" else uniform(kernels, sparsity)


def uniform(kernels: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Return the number of active weights of each layer if floor(sparsity * n) of its n are removed.

    This is what the released SSVI code does.

    Raises
    ------
    UserError
        If a layer would be left without a weight.
    """
    counts = {name: _left(shape.numel(), sparsity) for name, shape in kernels.items()}
    _require_one(counts, kernels, sparsity)
    return counts


def erk(kernels: Mapping[str, torch.Size], sparsity: float) -> dict[str, int]:
    """Return the number of active weights of each layer under an Erdős–Rényi kernel.

    The density of a layer is epsilon * sum(dimensions) / product(dimensions), at most 1. Layers that would
    exceed 1 are dense, and epsilon is computed again. Counts are rounded by largest remainder, the earlier
    layer first.

    Raises
    ------
    UserError
        If a layer would be left without a weight.

    References
    ----------
    Mocanu et al. 2018; Evci et al. 2020, appendix.
    """
    budget, full = total(kernels, sparsity), set[str]()
    while True:
        scaled = {name: sum(shape) for name, shape in kernels.items() if name not in full}
        rest = budget - sum(kernels[name].numel() for name in full)
        # fractions, so that rounding decides nothing; epsilon * sum(dimensions) is the number of weights
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
    """Return the number of active weights of each layer if all are drawn uniformly from all coordinates.

    A layer that would have no weight gets one from the layer that has most.

    Raises
    ------
    UserError
        If there are fewer weights than layers.
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
    """Return the number of active weights of all layers together, the same under every rule."""
    return sum(_left(shape.numel(), sparsity) for shape in kernels.values())


def _left(size: int, sparsity: float) -> int:
    # sparsity * size may be rounded to just below a whole number: floor would then be one too small
    return size - math.floor(sparsity * size + 1e-9)


def _require_one(counts: Mapping[str, int], kernels: Mapping[str, torch.Size], sparsity: float) -> None:
    for name, count in counts.items():
        if count < 1:
            size = kernels[name].numel()
            raise UserError(f"sparsity {sparsity} leaves layer {name!r} ({size} weights) without a weight")
