"""The signal-to-noise ratio of the magnitude."""

from __future__ import annotations

import torch

from methods.core.style import Style
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments


class SnrAbs(Criterion):
    """Keep the weights whose magnitude has the largest mean in units of its standard deviation."""

    name = "snr_abs"
    style = Style("snr_abs", hue="#918CDA", hue_dark="#00D6FF", marker="cross", dash="dashdot", order=3)
    formula = "E|w| / sd|w|: ranks exactly as snr"
    latex = r"\mathrm{SNR}(|w|) = \mathbb{E}|w| / \sqrt{\mathrm{Var}|w|}"
    source = "Li et al., ICLR 2024 (arXiv 2402.11025)"
    ranks_as = "snr"
    because = "SNR(|w|) is strictly increasing in |mean|/std"

    def score(self, moments: Moments) -> torch.Tensor:
        # z increases with the ratio, and is exact also where the ratio is nearly constant
        return moments.z

    def value(self, moments: Moments) -> torch.Tensor:
        """Return SNR(|w|). It grows as z^4 from 1.3236 at z = 0, unresolved by float64 for z < 1e-3."""
        return (moments.z + 2 * moments.normal_loss) / moments.unit_variance_abs.sqrt()
