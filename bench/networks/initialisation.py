"""Initialise weights in the way that several architectures share."""

from __future__ import annotations

from torch import nn


def he_normal(network: nn.Module) -> nn.Module:
    """Draw weights from N(0, 2 / fan-in), set biases to 0 (He et al. 2015), in place; return ``network``."""
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
