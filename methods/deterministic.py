"""The network itself, trained by maximum likelihood."""

from __future__ import annotations

from methods.base import Method
from methods.core.style import Style


class Deterministic(Method):
    """One set of weights, trained on the cross-entropy: the network without its Bayesian part.

    With weight decay, if the recipe has it, the weights are a MAP estimate. The mean network is the network
    itself, and so is the only draw; predictions therefore have no mutual information.
    """

    name = "deterministic"
    style = Style("Deterministic", hue="#690070", hue_dark="#C1095E", marker="x", dash="longdash", order=90)
