"""The scale of the Gaussian prior, and the weight of the KL term over training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from methods.base import Progress
from methods.core.options import option
from methods.families.finetuning import FINETUNE

#: Shapes of w over training, with u the share of the warm-up that is over, at most 1.
KL_SHAPES = {
    "staircase": "u, in equal steps from epoch to epoch",
    "linear": "u, from minibatch to minibatch",
    "cosine": "(1 - cos(pi u)) / 2, from minibatch to minibatch",
    "cyclical": "u in each of kl_cycles equal parts of training, from minibatch to minibatch",
    "none": "1 from the start",
}


@dataclass(frozen=True)
class PriorOptions:
    """Option of the Gaussian prior."""

    prior_std: float = option(
        0.1, "standard deviation of the Gaussian prior of each weight", within="(0, inf)"
    )


@dataclass(frozen=True)
class KLOptions:
    """Options of the KL term."""

    kl_factor: float = option(
        0.02, "factor kappa of the KL term; below 1 the posterior is a cold one", within="[0, inf)"
    )
    kl_warmup: float = option(
        0.5,
        "share of the epochs, or of each cycle, in which the weight of the KL rises to its full value",
        within="[0, 1]",
    )
    kl_shape: str = option(
        "staircase",
        "how the weight of the KL rises in the warm-up",
        choices=KL_SHAPES,
        neutral="staircase",
    )
    kl_cycles: int = option(
        4, "cycles of the weight of the KL, for kl_shape cyclical", within="[1, inf)", neutral=4
    )


def kl_weight(options: KLOptions, progress: Progress) -> float:
    """Return the weight of the KL, kappa * w / N, at a minibatch of N training examples."""
    return options.kl_factor * kl_rise(options, progress) / progress.examples


def kl_rise(options: KLOptions, progress: Progress) -> float:
    """Return w, which rises to 1 in the warm-up by ``kl_shape``; in fine-tuning it is 1 from the start.

    References
    ----------
    Fu et al., Cyclical Annealing Schedule, NAACL 2019 (``cyclical``).
    """
    if progress.stage == FINETUNE or options.kl_shape == "none":
        return 1.0
    if options.kl_shape == "staircase":
        return _share(progress.epoch, options.kl_warmup * progress.epochs)
    if options.kl_shape == "cyclical":
        cycle = progress.steps / options.kl_cycles
        return _share((progress.step - 1) % cycle, options.kl_warmup * cycle)
    share = _share(progress.step, options.kl_warmup * progress.steps)
    return share if options.kl_shape == "linear" else (1 - math.cos(math.pi * share)) / 2


def _share(done: float, whole: float) -> float:
    return min(done / whole, 1.0) if whole > 0 else 1.0
