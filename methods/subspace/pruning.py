"""Prune: remove the weights of lowest score from parameters, gradients, optimiser and checkpoints.

A dense layer becomes sparse; a sparse layer gets fewer slots. Weights that stay keep their values and
their momentum. Only layers with ``VariationalLayer.sparsifiable`` lose weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from methods.base import Context
from methods.criteria.base import CRITERIA
from methods.criteria.moments import Moments
from methods.layers.layer import VariationalLayer, sparse_layers
from methods.layers.posterior import Gaussian, Posterior, Slots
from methods.subspace import allocation, surgery
from methods.subspace.exchange import lowest_of_all

#: Scores the stored weights of a posterior; weights of larger score are kept.
Scores = Callable[[Posterior], torch.Tensor]
#: Numbers of weights to keep, in each layer by name, or one number for all layers together.
Quota = Mapping[str, int] | int


def prunable(module: nn.Module) -> dict[str, VariationalLayer]:
    """Return the layers whose weights may be removed, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, VariationalLayer) and layer.sparsifiable
    }


@dataclass(frozen=True)
class Room:
    """The layers of a module whose weights may be removed, as numbers: to count without walking the module.

    Parameters
    ----------
    shapes
        Shape of each kernel, by name of the layer.
    prices
        FLOPs that one weight of each layer adds to a training step for one example.
    """

    shapes: dict[str, torch.Size]
    prices: dict[str, int]

    @classmethod
    def of(cls, module: nn.Module) -> Room:
        """Return the layers of ``module`` that may be pruned."""
        found = prunable(module)
        return cls(
            {name: layer.posterior.shape for name, layer in found.items()},
            {name: step_price(layer) for name, layer in found.items()},
        )

    def quota(self, rule: str, sparsity: float, final: float) -> Quota:
        """Return how many weights to keep.

        Parameters
        ----------
        rule
            One of ``allocation.RULES``. ``global`` gives one number, because all layers are ranked together.
        sparsity
            Sparsity to reach now.
        final
            Sparsity at the end of training.
        """
        if rule == "global":
            return allocation.total(self.shapes, sparsity)
        now, end = (
            allocation.allocate(rule, self.shapes, share, torch.Generator()) for share in (sparsity, final)
        )
        # counts are rounded: no layer may have fewer weights on the way than at the end
        return {name: max(count, end[name]) for name, count in now.items()}

    def step_flops(self, dense: float, keep: Quota) -> float:
        """Return the FLOPs of a training step for one example after pruning to ``keep``.

        If layers are ranked together, the largest possible value is returned: the weights that stay are
        then assumed to be in the layers that use a weight most often.

        Parameters
        ----------
        dense
            FLOPs of a training step of the dense module for one example.
        keep
            Numbers of weights to keep.
        """
        sizes = {name: shape.numel() for name, shape in self.shapes.items()}
        counts = dearest(sizes, self.prices, keep) if isinstance(keep, int) else keep
        return dense - sum((sizes[name] - counts[name]) * price for name, price in self.prices.items())


def by_criterion(criterion: str) -> Scores:
    """Return the function that scores the weights of a Gaussian posterior by a removal criterion."""
    chosen = CRITERIA.get(criterion)()

    def scores(posterior: Posterior) -> torch.Tensor:
        assert isinstance(posterior, Gaussian)
        return chosen.score(Moments(posterior.mean.detach(), posterior.std))

    return scores


def by_magnitude(posterior: Posterior) -> torch.Tensor:
    """Score stored weights by |mean|; works without variance too."""
    return posterior.mean.detach().abs()


def cubic(step: int, first: int, last: int, final: float) -> float:
    """Return the sparsity at ``step``: 0 up to step ``first``, ``final`` from step ``last`` on.

    s_t = s_f (1 - (1 - (t - t_0) / (t_n - t_0))^3).

    References
    ----------
    Zhu & Gupta 2017, equation 1.
    """
    if step >= last:
        return final
    return final * (1 - (1 - max(step - first, 0) / (last - first)) ** 3)


@torch.no_grad()
def prune(module: nn.Module, keep: Quota, scores: Scores, optimiser: torch.optim.Optimizer | None) -> None:
    """Remove the weights of lowest score until ``keep`` are left.

    Layers that have no more than that are not changed. Of equal scores the last ones stay. If layers are
    ranked together, each keeps its best weight.

    Parameters
    ----------
    module
        Module to prune, in place.
    keep
        Numbers of weights to keep.
    scores
        Scores the weights; the lowest are removed.
    optimiser
        Optimiser of the parameters; None if there is none yet.

    Raises
    ------
    UserError
        If the optimiser has state that is not per element (``surgery.check_optimiser``).
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
    """Remove the weights marked in ``removed`` (boolean, flat) from ``layer`` and from ``optimiser``."""
    kept, before = (~removed).nonzero().view(-1), layer.posterior
    if isinstance(before, Slots):
        nothing = torch.empty(0, dtype=torch.long, device=kept.device)
        surgery.apply(before, surgery.Change(kept, nothing), optimiser)
        return
    layer.make_sparse(kept)
    for name in layer.posterior.PARAMETERS:
        after = getattr(layer.posterior, name)
        surgery.move_state(optimiser, getattr(before, name), after, lambda _, value: value.reshape(-1)[kept])


def prune_in_training(context: Context, keep: Quota, scores: Scores) -> None:
    """Prune within a hook, with the optimiser of the stage; set ``context.pruned`` if weights went."""
    before = sum(layer.posterior.active for layer in prunable(context.module).values())
    prune(context.module, keep, scores, context.optimiser)
    after = sum(layer.posterior.active for layer in prunable(context.module).values())
    context.pruned = context.pruned or after < before


def step_price(layer: VariationalLayer) -> int:
    """Return the FLOPs that one weight of ``layer`` adds to a training step for one example."""
    return 2 * 3 * layer.output_positions * layer.contractions


def dearest(sizes: Mapping[str, int], prices: Mapping[str, float], keep: int) -> dict[str, int]:
    """Distribute ``keep`` weights over layers so that they cost as much as possible.

    Every layer gets at least one weight.

    Parameters
    ----------
    sizes
        Number of weights of each layer, by name.
    prices
        Cost of one weight of each layer, by name.
    keep
        Number of weights to distribute.
    """
    counts = dict.fromkeys(sizes, 1)
    left = keep - len(sizes)
    for name in sorted(sizes, key=lambda name: -prices[name]):
        more = min(sizes[name] - 1, left)
        counts[name], left = counts[name] + more, left - more
    return counts


def survivors(module: nn.Module, snapshot: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Reduce the ``state_dict`` of a dense module to the weights that ``module`` still has."""
    state = dict(snapshot)
    for name, _, posterior in sparse_layers(module):
        for parameter in posterior.PARAMETERS:
            key = f"{name}.posterior.{parameter}"
            state[key] = posterior.gather(state[key])
        state[f"{name}.posterior.index"] = posterior.index
    return state
