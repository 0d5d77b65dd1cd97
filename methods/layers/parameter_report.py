"""Report for every parameter tensor of a network whether it is sparse, dense or deterministic, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from methods.layers.convert import obstacles
from methods.layers.inventory import Kernel, kernels
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import Posterior, Slots

Kind = Literal["sparse", "dense", "deterministic"]


@dataclass(frozen=True)
class Row:
    """One parameter tensor of the plain network.

    Where attention was separated into layers, each projection has its own row.

    Parameters
    ----------
    name
        Name of the tensor in the network.
    shape
        Shape of the tensor.
    kind
        ``sparse``: a posterior over the active weights; ``dense``: a posterior over every weight;
        ``deterministic``: no posterior.
    active
        Number of weights that are not zero by construction.
    reason
        Why a kernel is not sparse; empty for other parameters.
    is_kernel
        Whether ``density`` counts the tensor.
    """

    name: str
    shape: torch.Size
    kind: Kind
    active: int
    reason: str
    is_kernel: bool

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.shape.numel()


def report(module: nn.Module) -> list[Row]:
    """Return a row for each parameter tensor, in the order of the module; shared tensors have one row.

    ``module`` is a module that a method built, or a plain network.
    """
    of_parameter = {id(parameter): kernel for kernel in kernels(module) for parameter in kernel.parameters}
    barred = obstacles(module)
    rows: dict[int, Row] = {}
    for prefix, layer in module.named_modules():
        for leaf, parameter in _parameters(layer):
            kernel, name = of_parameter.get(id(parameter)), f"{prefix}.{leaf}" if prefix else leaf
            if kernel is None:
                row = Row(name, parameter.shape, "deterministic", parameter.numel(), "", False)
            else:
                kind, reason = _fate(kernel, layer)
                reason = barred.get(kernel.name.rpartition(".")[0], reason)
                row = Row(kernel.name, kernel.shape, kind, kernel.active, reason, True)
            rows.setdefault(id(parameter), row)
    return list(rows.values())


def _parameters(layer: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of ``layer`` itself; the means of a posterior stand for the layer's weights."""
    if isinstance(layer, VariationalLayer):
        yield "weight", layer.posterior.mean
    if not isinstance(layer, Posterior):
        yield from layer.named_parameters(recurse=False)


def _fate(kernel: Kernel, owner: nn.Module) -> tuple[Kind, str]:
    """Return the kind of a kernel, and the reason unless it lies in a layer that cannot be converted."""
    if isinstance(owner, parametrize.ParametrizationList):
        return "deterministic", "the weight of a layer is computed from it"
    if isinstance(owner, nn.LSTM | nn.GRU):
        return "deterministic", "the method does not convert it"
    if not kernel.layers:
        return (
            "deterministic",
            f"contracted by {type(owner).__name__}, which is not a layer that is converted",
        )
    layer = kernel.layers[0]
    if not isinstance(layer, VariationalLayer):
        return "deterministic", "the method does not convert it"
    return ("sparse", "") if isinstance(layer.posterior, Slots) else ("dense", layer.why_dense)
