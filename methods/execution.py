"""Which variational layers of a module are computed by sparse kernels: decided once, from a fixed model.

No time is measured: the same configuration is computed the same way on every machine that has the
kernels, and repeats its bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from methods import layers, passes
from methods.contractions import Conv2d, Linear
from methods.errors import UserError
from methods.kernels.blocks import LANES, Blocks
from methods.kernels.contraction import Kernel
from methods.kernels.library import absent
from methods.layers import VariationalLayer
from methods.posterior import SparseGaussian

#: What may be asked for.
CHOICES = ("auto", "dense", "sparse")
SPARSE = "sparse"


def choose(
    module: nn.Module, how: str, input_shape: tuple[int, ...], batch: int, in_layout: bool = True
) -> None:
    """Give layers of ``module`` kernels: as ``how`` says, those that have one, or those that gain by it.

    batch: examples in a training step. in_layout: whether activations may stay in the layout of the
    kernels between layers. ``costs.trace`` must have run; ``report`` tells what was decided. Layers with
    all their weights get a kernel only beside sparse ones, where they gain. Raises ``UserError`` where
    ``how`` is ``"sparse"`` and there are no kernels.
    """
    found = layers.variational_layers(module)
    for layer in found:
        layer.keeps_layout = False
    if how == "dense" or not any(map(_is_sparse, found)):
        _keep_dense(found, "asked for" if how == "dense" else "no layer is sparse")
        return
    reason = _unsuited(module)
    if reason is not None:
        if how == "sparse":
            raise UserError(f"execution sparse: {reason}")
        _keep_dense(found, reason)
        return
    for layer in found:
        obstacle = _obstacle(layer)
        if obstacle is None and (how == "auto" or not _is_sparse(layer)):
            obstacle = dearer(layer, batch)
        layer.kernel = Kernel(layer.contraction, layer.posterior.shape) if obstacle is None else None
        layer.posterior.fused = True
        layer.runs = SPARSE if obstacle is None else f"dense: {obstacle}"
    if in_layout and any(layer.kernel is not None for layer in found):
        _keep_layout(module, found, input_shape)


def report(module: nn.Module) -> dict[str, str]:
    """For each variational layer by name ``"sparse"``, or why it is computed densely."""
    return {name: m.runs for name, m in module.named_modules() if isinstance(m, VariationalLayer)}


def summary(module: nn.Module) -> str:
    """``sparse``, ``dense``, or ``mixed`` where some of the sparse layers have kernels."""
    sparse = [layer.kernel is not None for _, layer, _ in layers.sparse_layers(module)]
    return "dense" if not any(sparse) else "sparse" if all(sparse) else "mixed"


def _keep_dense(found: Iterable[VariationalLayer], reason: str) -> None:
    for layer in found:
        layer.kernel, layer.keeps_layout, layer.runs = None, False, f"dense: {reason}"
        layer.posterior.fused = False


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


def dearer(layer: VariationalLayer, batch: int) -> str | None:
    """Why a kernel would take longer than torch for ``layer``.

    Measured (``tests/performance/kernels.py``), in multiply-adds of torch's for each output: a weight of an
    output costs torch 1 and a kernel 1.6, and what is done once an output (noise, its derivative, memory) 300
    and 70. Lanes that hold no example cost a kernel as much as others.
    """
    posterior = layer.posterior
    length = posterior.shape[1:].numel()
    lanes = -(-batch // LANES) * LANES / batch
    density = posterior.active / posterior.shape.numel()
    if (1.6 * density * length + 70) * lanes <= length + 300:
        return None
    return f"torch is faster at density {density:.3g} and {length} inputs an output"


def _keep_layout(module: nn.Module, found: Sequence[VariationalLayer], input_shape: tuple[int, ...]) -> None:
    """Have layers pass on what they compute in the layout of the kernels, if the network takes that.

    Networks of others may look into what they are given: a pass must give what it gives with plain tensors.
    """
    example = torch.linspace(-1, 1, 2 * torch.Size(input_shape).numel()).view(2, *input_shape)

    def result() -> torch.Tensor:
        with torch.no_grad(), passes.mean():
            out: torch.Tensor = _give_plain(module, None, module(example))
        return out

    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        expected = result()
        for layer in found:
            layer.keeps_layout = True
        try:
            same = torch.allclose(result(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        except Exception:  # whatever another's code makes of what it does not know
            same = False
    finally:
        for part in training:
            part.training = True
    for layer in found:
        layer.keeps_layout = same
    if same and _give_plain not in module._forward_hooks.values():
        module.register_forward_hook(_give_plain)


def _give_plain(module: nn.Module, inputs: Any, output: Any) -> Any:
    return output.plain() if isinstance(output, Blocks) else output
