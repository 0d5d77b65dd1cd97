"""Build a small vision transformer of ordinary linear layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from bench.networks.base import Network, NetworkOptions, image_shape
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option


@dataclass(frozen=True)
class ViTOptions(NetworkOptions):
    """Options of ``vit``."""

    patch: int = option(4, "side of a square patch, in pixels", within="[1, inf)")
    width: int = option(192, "size of a token", within="[1, inf)")
    depth: int = option(6, "blocks", within="[1, inf)")
    heads: int = option(3, "attention heads; they divide the width", within="[1, inf)")
    ratio: int = option(2, "hidden units of a block's MLP, as a multiple of the width", within="[1, inf)")


class ViT(Network):
    """Vision transformer with pre-norm blocks, learned positions and mean pooling (Dosovitskiy et al. 2021).

    Patches are cut out first and embedded by a linear layer; query, key and value have a linear layer each.
    """

    name = "vit"
    Options = ViTOptions

    def build(self, task: Task) -> nn.Module:
        """Build layers ``embed``, ``blocks``, ``norm`` and ``classifier``.

        Weights are drawn from N(0, 0.02^2), truncated; biases are zero.

        Raises
        ------
        UserError
            Patches do not tile the image, or the number of heads does not divide the width.
        """
        channels, height, width = image_shape(self.name, task)
        options = self.options
        if height % options.patch or width % options.patch:
            raise UserError(
                f"network vit: patch: {options.patch} does not divide the image, {height}x{width}"
            )
        if options.width % options.heads:
            raise UserError(f"network vit: heads: {options.heads} does not divide the width, {options.width}")
        tokens = height // options.patch * (width // options.patch)
        network = Transformer(options, channels, tokens, task.classes)
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        return network


class Transformer(nn.Module):
    """Map images (N, C, H, W) to logits (N, classes) through T tokens (N, T, width)."""

    def __init__(self, options: ViTOptions, channels: int, tokens: int, classes: int) -> None:
        super().__init__()
        self.patch = options.patch
        self.embed = nn.Linear(channels * options.patch**2, options.width)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, options.width))
        self.blocks = nn.Sequential(
            *(Block(options.width, options.heads, options.ratio) for _ in range(options.depth))
        )
        self.norm = nn.LayerNorm(options.width)
        self.classifier = nn.Linear(options.width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, classes)."""
        patches = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        tokens = self.blocks(self.embed(patches) + self.position)
        return self.classifier(self.norm(tokens).mean(1))


class Block(nn.Module):
    """Add self-attention and then an MLP to the tokens; each takes normalised tokens."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, T, width) to the same shape."""
        normed = self.norm1(x)
        query, key, value = (self._split(layer(normed)) for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        """Reshape (N, T, width) to (N, heads, T, width / heads)."""
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
