"""Alter test images until they belong to no class: their colours, parts or position are no longer right."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from bench.data import draws
from bench.data.base import Splits, Unknown
from bench.data.fingerprint import row_bytes


def inverted(top: int) -> Unknown:
    """Return the test images with dark and light exchanged; ``top`` is the largest value of a pixel."""
    return partial(_inverted, top)


def _inverted(top: int, splits: Splits) -> torch.Tensor:
    return top - splits.test.inputs.cpu()


def rotated(splits: Splits) -> torch.Tensor:
    """Return the test images turned by 90 degrees, anticlockwise."""
    return splits.test.inputs.cpu().rot90(1, (2, 3)).contiguous()


def patches_shuffled(parts: int) -> Unknown:
    """Return the test images cut in ``parts`` x ``parts`` equal patches, which change places at random.

    Colours and textures stay, and shapes are lost. The order of the patches is drawn from the image itself.

    Parameters
    ----------
    parts
        Number of patches along each side; it divides the size of images.
    """
    return partial(_patches_shuffled, parts)


def _patches_shuffled(parts: int, splits: Splits) -> torch.Tensor:
    images = splits.test.inputs.cpu()
    count, channels, height, width = images.shape
    h, w = height // parts, width // parts
    patches = images.view(count, channels, parts, h, parts, w).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(count, parts * parts, channels, h, w)
    keys = draws.keys(row_bytes(images), "patches_shuffled")
    order = np.argsort(draws.uniform(keys, parts * parts), axis=1)
    moved = patches[torch.arange(count)[:, None], torch.from_numpy(order)]
    moved = moved.view(count, parts, parts, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    return moved.reshape(images.shape)
