"""Compute what a module costs: its weights, its FLOPs from real shapes, and its packed form.

The conventions are those of RigL (Evci et al. 2020): the backward pass costs twice the forward pass;
only contractions with weights count, by layers (attention's projections are linear layers) or by any other
code, so normalisation and the products within attention do not; a multiply-add is two FLOPs. Local
reparameterisation contracts twice in each layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.core.contractions import TRANSPOSED, Convolution
from methods.layers.contracted import WeightContractions
from methods.layers.inventory import kernel_layers, kernels, own_weights
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import Slots


@dataclass(frozen=True)
class Counts:
    """Numbers of weights; a weight counts once, even if several numbers (mean, scale) describe it.

    Parameters
    ----------
    kernel
        Kernel weights of the network.
    active
        Kernel weights that are active.
    other
        All other parameters.
    """

    kernel: int
    active: int
    other: int

    @property
    def density(self) -> float:
        """Share of the kernel weights that are active; 1 if there are no kernels."""
        return self.active / self.kernel if self.kernel else 1.0


@dataclass(frozen=True)
class KernelCost:
    """Costs of one kernel.

    Parameters
    ----------
    size
        Number n of weights.
    active
        Active weights.
    positions
        How often each weight is used for one example.
    contractions
        Contractions in a training forward pass.
    outside
        Multiply-adds for one example outside the calls of layers; these contract once, and every weight.
    """

    size: int
    active: int
    positions: int
    contractions: int
    outside: int


@torch.no_grad()
def trace(
    module: nn.Module,
    input_shape: tuple[int, ...],
    predictors: Iterable[Callable[[torch.Tensor], torch.Tensor]] | None = None,
) -> None:
    """Record how often each weight is used for one example, by a forward pass of zeros.

    Three attributes of every kernel layer are set. ``output_positions`` is the number of uses of each
    weight in the calls of one pass, of the last predictor that reaches the layer, or 0. ``is_called`` says
    whether the layer is called, and ``has_arguments`` whether with more than an input (a transposed
    convolution). A module with parameters that are contracted without a call of their
    layer has the attribute ``contracted``: the multiply-adds by name of the parameter. Running statistics
    of batch normalisation do not change.

    Parameters
    ----------
    module
        Module to trace.
    input_shape
        Shape of one example.
    predictors
        Functions from inputs to outputs; by default the module itself.
    """
    uses: Counter[nn.Module] = Counter()
    counter = WeightContractions(module)

    def enter(layer: Any, inputs: tuple[Any, ...], others: dict[str, Any]) -> None:
        counter.enter_call(own_weights(layer))
        layer.has_arguments |= is_transposed(layer) and len(inputs) + len(others) > 1

    def note(layer: Any, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        counter.leave_call(output)
        if isinstance(layer, nn.MultiheadAttention):
            # assume self-attention: each matrix projects every token once
            uses.update(dict.fromkeys((layer, layer.out_proj), output[0].numel() // layer.embed_dim))
        else:
            shape = layer.posterior.shape if isinstance(layer, VariationalLayer) else layer.weight.shape
            # the first dimension of a transposed weight is that of the inputs
            uses[layer] += (inputs[0] if is_transposed(layer) else output).numel() // shape[0]

    training = module.training
    found: list[Any] = [layer for _, layer in kernel_layers(module)]
    hooks = [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in found]
    hooks += [layer.register_forward_hook(note) for layer in found]
    owners: dict[int, tuple[nn.Module, str]] = {}
    for part in module.modules():
        vars(part).pop("contracted", None)
        for name, parameter in part.named_parameters(recurse=False):
            owners.setdefault(id(parameter), (part, name))
    for layer in found:
        _set_uses(layer, 0, False)
        layer.has_arguments = False
    parameter = next(module.parameters())
    try:
        module.eval()
        for predict in predictors or [module]:
            uses.clear()
            counter.multiply_adds.clear()
            example = torch.zeros((1, *input_shape), dtype=parameter.dtype, device=parameter.device)
            with counter:
                predict(counter.activation(example))
            for layer, count in uses.items():
                _set_uses(layer, count, True)
            for weight, count in counter.multiply_adds.items():
                owner, name = owners[weight]
                owner.contracted = vars(owner).get("contracted", {}) | {name: count}
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()


def is_transposed(layer: nn.Module) -> bool:
    """Return whether a plain or variational layer is a transposed convolution."""
    if not isinstance(layer, VariationalLayer):
        return isinstance(layer, TRANSPOSED)
    map_ = layer.contraction
    return isinstance(map_, Convolution) and map_.output_padding is not None


def _set_uses(layer: Any, positions: int, called: bool) -> None:
    layer.output_positions, layer.is_called = positions, called


def kernel_costs(module: nn.Module) -> list[KernelCost]:
    """Return the costs of every kernel, shared ones once; ``trace`` must have run."""
    costs = []
    for kernel in kernels(module):
        positions = sum(int(getattr(layer, "output_positions", 1)) for layer in kernel.layers)
        random = (layer.contractions for layer in kernel.layers if isinstance(layer, VariationalLayer))
        contractions = max(random, default=1)
        costs.append(KernelCost(kernel.shape.numel(), kernel.active, positions, contractions, kernel.outside))
    return costs


def largest_output(module: nn.Module) -> int:
    """Return the size of the largest output of a kernel layer for one example; ``trace`` must have run."""
    sizes = (
        max(
            kernel.shape[0] * int(getattr(layer, "output_positions", 1)),
            kernel.outside // kernel.shape[1:].numel(),
        )
        for kernel in kernels(module)
        for layer in kernel.layers
    )
    return max(sizes, default=1)


def counts(module: nn.Module) -> Counts:
    """Count the weights of a module by kind.

    Mean and scale of a weight count as one weight; indices do not count.
    """
    found = kernels(module)
    in_kernels = {id(parameter) for kernel in found for parameter in kernel.parameters}
    other = sum(p.numel() for p in module.parameters() if id(p) not in in_kernels)
    return Counts(sum(k.shape.numel() for k in found), sum(k.active for k in found), other)


def flops(module: nn.Module, event: str) -> float:
    """Return the FLOPs of one event for one example; ``Method.flops`` lists the events."""
    kernels = kernel_costs(module)
    once = sum(k.active * k.positions + k.outside for k in kernels)
    sampled = sum(k.active * k.positions * k.contractions + k.outside for k in kernels)
    # on the inactive coordinates an update needs the gradient of the mean only, not that of the variance
    dense_gradient = sum((k.size - k.active) * k.positions for k in kernels)
    dense = sum(k.size * k.positions + k.outside for k in kernels)
    multiply_adds = {
        "inference": once,
        "step": 3 * sampled,
        "dense_gradient": dense_gradient,
        "noisy_pass": 3 * sampled + dense_gradient,
        "mean_pass": 3 * once + dense_gradient,
        "dense_pass": 3 * dense,
    }
    return 2.0 * multiply_adds[event]


def rigl_ratio(sparse: float, dense: float, period: int) -> float:
    """Return training FLOPs over those of a dense network by the formula of RigL (Evci et al. 2020).

    Each ``period`` steps of 3 sparse passes are followed by one step with the dense gradient, which
    costs 2 sparse passes and a dense one.

    Parameters
    ----------
    sparse, dense
        FLOPs of a forward pass of the sparse and of the dense network.
    period
        Plain steps between two steps with the dense gradient.
    """
    return (3 * period * sparse + 2 * sparse + dense) / ((period + 1) * 3 * dense)


def pack(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of a module, with each index stored as int32 or as a bitmap, whichever is smaller."""
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
    """Load the result of ``pack``; it also determines which layers are sparse, and their numbers of slots."""
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
