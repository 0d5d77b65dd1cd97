"""Options and rule of a subspace that chooses its dimension in training (docs/adaptive-dimension.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from methods.core.errors import UserError
from methods.core.options import option
from methods.layers.posterior import Gaussian
from methods.subspace.resizing import Bounds

DIMENSIONS = {
    "fixed": "as many slots as sparsity says, from the first step to the last",
    "adaptive": "as many slots as earn their place in the free energy, from density_min to density_max of "
    "the weights; sparsity says how many there are at the start",
}


@dataclass(frozen=True)
class DimensionOptions:
    """Options for the number of slots."""

    dimension: str = option("fixed", "number of slots", choices=DIMENSIONS, neutral="fixed")
    density_min: float = option(
        0.001, "least share of active weights, for dimension adaptive", within="(0, 1]", neutral=0.001
    )
    density_max: float = option(
        0.2, "largest share of active weights, for dimension adaptive", within="(0, 1]", neutral=0.2
    )
    slot_price: float = option(
        2.0,
        "what a slot has to earn beyond its KL divergence, in nats, for dimension adaptive: minus the "
        "logarithm of the prior odds that a weight is active",
        within="[0, inf)",
        neutral=2.0,
    )


def evidence(posterior: Gaussian, prior_std: float) -> torch.Tensor:
    """Return what each slot earns, in nats: log p(0) - log q(0), of prior and posterior density at zero.

    To second order it is the free energy without the slot minus that with it, divided by the weight of the
    KL (Savage-Dickey density ratio; Dickey 1971): (mean^2 / std^2 - log(prior_std^2 / std^2)) / 2.
    """
    std = posterior.std
    ratio = posterior.mean.detach() / std
    return 0.5 * ratio.square() + (std / prior_std).log()


def promising(posterior: Gaussian, prior_std: float, kl_weight: float, price: float) -> float:
    """Return the |gradient| above which a coordinate promises to earn more than ``price`` nats.

    A slot of scale std has a loss of curvature kl_weight / std^2, so that a gradient g moves its mean to
    -g std^2 / kl_weight, where ``evidence`` is ((g std / kl_weight)^2 - log(prior_std^2 / std^2)) / 2.

    Parameters
    ----------
    posterior
        Posterior of the layer; a new slot gets about the mean of its scales.
    prior_std
        Standard deviation of the prior.
    kl_weight
        Weight of the KL in the loss at this step.
    price
        In nats.
    """
    std = float(posterior.std.mean())
    return kl_weight / std * math.sqrt(max(0.0, 2 * price + 2 * math.log(prior_std / std)))


def require_bounds(options: Any) -> None:
    """Raise ``UserError`` unless a subspace whose number of slots changes starts within its bounds."""
    low, high, start = options.density_min, options.density_max, 1 - options.sparsity
    if options.dimension == "adaptive" and (start == 1 or not low - 1e-9 <= start <= high + 1e-9):
        raise UserError(
            f"dimension adaptive: sparsity {options.sparsity:g} is a density of {start:.6g} at the start; "
            f"valid: densities below 1 from density_min, {low:g}, to density_max, {high:g}"
        )


def bounds(options: Any, slots: int, weights: int) -> Bounds:
    """Return the least and largest number of slots, in the ratio of the bounds to the density at the start.

    Parameters
    ----------
    options
        The bounds, and the sparsity at the start.
    slots
        Slots at the start, of a layer or of all together; their share of the weights may be another one than
        that of all layers.
    weights
        Number of weights.
    """
    ratio = slots / (1 - options.sparsity)
    least = min(max(round(options.density_min * ratio), 1), slots)
    return Bounds(least, max(min(round(options.density_max * ratio), weights), slots))
