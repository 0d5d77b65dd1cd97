"""The expected exponential of the magnitude."""

from __future__ import annotations

import torch

from methods.core.style import Style
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments


class MeanExp(Criterion):
    """Keep the largest exp(lambda |w|) on average: as mean_abs while lambda std, lambda |mean| are small."""

    name = "mean_exp"
    style = Style(
        "mean_exp", hue="#A19301", hue_dark="#F2CF00", marker="triangle-up", dash="longdash", order=4
    )
    formula = "E exp(lambda |w|)"
    latex = r"\mathbb{E}\,e^{\lambda |w|}"
    source = "Li et al., ICLR 2024 (arXiv 2402.11025)"
    uses_lam = True

    def score(self, moments: Moments) -> torch.Tensor:
        return moments.log_expected_exp
