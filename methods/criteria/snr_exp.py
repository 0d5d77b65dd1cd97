"""The signal-to-noise ratio of the exponential of the magnitude."""

from __future__ import annotations

import torch

from methods.core.style import Style
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments


class SnrExp(Criterion):
    """Keep the weights of largest SNR(exp(lambda |w|)): close to those of smallest std, whatever the mean."""

    name = "snr_exp"
    style = Style(
        "snr_exp", hue="#B83280", hue_dark="#E73590", marker="pentagon", dash="longdashdot", order=5
    )
    formula = "E exp(lambda |w|) / sd exp(lambda |w|)"
    latex = r"\mathrm{SNR}(e^{\lambda|w|}) = \mathbb{E}\,e^{\lambda|w|} / \sqrt{\mathrm{Var}\,e^{\lambda|w|}}"
    source = "Li et al., ICLR 2024 (arXiv 2402.11025)"
    uses_lam = True

    def score(self, moments: Moments) -> torch.Tensor:
        # the ratio decreases in D, which does not overflow
        return -moments.log_moment_ratio

    def value(self, moments: Moments) -> torch.Tensor:
        return moments.log_moment_ratio.expm1().rsqrt()
