"""What sparse methods share: layers that stay dense, requested weights of each layer, a random subspace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from methods.core.options import option
from methods.layers import convert
from methods.subspace import allocation


@dataclass(frozen=True)
class RequestedSparsity:
    """How many weights are active."""

    sparsity: float = option(0.9, "share of the sparsifiable weights removed", within="[0, 1)")
    allocation: str = option(
        "uniform",
        "; ".join(f"{name}: {doc}" for name, doc in allocation.RULES.items()),
        choices=tuple(allocation.RULES),
        neutral="uniform",
    )


@dataclass(frozen=True)
class KeepDense:
    """What sparsity is not about."""

    keep_dense: tuple[str, ...] = option(
        (), "patterns of names of layers that stay dense, as in [classifier, layer1.*]", neutral=()
    )


@dataclass(frozen=True)
class SparsityOptions(KeepDense, RequestedSparsity):
    """How many weights are active, and where."""


def slot_counts(options: SparsityOptions, network: nn.Module, generator: torch.Generator) -> dict[str, int]:
    """Active weights a sparse layer of ``network``, by name; layers not named are dense.

    ``generator`` decides under the allocation ``global``. Raises ``UserError`` when a layer would be left
    without a weight, or there is no layer.
    """
    kernels = convert.sparsifiable(network, options.keep_dense)
    counts = allocation.allocate(options.allocation, kernels, options.sparsity, generator)
    if options.allocation == "erk":  # what it leaves whole never moves: plain dense code
        counts = {name: count for name, count in counts.items() if count < kernels[name].numel()}
    return counts


def random_index(size: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """``count`` of ``size`` coordinates, drawn uniformly, sorted, int64."""
    order = torch.randperm(size, generator=generator, dtype=torch.int32)
    return order[:count].sort().values.long()
