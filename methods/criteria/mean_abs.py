"""The expected magnitude."""

from __future__ import annotations

import torch

from methods.core.style import Style
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments


class MeanAbs(Criterion):
    """Keep the largest weights on average: credit for uncertainty where std is comparable to |mean|."""

    name = "mean_abs"
    style = Style("mean_abs", hue="#2B9F58", hue_dark="#19A549", marker="diamond", dash="dot", order=2)
    formula = "E|w|: the expected magnitude"
    latex = r"\mathbb{E}|w|"
    source = "Li et al., ICLR 2024 (arXiv 2402.11025)"

    def score(self, moments: Moments) -> torch.Tensor:
        return moments.expected_abs
