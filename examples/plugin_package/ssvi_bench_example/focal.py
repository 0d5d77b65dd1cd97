"""A deterministic network under the focal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from methods import Batch, Method, Progress, Style


class Focal(Method):
    """A deterministic network that learns most from what it gets wrong: the focal loss (Lin et al. 2017)."""

    name = "focal"
    style = Style("Focal loss", hue="#8A6D00", hue_dark="#E3C94B", marker="star", dash="dashdot", order=95)

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        """Return the mean of (1 - p)^2 * (-ln p), where p is the probability of the label."""
        inputs, labels = batch
        entropy = F.cross_entropy(module(inputs), labels, reduction="none")
        return ((1 - torch.exp(-entropy)).square() * entropy).mean()
