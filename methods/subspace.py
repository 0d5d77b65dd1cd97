"""Moving the subspace: which slots go, which coordinates come, and the surgery on state.

Selection is a pure function of scores and a dense gradient; surgery carries parameters
and optimiser state over. Both treat one layer at a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from methods.errors import UserError
from methods.posterior import SparseGaussian


class Change(NamedTuple):
    """A change of the active set.

    keep: positions in the slot vectors that stay, sorted. add: flat coordinates that come, sorted.
    """

    keep: torch.Tensor
    add: torch.Tensor


def replacement_fraction(step: int, last: int, initial: float) -> float:
    """The share of slots to replace at ``step``: cosine from ``initial`` at 0 to 0 at ``last``.

    r_t = (alpha/2)(1 + cos(pi t / T_end)), Dettmers & Zettlemoyer 2019, Evci et al. 2020.
    """
    return initial / 2 * (1 + math.cos(math.pi * min(step / last, 1.0)))


def lowest(scores: torch.Tensor, n: int) -> torch.Tensor:
    """Positions of the ``n`` lowest scores, sorted; ties go to the lowest position. NaN counts as lowest."""
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=scores.device)
    scores = torch.nan_to_num(scores, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    threshold = scores.kthvalue(n).values
    chosen = (scores < threshold).nonzero().view(-1)
    ties = (scores == threshold).nonzero().view(-1)
    return torch.cat([chosen, ties[: n - chosen.numel()]]).sort().values


def strongest(magnitude: torch.Tensor, n: int) -> torch.Tensor:
    """Positions of the ``n`` largest magnitudes, sorted; ties go to the lowest position."""
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=magnitude.device)
    # topk needs no sort of all of it, unlike kthvalue, but breaks ties as it likes
    threshold = magnitude.topk(n, sorted=False).values.min()
    chosen = (magnitude > threshold).nonzero().view(-1)
    ties = (magnitude == threshold).nonzero().view(-1)
    return torch.cat([chosen, ties[: n - chosen.numel()]]).sort().values


def exchange(
    index: torch.Tensor, scores: torch.Tensor, magnitude: torch.Tensor, n: int, readmit: bool = True
) -> Change:
    """Give up the ``n`` slots of lowest score for the ``n`` candidates of largest magnitude.

    index: active coordinates (s,), sorted. scores: (s,), larger is kept. magnitude: (size,), of
    every coordinate of the layer, overwritten. Candidates are all inactive coordinates and,
    with ``readmit``, the slots just given up: those that win stay as they were. When fewer
    than ``n`` candidates exist, the best of the slots given up stay.
    """
    index = index.long()
    removed = lowest(scores, min(n, index.numel()))
    survivors = torch.ones(index.numel(), dtype=torch.bool, device=index.device)
    survivors[removed] = False
    magnitude = torch.nan_to_num(magnitude.view(-1), nan=0.0)
    magnitude[index[survivors]] = -1
    if not readmit:
        # below every other candidate, above the survivors: taken only when nothing else is left
        magnitude[index[removed]] = -0.5
    chosen = strongest(magnitude, removed.numel())
    returned = torch.isin(index, chosen, assume_unique=True)
    add = chosen[~torch.isin(chosen, index, assume_unique=True)]
    return Change((survivors | returned).nonzero().view(-1), add)


def apply(
    posterior: SparseGaussian, change: Change, new_rho: torch.Tensor, optimiser: torch.optim.Optimizer
) -> None:
    """Make ``change``; added slots get mean 0 and scale parameter ``new_rho`` (a scalar), no momentum.

    The slots stay sorted by coordinate. At an equal number of slots this happens in place; else
    the parameters are new objects, which take the place of the old ones in ``optimiser``.
    """
    order, index = _merged_order(posterior.index, change)
    mean = _rearranged(posterior.mean.detach(), change, order, 0.0)
    rho = _rearranged(posterior.rho.detach(), change, order, new_rho)
    if index.numel() == posterior.active:
        posterior.index.copy_(index)
        for parameter, values in ((posterior.mean, mean), (posterior.rho, rho)):
            parameter.data.copy_(values)
            _move_state(optimiser, parameter, parameter, change, order)
        return
    old = (posterior.mean, posterior.rho)
    posterior.set_slots(index, mean, rho)
    for before, after in zip(old, (posterior.mean, posterior.rho), strict=True):
        _move_state(optimiser, before, after, change, order)
        for group in optimiser.param_groups:
            group["params"] = [after if p is before else p for p in group["params"]]


def check_optimiser(optimiser: torch.optim.Optimizer) -> None:
    """Raise ``UserError`` unless all state of ``optimiser`` is per element or a single number."""
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                shape = f"of shape {tuple(value.shape)} for a parameter of shape {tuple(parameter.shape)}"
            elif isinstance(value, (list, tuple, dict)):
                shape = f"as a {type(value).__name__}"
            else:
                continue
            raise UserError(
                f"optimiser {type(optimiser).__name__} keeps {name!r} {shape}; moving a subspace needs an "
                "element-wise optimiser: SGD, Adam, AdamW, RMSprop, Adagrad, …"
            )


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    """Intersection over union of two sets of coordinates without repeats; 1 when both are empty."""
    common = int(torch.isin(first, second, assume_unique=True).sum())
    union = first.numel() + second.numel() - common
    return common / union if union else 1.0


def _merged_order(index: torch.Tensor, change: Change) -> tuple[torch.Tensor, torch.Tensor]:
    """How kept slots followed by added ones must be permuted to be sorted, and the sorted index."""
    merged, order = torch.cat([index[change.keep].long(), change.add]).sort()
    return order, merged.to(torch.int32)


def _rearranged(
    values: torch.Tensor, change: Change, order: torch.Tensor, fill: float | torch.Tensor
) -> torch.Tensor:
    added = values.new_empty(change.add.numel()).copy_(torch.as_tensor(fill).expand(change.add.numel()))
    return torch.cat([values[change.keep], added])[order]


def _move_state(
    optimiser: torch.optim.Optimizer,
    before: torch.nn.Parameter,
    after: torch.nn.Parameter,
    change: Change,
    order: torch.Tensor,
) -> None:
    """Momentum and the like follow their slots; new slots start from zero."""
    state = optimiser.state.pop(before, None)
    if state is None:
        return
    optimiser.state[after] = {
        name: _rearranged(value, change, order, 0.0)
        if isinstance(value, torch.Tensor) and value.shape == before.shape
        else value
        for name, value in state.items()
    }
