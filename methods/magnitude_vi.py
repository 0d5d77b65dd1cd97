"""Dense VI pruned by the magnitude of its means."""

from __future__ import annotations

from methods.core.style import Style
from methods.families.pruned import PrunedVI


class MagnitudeVI(PrunedVI):
    """Dense VI, then pruning of the weights of smallest |mean|, then fine-tuning."""

    name = "magnitude_vi"
    style = Style(
        "Magnitude-pruned VI",
        hue="#BF6AFF",
        hue_dark="#CC79E1",
        marker="triangle-up",
        dash="dashdot",
        order=30,
    )
    criterion = "abs_mean"
