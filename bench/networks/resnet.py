"""Build residual networks for small images, such as ResNet-18."""

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
class ResNetOptions(NetworkOptions):
    """Options of ``resnet18``."""

    width: int = option(
        64, "channels of the first stage; each further stage has twice as many", within="[1, inf)"
    )
    blocks: tuple[int, ...] = option((2, 2, 2, 2), "residual blocks of each stage", within="[1, inf)")


class ResNet18(Network):
    """ResNet-18 for 32x32 images: a 3x3 stem without pooling, as in the SSVI paper (He et al. 2016).

    Stages of two-convolution blocks; every stage but the first halves the image.
    """

    name = "resnet18"
    Options = ResNetOptions

    def build(self, task: Task) -> nn.Module:
        """Build layers ``conv1``, ``bn1``, ``stage1``, … and ``classifier`` with He-normal weights.

        Raises
        ------
        UserError
            Inputs are not images, or ``blocks`` is empty.
        """
        channels, *_ = image_shape(self.name, task)
        if not self.options.blocks:
            raise UserError("network resnet18: blocks: needs at least one stage, got an empty list")
        width = self.options.width
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=nn.Conv2d(channels, width, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu1=nn.ReLU(),
        )
        widths = [width * 2**stage for stage in range(len(self.options.blocks))]
        layers |= stages(Block, width, widths, self.options.blocks)
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["classifier"] = nn.Linear(widths[-1], task.classes)
        return he_normal(nn.Sequential(layers))


class Block(nn.Module):
    """Apply two 3x3 convolutions with batch norm, and add the input or a 1x1 projection of it."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(inside, outside, 1, stride=stride, bias=False), bn=nn.BatchNorm2d(outside)
                )
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inside, H, W) to (N, outside, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))
