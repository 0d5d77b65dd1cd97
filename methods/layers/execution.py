"""Decide which variational layers of a module are computed by sparse kernels, from a fixed cost model.

The decision is made when the module is built, and again when the numbers of weights in its layers have
changed. It measures no time, so that the same configuration is computed in the same way on every machine
that has the kernels, and gives the same bits again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn

from methods.core import passes, recomputation
from methods.core.contractions import Convolution, Linear
from methods.core.errors import UserError
from methods.core.global_generators import seeded
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
    """Decide which layers of ``module`` a sparse kernel computes, and give them their kernels.

    Layers with all their weights get a kernel only in a module that also has sparse layers, and only
    where the kernel is faster. ``costs.trace`` must have run; ``report`` returns the decisions.

    Parameters
    ----------
    module
        Module that a method built.
    how
        ``dense``: no kernels; ``sparse``: a kernel for every sparse layer that can have one; ``auto``:
        a kernel where the cost model says it is faster.
    input_shape
        Shape of one example.
    batch
        Examples in a training step.
    in_layout
        Whether activations may stay in the layout of the kernels between layers.
    why_dense
        Reason to report if ``how`` is ``dense``.

    Raises
    ------
    UserError
        If ``how`` is ``sparse`` and kernels cannot be used here.
    """
    if isinstance(module, nn.ModuleList):  # is never called itself: its networks are chosen for one by one
        for network in module:
            choose(network, how, input_shape, batch, in_layout=in_layout, why_dense=why_dense)
        return
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
    if kernels == by_kernels(module):  # the same layers have kernels as before: no new trial is needed
        for layer, keeps in zip(found, kept_layout, strict=True):
            layer.keeps_layout = keeps
    else:
        # sequences of other layers than these are not in the layout
        _keep_layout(module, [layer for layer in found if not layer.in_time], input_shape)


def report(module: nn.Module) -> dict[str, str]:
    """Return for each variational layer, by name, ``"sparse"`` or why it is computed densely."""
    return {name: m.runs for name, m in module.named_modules() if isinstance(m, VariationalLayer)}


def by_kernels(module: nn.Module) -> list[str]:
    """Return the names of the layers that kernels compute, in the order of the module tree."""
    found = module.named_modules()
    return [name for name, m in found if isinstance(m, VariationalLayer) and m.kernel is not None]


def summary(module: nn.Module) -> str:
    """Return whether sparse layers are computed ``sparse``, ``dense``, or ``mixed`` (some have kernels)."""
    sparse = [layer.kernel is not None for _, layer, _ in sparse_layers(module)]
    return "dense" if not any(sparse) else "sparse" if all(sparse) else "mixed"


def _keep_dense(found: Iterable[VariationalLayer], reason: str) -> None:
    for layer in found:
        layer.kernel, layer.runs = None, f"dense: {reason}"
        layer.posterior.fused = False


def _is_sparse(layer: VariationalLayer) -> bool:
    return isinstance(layer.posterior, Slots)


def _unsuited(module: nn.Module) -> str | None:
    """Return why no layer of ``module`` can have a kernel here; None if layers can."""
    parameter = next(module.parameters())
    if parameter.device.type != "cpu":
        return f"kernels are for CPUs, not for {parameter.device.type}"
    if parameter.dtype != torch.float32:
        return f"kernels are for float32, not for {str(parameter.dtype).removeprefix('torch.')}"
    return absent()


def _obstacle(layer: VariationalLayer) -> str | None:
    """Return why ``layer`` cannot have a kernel; None if it can."""
    contraction = layer.contraction
    if isinstance(contraction, Convolution):
        if contraction.groups != 1:
            return f"{contraction.groups} groups"
        if contraction.output_padding is not None:
            return "a transposed convolution"
        if len(contraction.stride) == 3:
            return "a 3-D convolution"
    elif not isinstance(contraction, Linear):
        return f"a {type(contraction).__name__}"
    if layer.output_positions == 0:
        return "not called"
    return None


class _Prices(NamedTuple):
    """Costs in units of one multiply-add of torch.

    The first two are per output and weight: of torch for every weight, of a kernel for every active
    weight. The last two are per output, for noise, its derivative and memory.
    """

    torch_weight: float
    kernel_weight: float
    torch_output: float
    kernel_output: float


#: Prices of layers with mean, variance and noise, and of layers with a mean only; measured by ``kernels.py``
#: and ``point_layers.py`` in ``tests/performance``.
_RANDOM, _POINT = _Prices(1.0, 1.6, 300, 70), _Prices(0.5, 1.1, 60, 70)


def dearer(layer: VariationalLayer, batch: int) -> str | None:
    """Return why a kernel would take longer than torch for ``layer``; None if it would not.

    Kernels compute ``LANES`` examples at a time. Lanes without an example cost as much as others.
    """
    price = _RANDOM if layer.contractions == 2 else _POINT
    posterior = layer.posterior
    length = posterior.shape[1:].numel()
    lanes = -(-batch // LANES) * LANES / batch
    density = posterior.active / posterior.shape.numel()
    kernel = (price.kernel_weight * density * length + price.kernel_output) * lanes
    if kernel <= price.torch_weight * length + price.torch_output:
        return None
    return f"torch is faster at density {density:.3g} and {length} inputs an output"


def _keep_layout(module: nn.Module, found: Sequence[VariationalLayer], input_shape: tuple[int, ...]) -> None:
    """Let layers pass on their outputs in the layout of the kernels, if the network's results stay the same.

    A network may do anything with its activations. So one pass with and one without the layout are
    compared, and the layout is kept only if both give the same, and only if no segment is checkpointed: a
    checkpoint sees tensors only.
    """
    segments = []
    example = torch.randn(4, *input_shape, generator=torch.Generator().manual_seed(0))
    modes = {part: part.training for part in module.modules()}
    buffers = {buffer: buffer.clone() for buffer in module.buffers()}

    def note() -> Callable[[bool], AbstractContextManager[None]]:
        segments.append(True)
        return lambda again: nullcontext()

    def results() -> list[torch.Tensor]:
        """Return the outputs in evaluation and training, without dropout: its draws depend on the layout."""
        tensors = []
        try:
            for trained in (False, True):
                for part in modes:
                    part.training = trained and not isinstance(part, nn.modules.dropout._DropoutNd)
                # networks checkpoint segments where gradients are needed, so training has gradients here too
                with (
                    torch.set_grad_enabled(trained),
                    passes.mean(),
                    recomputation.segments(note),
                    seeded(0),
                ):
                    tensors += [tensor.detach() for tensor in _tensors(module(example))]
        finally:
            for part, mode in modes.items():
                part.training = mode
            with torch.no_grad():
                for buffer, before in buffers.items():
                    buffer.copy_(before)
        return tensors

    expected = results()
    for layer in found:
        layer.keeps_layout = True
    try:
        pairs = zip(results(), expected, strict=True)
        same = all(torch.allclose(a, b, rtol=1e-2, atol=1e-2 * float(b.abs().max())) for a, b in pairs)
        same = same and not segments
    except Exception:  # the network's own code may fail in any way on an unknown type
        same = False
    for layer in found:
        layer.keeps_layout = same
    if same and _give_plain not in module._forward_hooks.values():
        module.register_forward_hook(_give_plain)


def _tensors(output: Any) -> list[torch.Tensor]:
    """Return every tensor in the output of a network, in plain layout."""
    if isinstance(output, tuple | list):
        return [tensor for item in output for tensor in _tensors(item)]
    if isinstance(output, dict):
        return _tensors(list(output.values()))
    return [plain_of(output)] if output is not None else []


def _give_plain(module: nn.Module, inputs: Any, output: Any) -> Any:
    return plain_of(output)
