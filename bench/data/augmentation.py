"""Crop and mirror a whole batch of images at random, on the device that holds it."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def crop_and_flip(images: torch.Tensor, padding: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """Pad each image with zeros, crop it to its size at a random place, and mirror it half the time.

    This does for all images in one gather what torchvision's RandomCrop and RandomHorizontalFlip do for one.

    Parameters
    ----------
    images
        Shape (N, C, H, W), any dtype.
    padding
        Number of zeros on each side, in pixels.
    flip
        Whether to mirror each image with probability 1/2.
    generator
        Source of randomness. It may be on another device than ``images``: only three numbers an image are
        copied, without waiting for them.

    Returns
    -------
    Tensor
        Same shape, dtype and device as ``images``.
    """
    count, channels, height, width = images.shape
    device, drawn_on = images.device, generator.device
    corners = torch.randint(2 * padding + 1, (2, count, 1), generator=generator, device=drawn_on)
    top, left = corners.to(device, non_blocking=True)
    rows = top + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(count, width)
    if flip:
        mirrored = torch.rand((count, 1), generator=generator, device=drawn_on) < 0.5
        columns = torch.where(mirrored.to(device, non_blocking=True), width - 1 - columns, columns)
    padded = F.pad(images, (padding,) * 4)
    stride = width + 2 * padding
    pixels = (rows[:, :, None] * stride + (left + columns)[:, None, :]).view(count, 1, -1)
    return padded.flatten(2).gather(2, pixels.expand(count, channels, -1)).view(images.shape)
