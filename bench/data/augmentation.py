"""Random crops and mirror images of a whole batch at once, where it lies."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def crop_and_flip(images: torch.Tensor, padding: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """Each image padded by ``padding`` zeros, cropped to its size at random, and mirrored half the time.

    images: (N, C, H, W), any dtype; the result has its shape and dtype. What torchvision's
    RandomCrop and RandomHorizontalFlip do to one image, in one gather for all. Random numbers
    come from ``generator``, on its device, so that a seed means the same crops on every device.
    """
    count, channels, height, width = images.shape
    device = generator.device
    top, left = torch.randint(2 * padding + 1, (2, count, 1), generator=generator, device=device)
    rows = top + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(count, width)
    if flip:
        mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    padded = F.pad(images, (padding,) * 4)
    stride = width + 2 * padding
    pixels = (rows[:, :, None] * stride + (left + columns)[:, None, :]).view(count, 1, -1)
    pixels = pixels.to(images.device, non_blocking=True).expand(count, channels, height * width)
    return padded.flatten(2).gather(2, pixels).view(images.shape)
