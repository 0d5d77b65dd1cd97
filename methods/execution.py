"""Which variational layers of a module are computed by sparse kernels: decided once, from a fixed model.

No time is measured: the same configuration is computed the same way on every machine that has the
kernels, and repeats its bits.
"""

from __future__ import annotations


from typing import Any

import torch
from torch import nn

from methods import layers, passes
from methods.contractions import Conv2d, Linear
from methods.errors import UserError
from methods.kernels.blocks import Blocks
from methods.kernels.contraction import Kernel
from methods.kernels.library import absent
from methods.layers import VariationalLayer
from methods.posterior import SparseGaussian

#: What may be asked for.
CHOICES = ("auto", "dense", "sparse")
SPARSE = "sparse"


def choose(module: nn.Module, how: str, input_shape: tuple[int, ...]) -> dict[str, str]:
    """Give layers of ``module`` kernels: as ``how`` says, those that have one, or those that gain by it.

    ``costs.trace`` must have run. Returns for each variational layer by name ``"sparse"``, or why it is
    computed densely. Raises ``UserError`` where ``how`` is ``"sparse"`` and there are no kernels.
    """
    named = {name: m for name, m in module.named_modules() if isinstance(m, VariationalLayer)}
    sparse = any(isinstance(layer.posterior, SparseGaussian) for layer in named.values())
    if how == "dense" or not sparse:
        reason = "asked for" if how == "dense" else "no layer is sparse"
        return dict.fromkeys(named, f"dense: {reason}")
    reason = _unsuited(module)
    if reason is not None:
        if how == "sparse":
            raise UserError(f"execution sparse: {reason}")
        return dict.fromkeys(named, f"dense: {reason}")
    found = {}
    for name, layer in named.items():
        obstacle = _obstacle(layer) or (_dearer(layer) if how == "auto" or not _is_sparse(layer) else None)
        if obstacle is None:
            layer.kernel = Kernel(layer.contraction, layer.posterior.shape)
        found[name] = SPARSE if obstacle is None else f"dense: {obstacle}"
    if not _stays_in_layout(module, named.values(), input_shape):
        for layer in named.values():
            layer.keeps_layout = False
    return found


def _is_sparse(layer: VariationalLayer) -> bool:
    return isinstance(layer.posterior, SparseGaussian)


def _unsuited(module: nn.Module) -> str | None:
    """Why no layer of ``module`` can have a kernel here."""
    parameter = next(module.parameters())
    if parameter.device.type != "cpu":
        return f"kernels are for CPUs, not for {parameter.device.type}"
    if parameter.dtype != torch.float32:
        return f"kernels are for float32, not for {str(parameter.dtype).removeprefix('torch.')}"
    return absent()


def _obstacle(layer: VariationalLayer) -> str | None:
    """Why there is no kernel for ``layer``."""
    contraction = layer.contraction
    if isinstance(contraction, Conv2d) and contraction.groups != 1:
        return f"{contraction.groups} groups"
    if not isinstance(contraction, Conv2d | Linear):
        return f"a {type(contraction).__name__}"
    if layer.output_positions == 0:
        return "not called"
    return None


def _dearer(layer: VariationalLayer) -> str | None:
    """Why a kernel would take longer than torch for ``layer``."""
    return None


def _stays_in_layout(module: nn.Module, found: Any, input_shape: tuple[int, ...]) -> bool:
    """Let layers pass on what they compute in the layout of the kernels, if the network takes that.

    Networks of others may look into what they are given: a pass must give what it gives with plain tensors.
    """
    example = torch.linspace(-1, 1, 2 * torch.Size(input_shape).numel()).view(2, *input_shape)

    def result() -> torch.Tensor:
        with torch.no_grad(), passes.mean():
            out = module(example)
        return out.plain() if isinstance(out, Blocks) else out

    training = module.training
    module.eval()
    try:
        expected = result()
        for layer in found:
            layer.keeps_layout = layer.kernel is not None
        try:
            same = torch.allclose(result(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        except Exception:  # whatever another's code makes of what it does not know
            same = False
    finally:
        module.train(training)
    if same:
        module.register_forward_hook(_give_plain)
    return same


def _give_plain(module: nn.Module, inputs: Any, output: Any) -> Any:
    return output.plain() if isinstance(output, Blocks) else output
