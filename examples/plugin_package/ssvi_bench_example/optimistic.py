"""A removal criterion that keeps uncertain weights: an upper confidence bound of the magnitude."""

from __future__ import annotations

import torch

from methods import Criterion, Moments, Style


class Optimistic(Criterion):
    """Keep the weights that may be large: an upper confidence bound of the magnitude."""

    name = "optimistic"
    style = Style("Optimistic", hue="#0B6E4F", hue_dark="#4FD1A5", marker="star", dash="dot", order=50)
    formula = "|mean| + lambda std: an upper confidence bound of the magnitude"
    latex = r"|\mu| + \lambda \sigma"
    source = "after Auer et al., Machine Learning 2002"
    uses_lam = True

    def score(self, moments: Moments) -> torch.Tensor:
        return moments.a + moments.s
