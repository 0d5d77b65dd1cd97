"""Stratified parts of a labelled set, and the statistics that inputs are standardised by."""

from __future__ import annotations

from collections.abc import Sequence

import torch


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
    """Mean and standard deviation of each channel of uint8 images (N, C, H, W): float32, (1, C, 1, 1) each.

    In the units of ``inputs``, from a count of the 256 values: exact, and no copy in floating point.
    """
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in inputs.unbind(1)]).double()
    shares, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]).square()).sum(1)
    return mean.float().view(1, -1, 1, 1), variance.sqrt().float().view(1, -1, 1, 1)
