"""Random crops and mirror images of a whole batch at once, where it lies."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def crop_and_flip(images: torch.Tensor, padding: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """Each image padded by ``padding`` zeros, cropped to its size at random, and mirrored half the time.

    images: (N, C, H, W), any dtype; the result has its shape and dtype. What torchvision's
    RandomCrop and RandomHorizontalFlip do to one image, in one gather for all. ``generator`` may be
    of another device: three numbers an image move from there, and nothing waits for them.
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
