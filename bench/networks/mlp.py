"""Build a multilayer perceptron."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from bench.networks.base import Network, NetworkOptions
from bench.networks.initialisation import he_normal
from methods.base import Task
from methods.core.options import option


@dataclass(frozen=True)
class MLPOptions(NetworkOptions):
    """Options of ``mlp``."""

    hidden: tuple[int, ...] = option((256, 256), "units of each hidden layer", within="[1, inf)")


class MLP(Network):
    """Fully connected layers with ReLU between them, on flattened inputs of any shape."""

    name = "mlp"
    Options = MLPOptions

    def build(self, task: Task) -> nn.Module:
        """Build layers ``fc1``, ``fc2``, … and ``classifier`` with He-normal weights and zero biases."""
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        width = math.prod(task.input_shape)
        for number, units in enumerate(self.options.hidden, start=1):
            layers[f"fc{number}"] = nn.Linear(width, units)
            layers[f"relu{number}"] = nn.ReLU()
            width = units
        layers["classifier"] = nn.Linear(width, task.classes)
        return he_normal(nn.Sequential(layers))
