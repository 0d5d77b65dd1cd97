"""The scale of the Gaussian prior, and the weight of the KL term over training."""

from __future__ import annotations

from dataclasses import dataclass

from methods.base import Progress
from methods.core.options import option
from methods.families.finetuning import FINETUNE


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
        0.5, "share of the epochs in which the weight of the KL rises to its full value", within="[0, 1]"
    )


def kl_weight(options: KLOptions, progress: Progress) -> float:
    """Return the weight of the KL, kappa * w(e) / N, in epoch e of N training examples."""
    return options.kl_factor * kl_rise(options, progress) / progress.examples


def kl_rise(options: KLOptions, progress: Progress) -> float:
    """Return w(e), which rises in equal steps from epoch to epoch and is 1 after the warm-up.

    In fine-tuning it is 1 from the start.
    """
    if progress.stage == FINETUNE:
        return 1.0
    warmup = options.kl_warmup * progress.epochs
    return min(progress.epoch / warmup, 1.0) if warmup > 0 else 1.0
