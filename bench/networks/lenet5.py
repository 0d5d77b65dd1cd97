"""Build LeNet-5 in its modern form, with ReLU and max-pooling."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from bench.networks.base import Network, image_shape
from bench.networks.initialisation import he_normal
from methods.base import Task
from methods.core.errors import UserError


class LeNet5(Network):
    """Two 5x5 convolutions with max-pooling and three linear layers, with ReLU (after LeCun et al. 1998).

    Images smaller than 32x32 are padded to 32, as the 28x28 digits of the original were.
    """

    name = "lenet5"

    def build(self, task: Task) -> nn.Module:
        """Build layers ``conv1``, ``conv2``, ``fc1``, ``fc2`` and ``classifier``; biases start at zero.

        Weights are He-normal.

        Raises
        ------
        UserError
            Inputs are not images, or are larger than 256x256.
        """
        channels, height, width = image_shape(self.name, task)
        if max(height, width) > 256:
            raise UserError(f"network lenet5: takes images up to 256x256, got {height}x{width}")
        padding = (max(0, (32 - height) // 2), max(0, (32 - width) // 2))
        # each stage is a 5x5 convolution without padding (size - 4), then pooling to half the size
        rows, columns = (
            ((size + 2 * p - 4) // 2 - 4) // 2 for size, p in ((height, padding[0]), (width, padding[1]))
        )
        return he_normal(
            nn.Sequential(
                OrderedDict(
                    conv1=nn.Conv2d(channels, 6, 5, padding=padding),
                    relu1=nn.ReLU(),
                    pool1=nn.MaxPool2d(2),
                    conv2=nn.Conv2d(6, 16, 5),
                    relu2=nn.ReLU(),
                    pool2=nn.MaxPool2d(2),
                    flatten=nn.Flatten(),
                    fc1=nn.Linear(16 * rows * columns, 120),
                    relu3=nn.ReLU(),
                    fc2=nn.Linear(120, 84),
                    relu4=nn.ReLU(),
                    classifier=nn.Linear(84, task.classes),
                )
            )
        )
