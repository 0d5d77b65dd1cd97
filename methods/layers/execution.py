"""Which variational layers of a module are computed by sparse kernels: decided from a fixed model.

When the module is built, and again when its layers have come to other numbers of weights.

No time is measured: the same configuration is computed the same way on every machine that has the
kernels, and repeats its bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from methods.core import passes
from methods.core.contractions import Conv2d, Linear
from methods.core.errors import UserError
from methods.kernels.blocks import LANES, plain_of
from methods.kernels.contraction import Kernel
from methods.kernels.library import absent
from methods.layers.layer import VariationalLayer, sparse_layers, variational_layers
from methods.layers.posterior import Slots


def choose(
    module: nn.Module,
    how: str,
    input_shape: tuple[int, ...],
    batch: int,
    in_layout: bool = True,
    why_dense: str = "asked for",
) -> None:
    """Give layers of ``module`` kernels: as ``how`` says, those that have one, or those that gain by it.

    batch: examples in a training step. in_layout: whether activations may stay in the layout of the
    kernels between layers. why_dense: what is said where ``how`` is ``"dense"``. ``costs.trace`` must have
    run; ``report`` tells what was decided. Layers with all their weights get a kernel only beside sparse
    ones, where they gain. Raises ``UserError`` where ``how`` is ``"sparse"`` and there are no kernels.
    """
    found = variational_layers(module)
    kernels, kept_layout = by_kernels(module), [layer.keeps_layout for layer in found]
    for layer in found:
        layer.keeps_layout = False
    if how == "dense" or not any(map(_is_sparse, found)):
        _keep_dense(found, why_dense if how == "dense" else "no layer is sparse")
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
        if obstacle is not None:
            layer.kernel = None
        elif layer.kernel is None:
            layer.kernel = Kernel(layer.contraction, layer.posterior.shape)
        layer.posterior.fused = True
        layer.runs = "sparse" if obstacle is None else f"dense: {obstacle}"
    if not in_layout or not by_kernels(module):
        return
    if kernels == by_kernels(module):  # what a trial would show is known
        for layer, keeps in zip(found, kept_layout, strict=True):
            layer.keeps_layout = keeps
    else:
        _keep_layout(module, found, input_shape)


def report(module: nn.Module) -> dict[str, str]:
    """For each variational layer by name ``"sparse"``, or why it is computed densely."""
    return {name: m.runs for name, m in module.named_modules() if isinstance(m, VariationalLayer)}


def by_kernels(module: nn.Module) -> list[str]:
    """The names of the layers that kernels compute, in the order of the module tree."""
    found = module.named_modules()
    return [name for name, m in found if isinstance(m, VariationalLayer) and m.kernel is not None]


def summary(module: nn.Module) -> str:
    """``sparse``, ``dense``, or ``mixed`` where some of the sparse layers have kernels."""
    sparse = [layer.kernel is not None for _, layer, _ in sparse_layers(module)]
    return "dense" if not any(sparse) else "sparse" if all(sparse) else "mixed"


def _keep_dense(found: Iterable[VariationalLayer], reason: str) -> None:
    for layer in found:
        layer.kernel, layer.runs = None, f"dense: {reason}"
        layer.posterior.fused = False


def _is_sparse(layer: VariationalLayer) -> bool:
    return isinstance(layer.posterior, Slots)


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


class _Prices(NamedTuple):
    """Multiply-adds of torch's that an output takes: torch and a kernel for each weight it could have (the
    kernel times density), and both for what is done once (noise, its derivative, memory).
    """

    torch_weight: float
    kernel_weight: float
    torch_output: float
    kernel_output: float


#: Of mean and variance with noise, and of a mean alone; measured by ``kernels.py`` and ``point_layers.py``
#: of ``tests/performance``.
_RANDOM, _POINT = _Prices(1.0, 1.6, 300, 70), _Prices(0.5, 1.1, 60, 70)


def dearer(layer: VariationalLayer, batch: int) -> str | None:
    """Why a kernel would take longer than torch for ``layer``.

    Lanes that hold no example cost a kernel as much as others.
    """
    price = _RANDOM if layer.is_random else _POINT
    posterior = layer.posterior
    length = posterior.shape[1:].numel()
    lanes = -(-batch // LANES) * LANES / batch
    density = posterior.active / posterior.shape.numel()
    kernel = (price.kernel_weight * density * length + price.kernel_output) * lanes
    if kernel <= price.torch_weight * length + price.torch_output:
        return None
    return f"torch is faster at density {density:.3g} and {length} inputs an output"


def _keep_layout(module: nn.Module, found: Sequence[VariationalLayer], input_shape: tuple[int, ...]) -> None:
    """Have layers pass on what they compute in the layout of the kernels, if the network takes that.

    Networks of others may look into what they are given: passes must give what they give with plain tensors.
    """
    example = torch.randn(4, *input_shape, generator=torch.Generator().manual_seed(0))
    modes = {part: part.training for part in module.modules()}
    buffers = {buffer: buffer.clone() for buffer in module.buffers()}

    def results() -> list[torch.Tensor]:
        """In evaluation and in training, where dropout, whose draws depend on the layout, is left out."""
        tensors = []
        try:
            for trained in (False, True):
                for part in modes:
                    part.training = trained and not isinstance(part, nn.modules.dropout._DropoutNd)
                with torch.no_grad(), passes.mean(), torch.random.fork_rng([]):
                    torch.manual_seed(0)
                    tensors += _tensors(module(example))
        finally:
            for part, mode in modes.items():
                part.training = mode
            for buffer, before in buffers.items():
                buffer.copy_(before)
        return tensors

    expected = results()
    for layer in found:
        layer.keeps_layout = True
    try:
        pairs = zip(results(), expected, strict=True)
        same = all(torch.allclose(a, b, rtol=1e-2, atol=1e-2 * float(b.abs().max())) for a, b in pairs)
    except Exception:  # whatever another's code makes of what it does not know
        same = False
    for layer in found:
        layer.keeps_layout = same
    if same and _give_plain not in module._forward_hooks.values():
        module.register_forward_hook(_give_plain)


def _tensors(output: Any) -> list[torch.Tensor]:
    """Every tensor of what a network gives, plain."""
    if isinstance(output, tuple | list):
        return [tensor for item in output for tensor in _tensors(item)]
    if isinstance(output, dict):
        return _tensors(list(output.values()))
    return [plain_of(output)] if output is not None else []


def _give_plain(module: nn.Module, inputs: Any, output: Any) -> Any:
    return plain_of(output)
