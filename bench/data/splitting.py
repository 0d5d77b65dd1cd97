"""Split labelled examples into stratified parts, and compute the statistics that standardise inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

# So many features are read at a time, so that a wide table needs no copy in double precision.
_FEATURES = 4096


def stratified(labels: torch.Tensor, sizes: Sequence[int], generator: torch.Generator) -> list[torch.Tensor]:
    """Draw disjoint random parts in which classes have the same proportions.

    Each part takes each class in proportion to the examples left before it, up to rounding. The rounding does
    not depend on the seed, so that all seeds have the same class counts.

    Parameters
    ----------
    labels
        Integer labels (N,).
    sizes
        Number of examples of each part.
    generator
        Source of randomness.

    Returns
    -------
    list
        Indices of the examples of each part, and last those of the remaining examples, in random order.
    """
    order = torch.randperm(len(labels), generator=generator)
    # sorted by class, and in random order within a class, every k-th example is a stratified draw
    order = order[labels[order].argsort(stable=True)]
    parts = []
    for size in sizes:
        taken = torch.zeros(len(order), dtype=torch.bool)
        taken[torch.arange(size) * len(order) // size] = True
        parts.append(order[taken])
        order = order[~taken]
    return [part[torch.randperm(len(part), generator=generator)] for part in (*parts, order)]


def channel_statistics(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute mean and standard deviation of each channel of uint8 images (N, C, H, W).

    They come from a count of the 256 values, which is exact and needs no copy in floating point.

    Returns
    -------
    tuple
        Mean and standard deviation in the units of ``inputs``, float32, shape (1, C, 1, 1) each.
    """
    counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in inputs.unbind(1)]).double()
    shares, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64)
    mean = shares @ values
    variance = (shares * (values - mean[:, None]).square()).sum(1)
    return mean.float().view(1, -1, 1, 1), variance.sqrt().float().view(1, -1, 1, 1)


@lru_cache(maxsize=1)  # a tensor is itself alone as a key
def feature_statistics(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute mean and standard deviation of each feature of inputs (N, ...), and remember the last ones.

    Returns
    -------
    tuple
        Mean and standard deviation (with N as divisor) in the units of ``inputs``, float64, on the CPU, with
        the shape of one example.
    """
    means, stds = [], []
    for part in inputs.flatten(1).split(_FEATURES, dim=1):
        values = part.cpu().double()
        means.append(values.mean(0))
        stds.append(values.std(0, correction=0))
    return torch.cat(means).reshape(inputs.shape[1:]), torch.cat(stds).reshape(inputs.shape[1:])
