"""Build wide residual networks with pre-activation, such as WRN-28-10."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from bench.networks.base import Network, NetworkOptions, image_shape
from bench.networks.initialisation import he_normal
from bench.networks.residual import stages
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option


@dataclass(frozen=True)
class WideResNetOptions(NetworkOptions):
    """Options of ``wide_resnet``: WRN-28-10 by default."""

    depth: int = option(28, "convolutions on the longest path; 6 n + 4 for blocks of two", within="[10, inf)")
    widen: int = option(10, "times 16, 32 and 64 channels", within="[1, inf)")


class WideResNet(Network):
    """WRN-depth-widen (Zagoruyko and Komodakis 2016): three stages of pre-activation blocks, no dropout."""

    name = "wide_resnet"
    Options = WideResNetOptions

    def build(self, task: Task) -> nn.Module:
        """Build layers ``conv1``, ``stage1`` to ``stage3``, ``bn`` and ``classifier`` with He-normal weights.

        Raises
        ------
        UserError
            Inputs are not images, or the depth is not 6 n + 4.
        """
        channels, *_ = image_shape(self.name, task)
        count, rest = divmod(self.options.depth - 4, 6)
        if rest:
            raise UserError(
                f"network wide_resnet: depth: {self.options.depth} is not 6 n + 4: 10, 16, 22, 28, …"
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        )
        widths = [16 * 2**stage * self.options.widen for stage in range(3)]
        layers |= stages(Block, 16, widths, [count] * 3)
        layers["bn"] = nn.BatchNorm2d(widths[-1])
        layers["relu"] = nn.ReLU()
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["classifier"] = nn.Linear(widths[-1], task.classes)
        return he_normal(nn.Sequential(layers))


class Block(nn.Module):
    """Apply batch norm, ReLU and a 3x3 convolution twice, and add the input or a projection of it."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inside, H, W) to (N, outside, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))
