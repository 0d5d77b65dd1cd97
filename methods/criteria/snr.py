"""The signal-to-noise ratio of a weight."""

from __future__ import annotations

import torch

from methods.core.style import Style
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments


class Snr(Criterion):
    """Keep the weights whose mean is largest in units of their standard deviation."""

    name = "snr"
    style = Style("snr", hue="#414AAF", hue_dark="#5B86E8", marker="circle", dash="dash", order=1)
    formula = "|mean| / std: the signal-to-noise ratio"
    latex = r"\mathrm{SNR}(w) = |\mu| / \sigma"
    source = "Graves, NeurIPS 2011; Blundell et al., ICML 2015; Li et al., ICLR 2024 (arXiv 2402.11025)"

    def score(self, moments: Moments) -> torch.Tensor:
        return moments.z
