"""The magnitude of the mean."""

from __future__ import annotations

import torch

from methods.core.style import Style
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments


class AbsMean(Criterion):
    """Keep the weights of largest mean, whatever their uncertainty."""

    name = "abs_mean"
    style = Style("abs_mean", hue="#3A3A3A", hue_dark="#E0E0E0", marker="square", dash="solid", order=0)
    formula = "|mean|: the magnitude"
    latex = r"|\mu|"
    source = "Li et al., ICLR 2024 (arXiv 2402.11025)"

    def score(self, moments: Moments) -> torch.Tensor:
        return moments.a
