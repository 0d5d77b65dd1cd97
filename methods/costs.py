"""What a module costs: weights, FLOPs from real shapes, and its packed form in bytes.

Conventions (RigL's, Evci et al. 2020): the backward pass costs twice the forward pass;
only kernels of linear and convolutional layers count, so neither normalisation nor the
products within attention do; a multiply-add is two FLOPs. Local reparameterisation contracts
twice a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from methods.layers import SparseGaussian, VariationalLayer


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

    Sets ``output_positions`` on every kernel layer that ``predictors`` (by default the module
    itself) reach; running statistics are not touched.
    """
    hooks = []

    def note(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        layer.output_positions = output.numel() // kernel_shape(layer)[0]  # type: ignore[assignment]

    training = module.training
    for _, layer in kernel_layers(module):
        hooks.append(layer.register_forward_hook(note))
    parameter = next(module.parameters())
    try:
        module.eval()
        for predict in predictors or [module]:
            predict(torch.zeros((1, *input_shape), dtype=parameter.dtype, device=parameter.device))
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()


def kernel_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every layer with a kernel that the conventions count, by name."""
    for name, layer in module.named_modules():
        if isinstance(layer, (VariationalLayer, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            yield name, layer


def kernel_shape(layer: nn.Module) -> torch.Size:
    """The shape of a kernel layer's weight tensor, stored or not."""
    weight = layer.posterior if isinstance(layer, VariationalLayer) else layer.weight
    shape = weight.shape
    assert isinstance(shape, torch.Size)
    return shape


def kernel_costs(module: nn.Module) -> list[KernelCost]:
    """The cost figures of every kernel layer; ``trace`` must have run."""
    costs = []
    for _, layer in kernel_layers(module):
        positions, size = int(getattr(layer, "output_positions", 1)), kernel_shape(layer).numel()
        if isinstance(layer, VariationalLayer):
            costs.append(KernelCost(size, layer.posterior.active, positions, contractions=2))
        else:
            costs.append(KernelCost(size, size, positions, contractions=1))
    return costs


def counts(module: nn.Module) -> Counts:
    """Weights by kind. Means and scales of one weight are one weight; an index is none."""
    kernels = kernel_costs(module)
    in_kernels = set()
    for _, layer in kernel_layers(module):
        kernel = layer.posterior.parameters() if isinstance(layer, VariationalLayer) else [layer.weight]
        in_kernels |= {id(p) for p in kernel}
    other = sum(p.numel() for p in module.parameters() if id(p) not in in_kernels)
    return Counts(sum(k.size for k in kernels), sum(k.active for k in kernels), other)


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
    """Load what ``pack`` gave; slot counts are taken from it."""
    state = dict(packed)
    for prefix, posterior in _slots(module):
        bitmap = state.pop(prefix + "bitmap", None)
        if bitmap is not None:
            state[prefix + "index"] = _from_bitmap(bitmap, posterior.shape.numel())
    module.load_state_dict(state)


def _slots(module: nn.Module) -> Iterator[tuple[str, SparseGaussian]]:
    for name, child in module.named_modules():
        if isinstance(child, SparseGaussian):
            yield f"{name}.", child


def _to_bitmap(index: torch.Tensor, size: int) -> torch.Tensor:
    bits = torch.zeros((size + 7) // 8 * 8, dtype=torch.uint8)
    bits[index.long().cpu()] = 1
    weights = 2 ** torch.arange(8, dtype=torch.uint8)
    return (bits.view(-1, 8) * weights).sum(1, dtype=torch.uint8)


def _from_bitmap(bitmap: torch.Tensor, size: int) -> torch.Tensor:
    bits = (bitmap[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.view(-1)[:size].nonzero().view(-1).to(torch.int32)
