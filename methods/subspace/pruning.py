"""Pruning: weights of lowest score go for good, from parameters, gradients, optimiser and checkpoints.

A layer that was dense becomes sparse, one that was sparse gets fewer slots; what stays keeps its values and
its momentum. Which weights may go is said by ``VariationalLayer.sparsifiable``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from methods.base import Context
from methods.criteria.criteria import Moments
from methods.layers.layer import VariationalLayer, sparse_layers
from methods.layers.posterior import Gaussian, Posterior, Slots
from methods.subspace import allocation, surgery
from methods.subspace.exchange import lowest_of_all

#: What the stored weights of a posterior are kept by: one number each, flat; larger is kept.
Scores = Callable[[Posterior], torch.Tensor]
#: Weights to keep: in each layer by name, or in all of them together.
Quota = Mapping[str, int] | int


def prunable(module: nn.Module) -> dict[str, VariationalLayer]:
    """The layers whose weights may be removed, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, VariationalLayer) and layer.sparsifiable
    }


def quota(module: nn.Module, rule: str, sparsity: float, final: float) -> Quota:
    """What is left of ``module`` at ``sparsity``, on the way to ``final``, under one of ``allocation.RULES``.

    Under ``global`` that is one number: all layers are ranked together.
    """
    kernels = {name: layer.posterior.shape for name, layer in prunable(module).items()}
    if rule == "global":
        return allocation.total(kernels, sparsity)
    now, end = (allocation.allocate(rule, kernels, share, torch.Generator()) for share in (sparsity, final))
    # shares of a layer are rounded: on the way none may fall below what it has in the end
    return {name: max(count, end[name]) for name, count in now.items()}


def by_criterion(criterion: str) -> Scores:
    """The scores of a Gaussian's stored weights by one of ``criteria.CRITERIA``."""

    def scores(posterior: Posterior) -> torch.Tensor:
        assert isinstance(posterior, Gaussian)
        return Moments(posterior.mean.detach(), posterior.std, 1.0).scores(criterion)

    return scores


def by_magnitude(posterior: Posterior) -> torch.Tensor:
    """The scores |mean| of stored weights, of points too."""
    return posterior.mean.detach().abs()


def cubic(step: int, first: int, last: int, final: float) -> float:
    """Sparsity at ``step``: 0 at ``first``, ``final`` from ``last`` on; Zhu & Gupta 2017, equation 1.

    s_t = s_f (1 - (1 - (t - t_0) / (t_n - t_0))^3).
    """
    if step >= last:
        return final
    return final * (1 - (1 - max(step - first, 0) / (last - first)) ** 3)


@torch.no_grad()
def prune(module: nn.Module, keep: Quota, scores: Scores, optimiser: torch.optim.Optimizer | None) -> None:
    """Remove the weights of lowest score until ``keep`` are left; layers that have no more are left alone.

    Of equals those stay that come last. Ranked together, each layer keeps its best weight. Optimisers whose
    state is not per element are refused (``subspace.check_optimiser``); None where there is none yet.
    """
    found = prunable(module)
    ranked = {name: scores(layer.posterior).reshape(-1) for name, layer in found.items()}
    if isinstance(keep, int):
        excess = sum(values.numel() for values in ranked.values()) - keep
        removed = dict(zip(ranked, lowest_of_all(list(ranked.values()), max(excess, 0)), strict=True))
    else:
        removed = {
            name: surgery.lowest(values, max(values.numel() - keep[name], 0))
            for name, values in ranked.items()
        }
    if optimiser is not None:
        surgery.check_optimiser(optimiser)
    for name, layer in found.items():
        if removed[name].any():
            remove(layer, removed[name], optimiser)


@torch.no_grad()
def remove(layer: VariationalLayer, removed: torch.Tensor, optimiser: torch.optim.Optimizer | None) -> None:
    """Take the weights ``removed`` (boolean, flat) out of ``layer``, and their state out of ``optimiser``."""
    kept, before = (~removed).nonzero().view(-1), layer.posterior
    if isinstance(before, Slots):
        nothing = torch.empty(0, dtype=torch.long, device=kept.device)
        surgery.apply(before, surgery.Change(kept, nothing), optimiser)
        return
    layer.make_sparse(kept)
    for name in layer.posterior.PARAMETERS:
        after = getattr(layer.posterior, name)
        surgery.move_state(optimiser, getattr(before, name), after, lambda value: value.reshape(-1)[kept])


def prune_in_training(context: Context, keep: Quota, scores: Scores) -> None:
    """``prune`` in a hook, with the optimiser of the stage at hand."""
    before = sum(layer.posterior.active for layer in prunable(context.module).values())
    prune(context.module, keep, scores, context.optimiser)
    after = sum(layer.posterior.active for layer in prunable(context.module).values())
    context.pruned = context.pruned or after < before


def step_flops(module: nn.Module, dense: float, keep: Quota) -> float:
    """FLOPs an example of a training step of the dense ``module``, which has ``dense``, once it has ``keep``.

    Ranked together, the most that it can be: what stays is in the layers where a weight is used most.
    """
    found = prunable(module)
    prices = {name: step_price(layer) for name, layer in found.items()}
    sizes = {name: layer.posterior.shape.numel() for name, layer in found.items()}
    counts = dearest(sizes, prices, keep) if isinstance(keep, int) else keep
    return dense - sum((sizes[name] - counts[name]) * price for name, price in prices.items())


def step_price(layer: VariationalLayer) -> int:
    """FLOPs an example that one weight of ``layer`` adds to a training step (``methods.layers.costs``)."""
    return 2 * 3 * layer.output_positions * layer.contractions


def dearest(sizes: Mapping[str, int], prices: Mapping[str, float], keep: int) -> dict[str, int]:
    """How ``keep`` weights lie in layers of ``sizes``, one in each, where they cost most at ``prices``."""
    counts = dict.fromkeys(sizes, 1)
    left = keep - len(sizes)
    for name in sorted(sizes, key=lambda name: -prices[name]):
        more = min(sizes[name] - 1, left)
        counts[name], left = counts[name] + more, left - more
    return counts


def survivors(module: nn.Module, snapshot: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a ``state_dict`` from when ``module`` was dense, the part that it has weights for now."""
    state = dict(snapshot)
    for name, _, posterior in sparse_layers(module):
        for parameter in posterior.PARAMETERS:
            key = f"{name}.posterior.{parameter}"
            state[key] = posterior.gather(state[key])
        state[f"{name}.posterior.index"] = posterior.index
    return state
