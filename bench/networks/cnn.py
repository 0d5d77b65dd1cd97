"""Build a small convolutional network for images from 8x8 to 32x32."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from bench.networks.base import Network, NetworkOptions, image_shape
from bench.networks.initialisation import he_normal
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option


@dataclass(frozen=True)
class CNNOptions(NetworkOptions):
    """Options of ``cnn``."""

    channels: tuple[int, ...] = option(
        (32, 64, 64), "output channels of each 3x3 convolution", within="[1, inf)"
    )


class CNN(Network):
    """3x3 convolutions with batch norm and ReLU, global average pooling and a linear classifier.

    The second convolution has stride 2; all others keep the image size.
    """

    name = "cnn"
    Options = CNNOptions

    def build(self, task: Task) -> nn.Module:
        """Build layers ``conv1``, ``bn1``, … and ``classifier`` with He-normal weights and zero biases.

        Raises
        ------
        UserError
            Inputs are not images (C, H, W), or ``channels`` is empty.
        """
        width, *_ = image_shape(self.name, task)
        if not self.options.channels:
            raise UserError("network cnn: channels: needs at least one convolution, got an empty list")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, channels in enumerate(self.options.channels, start=1):
            stride = 2 if number == 2 else 1
            # no bias, since the batch norm that follows has a shift
            layers[f"conv{number}"] = nn.Conv2d(width, channels, 3, stride=stride, padding=1, bias=False)
            layers[f"bn{number}"] = nn.BatchNorm2d(channels)
            layers[f"relu{number}"] = nn.ReLU()
            width = channels
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["classifier"] = nn.Linear(width, task.classes)
        return he_normal(nn.Sequential(layers))
