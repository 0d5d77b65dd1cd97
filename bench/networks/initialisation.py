"""Initial weights that architectures share."""

from __future__ import annotations

from torch import nn


def he_normal(network: nn.Module) -> nn.Module:
    """Set every kernel to N(0, 2 / fan-in) and every bias to 0, in place (He et al. 2015); returns ``network``."""
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network
