"""Build classifiers of torchvision with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.networks.base import Network, NetworkOptions, image_shape
from methods.base import Task
from methods.core.errors import UserError, meant
from methods.core.options import option


@dataclass(frozen=True)
class TorchvisionOptions(NetworkOptions):
    """Options of ``torchvision``."""

    model: str = option("resnet18", "any classifier of torchvision.models, by the name of its function")


class Torchvision(Network):
    """A classifier of torchvision, as for ImageNet, with a classifier of the task's classes.

    Images with one channel are repeated to three; vision transformers are built for the task's image size.
    """

    name = "torchvision"
    Options = TorchvisionOptions

    def build(self, task: Task) -> nn.Module:
        """Build torchvision's own modules with its initial weights.

        For images with one channel the names of its layers start with ``model.``.

        Raises
        ------
        UserError
            The model is unknown or does not fit the size of images, or inputs are not images of one or three
            channels.
        """
        from torchvision import models  # imported here: it takes seconds, and other networks do not need it

        channels, height, width = image_shape(self.name, task)
        if channels not in (1, 3):
            raise UserError(f"network torchvision: takes images of 1 or 3 channels, got {channels}")
        valid = models.list_models(module=models)
        model = self.options.model
        if model not in valid:
            raise UserError(
                f"network torchvision: unknown model {model!r}{meant(model, valid)}; "
                "valid: resnet18, vgg11_bn, vit_b_16, … (torchvision.models.list_models)"
            )
        builder = models.get_model_builder(model)
        extra: dict[str, Any] = {}
        if model.startswith("vit_"):
            if height != width:
                raise UserError(f"network torchvision: {model} takes square images, got {height}x{width}")
            extra["image_size"] = height
        if model in ("googlenet", "inception_v3"):
            # without auxiliary outputs a training pass returns only logits; leaving out init_weights warns
            extra |= {"aux_logits": False, "init_weights": True}
        try:
            network: nn.Module = builder(weights=None, num_classes=task.classes, **extra)
        except AssertionError as error:  # a transformer whose patches do not tile the image
            raise UserError(f"network torchvision: {model} for {height}x{width}: {error}") from None
        return network if channels == 3 else Grey(network)


class Grey(nn.Module):
    """Apply ``model``, which takes three channels, to images with one channel by repeating it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, 1, H, W) to (N, classes)."""
        return self.model(x.expand(-1, 3, -1, -1))
