"""Dense VI pruned by the signal-to-noise ratio of its weights (Graves 2011; Blundell et al. 2015)."""

from __future__ import annotations

from methods.core.style import Style
from methods.families.pruned import PrunedVI


class SNRVI(PrunedVI):
    """Dense VI, then pruning of the weights of smallest |mean| / std, then fine-tuning."""

    name = "snr_vi"
    style = Style(
        "SNR-pruned VI", hue="#8D9451", hue_dark="#C3FFBE", marker="triangle-down", dash="dashdot", order=31
    )
    criterion = "snr"
