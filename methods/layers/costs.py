"""What a module costs: weights, FLOPs from real shapes, and its packed form in bytes.

Conventions (RigL's, Evci et al. 2020): the backward pass costs twice the forward pass;
only kernels of linear and convolutional layers count (attention's projections are linear), so
neither normalisation nor the products within attention do; a multiply-add is two FLOPs. Local
reparameterisation contracts twice a layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from methods.layers.inventory import TRANSPOSED, kernel_layers, kernels
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import Gaussian, Slots


@dataclass(frozen=True)
class Counts:
    """Kernel weights of the network, those of them that are active, and all other parameters.

    A weight counts once, however many numbers (mean, scale) describe it.
    """

    kernel: int
    active: int
    other: int

    @property
    def density(self) -> float:
        """Active over all kernel weights."""
        return self.active / self.kernel


@dataclass(frozen=True)
class KernelCost:
    """One layer: kernel size n, active weights, uses of a weight an example, contractions in training."""

    size: int
    active: int
    positions: int
    contractions: int


@torch.no_grad()
def trace(
    module: nn.Module,
    input_shape: tuple[int, ...],
    predictors: Iterable[Callable[[torch.Tensor], torch.Tensor]] | None = None,
) -> None:
    """Record how often each kernel weight is used for one example, by a forward pass of zeros.

    Sets ``output_positions`` on every kernel layer: the uses within one pass, summed, of the last
    of ``predictors`` (by default the module itself) that reaches the layer, or 0. Sets ``is_called``
    too: false for a layer whose weight is read in place of calling it, or not used. Running
    statistics are not touched.
    """
    uses: Counter[nn.Module] = Counter()

    def note(layer: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        if isinstance(layer, nn.MultiheadAttention):
            # as for self-attention: every token is projected by each matrix once
            uses.update(dict.fromkeys((layer, layer.out_proj), output[0].numel() // layer.embed_dim))
        elif isinstance(layer, TRANSPOSED):
            uses[layer] += inputs[0].numel() // layer.in_channels
        else:
            shape = layer.posterior.shape if isinstance(layer, VariationalLayer) else layer.weight.shape
            uses[layer] += output.numel() // shape[0]

    training = module.training
    found = [layer for _, layer in kernel_layers(module)]
    hooks = [layer.register_forward_hook(note) for layer in found]
    for layer in found:
        _set_uses(layer, 0, False)
    parameter = next(module.parameters())
    try:
        module.eval()
        for predict in predictors or [module]:
            uses.clear()
            with _Reads() as reads:
                predict(torch.zeros((1, *input_shape), dtype=parameter.dtype, device=parameter.device))
            for layer, count in uses.items():
                _set_uses(layer, count, True)
                reads.uses.pop(id(getattr(layer, "weight", None)), None)
            for layer in found:
                read = isinstance(layer, nn.Linear) and layer not in uses
                if read and (count := reads.uses.pop(id(layer.weight), 0)):
                    _set_uses(layer, count, False)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()


class _Reads(TorchFunctionMode):
    """Counts the uses of every matrix in ``F.linear``, whoever calls it, by the ``id`` of the matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is F.linear and len(args) > 1:
            self.uses[id(args[1])] += output.numel() // args[1].shape[0]
        return output


def _set_uses(layer: Any, positions: int, called: bool) -> None:
    layer.output_positions, layer.is_called = positions, called


def kernel_costs(module: nn.Module) -> list[KernelCost]:
    """The cost figures of every kernel, shared ones once; ``trace`` must have run."""
    costs = []
    for kernel in kernels(module):
        positions = sum(int(getattr(layer, "output_positions", 1)) for layer in kernel.layers)
        contractions = 2 if isinstance(kernel.weight, Gaussian) else 1
        costs.append(KernelCost(kernel.shape.numel(), kernel.active, positions, contractions))
    return costs


def largest_output(module: nn.Module) -> int:
    """Numbers of one example in the largest output of a layer with a kernel; ``trace`` must have run."""
    sizes = (
        kernel.shape[0] * int(getattr(layer, "output_positions", 1))
        for kernel in kernels(module)
        for layer in kernel.layers
    )
    return max(sizes, default=1)


def counts(module: nn.Module) -> Counts:
    """Weights by kind. Means and scales of one weight are one weight; an index is none."""
    found = kernels(module)
    in_kernels = {id(parameter) for kernel in found for parameter in kernel.parameters}
    other = sum(p.numel() for p in module.parameters() if id(p) not in in_kernels)
    return Counts(sum(k.shape.numel() for k in found), sum(k.active for k in found), other)


def flops(module: nn.Module, event: str) -> float:
    """FLOPs an example of one event; see ``Method.flops`` for the events."""
    kernels = kernel_costs(module)
    once = sum(k.active * k.positions for k in kernels)
    sampled = sum(k.active * k.positions * k.contractions for k in kernels)
    # an update needs the gradient of the mean, not of the variance, on the inactive coordinates too
    dense_gradient = sum((k.size - k.active) * k.positions for k in kernels)
    multiply_adds = {
        "inference": once,
        "step": 3 * sampled,
        "dense_gradient": dense_gradient,
        "noisy_pass": 3 * sampled + dense_gradient,
        "mean_pass": 3 * once + dense_gradient,
    }
    return 2.0 * multiply_adds[event]


def rigl_ratio(sparse: float, dense: float, period: int) -> float:
    """What RigL's formula gives for training FLOPs over those of a dense network (Evci et al. 2020).

    sparse, dense: FLOPs of a forward pass. ``period`` steps of 3 sparse passes are followed by
    one with the dense gradient, 2 sparse passes and a dense one.
    """
    return (3 * period * sparse + 2 * sparse + dense) / ((period + 1) * 3 * dense)


def pack(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a module with each index as int32 or as a bitmap, whichever is smaller."""
    packed = dict(module.state_dict())
    for prefix, posterior in _slots(module):
        index = packed.pop(prefix + "index")
        size = posterior.shape.numel()
        if (size + 7) // 8 < 4 * index.numel():
            packed[prefix + "bitmap"] = _to_bitmap(index, size)
        else:
            packed[prefix + "index"] = index
    return packed


def unpack(module: nn.Module, packed: dict[str, torch.Tensor]) -> None:
    """Load what ``pack`` gave; which layers are sparse, and slot counts, are taken from it."""
    state = dict(packed)
    for name, layer in module.named_modules():
        prefix = f"{name}.posterior." if name else "posterior."
        if isinstance(layer, VariationalLayer) and (bitmap := state.pop(prefix + "bitmap", None)) is not None:
            state[prefix + "index"] = _from_bitmap(bitmap, layer.posterior.shape.numel())
    module.load_state_dict(state)


def _slots(module: nn.Module) -> Iterator[tuple[str, Slots]]:
    for name, child in module.named_modules():
        if isinstance(child, Slots):
            yield f"{name}.", child


def _to_bitmap(index: torch.Tensor, size: int) -> torch.Tensor:
    bits = torch.zeros((size + 7) // 8 * 8, dtype=torch.uint8)
    bits[index.long().cpu()] = 1
    weights = 2 ** torch.arange(8, dtype=torch.uint8)
    return (bits.view(-1, 8) * weights).sum(1, dtype=torch.uint8)


def _from_bitmap(bitmap: torch.Tensor, size: int) -> torch.Tensor:
    bits = (bitmap[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.view(-1)[:size].nonzero().view(-1).to(torch.int32)
