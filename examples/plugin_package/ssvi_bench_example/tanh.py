"""A network with one hidden layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from bench.networks import Network, NetworkOptions
from methods import Task, option


@dataclass(frozen=True)
class TanhOptions(NetworkOptions):
    """Size of the network."""

    units: int = option(64, "units of the hidden layer", within="[1, inf)")


class Tanh(Network):
    """One hidden layer of tanh units, on flattened inputs of any shape."""

    name = "tanh"
    Options = TanhOptions

    def build(self, task: Task) -> nn.Module:
        """Return a linear layer, tanh, and a linear classifier."""
        inputs, units = math.prod(task.input_shape), self.options.units
        hidden, classifier = nn.Linear(inputs, units), nn.Linear(units, task.classes)
        return nn.Sequential(nn.Flatten(), hidden, nn.Tanh(), classifier)
