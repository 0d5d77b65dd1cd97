"""What became of every parameter tensor of a network: sparse, dense or deterministic, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from methods.convert import obstacles
from methods.inventory import kernels
from methods.layers import VariationalLayer
from methods.posterior import SparseGaussian


@dataclass(frozen=True)
class Row:
    """One parameter tensor of the plain network (of a projection, where attention was separated).

    kind: ``sparse`` and ``dense`` have a Gaussian over the active weights and over every weight.
    active: weights that are not zero by construction. reason: why a kernel is not sparse; empty
    for other parameters. is_kernel: whether ``density`` counts it.
    """

    name: str
    shape: torch.Size
    kind: Literal["sparse", "dense", "deterministic"]
    active: int
    reason: str
    is_kernel: bool

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.shape.numel()


def report(module: nn.Module) -> list[Row]:
    """A row for each parameter tensor, in the order of the module; one that is shared has one row.

    ``module`` is what a method built, or a plain network.
    """
    found = kernels(module)
    of_parameter = {id(parameter): kernel for kernel in found for parameter in kernel.parameters}
    names = {id(layer): name for name, layer in module.named_modules()}
    barred = obstacles(module)
    rows: dict[str, Row] = {}
    for name, parameter in module.named_parameters():
        kernel = of_parameter.get(id(parameter))
        if kernel is None:
            rows[name] = Row(name, parameter.shape, "deterministic", parameter.numel(), "", False)
            continue
        layer = kernel.layers[0]
        if not isinstance(layer, VariationalLayer):
            kind, reason = "deterministic", barred.get(names[id(layer)], "the method does not convert it")
        elif isinstance(layer.posterior, SparseGaussian):
            kind, reason = "sparse", ""
        else:
            kind, reason = "dense", layer.why_dense
        rows[kernel.name] = Row(kernel.name, kernel.shape, kind, kernel.active, reason, True)
    return list(rows.values())
