"""Stratified parts of a labelled set, and the statistics that inputs are standardised by."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_CHUNK = 4096


def stratified(labels: torch.Tensor, sizes: Sequence[int], generator: torch.Generator) -> list[torch.Tensor]:
    """Disjoint random parts of ``sizes`` examples, and last what is left: index tensors in random order.

    labels: integers (N,). Every part holds each class in proportion to what was left before it,
    up to rounding; how it is rounded does not depend on the seed, so class counts are the same for all.
    """
    order = torch.randperm(len(labels), generator=generator)
    # random within a class, classes side by side: every k-th example is then a stratified draw
    order = order[labels[order].argsort(stable=True)]
    parts = []
    for size in sizes:
        taken = torch.zeros(len(order), dtype=torch.bool)
        taken[torch.arange(size) * len(order) // size] = True
        parts.append(order[taken])
        order = order[~taken]
    return [part[torch.randperm(len(part), generator=generator)] for part in (*parts, order)]


def channel_statistics(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel of images (N, C, H, W): float32, (1, C, 1, 1) each.

    In the units of ``inputs``. Summed in float64, in chunks, so that a large set needs no large copy.
    """
    count = inputs.numel() // inputs.shape[1]
    total = torch.zeros(inputs.shape[1], dtype=torch.float64)
    for chunk in inputs.split(_CHUNK):
        total += chunk.double().sum(dim=(0, 2, 3))
    mean = (total / count).view(1, -1, 1, 1)
    squares = torch.zeros_like(total)
    for chunk in inputs.split(_CHUNK):
        squares += (chunk.double() - mean).square().sum(dim=(0, 2, 3))
    return mean.float(), (squares / count).sqrt().view(1, -1, 1, 1).float()
