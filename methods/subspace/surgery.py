"""Moving the subspace: which slots go, which coordinates come, and the surgery on state.

Selection is a pure function of scores and a dense gradient; surgery carries parameters
and optimiser state over. Both treat one layer at a time; ``methods.subspace.exchange`` selects across layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from methods.core.errors import UserError
from methods.kernels.library import absent, library, pointer
from methods.layers.posterior import Slots


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
    """Which are the ``n`` lowest scores, boolean; ties go to the lowest position. NaN counts as lowest."""
    if n == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    scores = torch.nan_to_num(scores, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    threshold = _nth_lowest(scores, n)
    return _with_first(scores < threshold, scores == threshold, n)


def strongest(magnitude: torch.Tensor, n: int) -> torch.Tensor:
    """Positions of the ``n`` largest magnitudes, sorted; ties go to the lowest position. None is NaN."""
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=magnitude.device)
    if magnitude.is_cpu and magnitude.dtype == torch.float32 and absent() is None:
        magnitude, chosen = magnitude.contiguous(), torch.empty(n, dtype=torch.long)
        threads = torch.get_num_threads()
        if library().largest(pointer(magnitude), magnitude.numel(), n, pointer(chosen), threads):
            return chosen
    # topk needs no sort of all of it, unlike kthvalue, but breaks ties as it likes
    threshold = magnitude.topk(n, sorted=False).values.min()
    return _with_first(magnitude > threshold, magnitude == threshold, n).nonzero().view(-1)


def candidates(
    index: torch.Tensor, removed: torch.Tensor, magnitude: torch.Tensor, readmit: bool
) -> torch.Tensor:
    """What every coordinate of a layer ranks by for addition, flat; overwrites ``magnitude``. NaN ranks as 0.

    Survivors are no candidates: -1. Without ``readmit`` slots just given up come below all others.
    """
    index = index.long()
    ranks = magnitude.view(-1).nan_to_num_(nan=0.0)
    ranks[index[~removed]] = -1
    if not readmit:
        # above the survivors: taken only when nothing else is left
        ranks[index[removed]] = -0.5
    return ranks


def settle(index: torch.Tensor, removed: torch.Tensor, chosen: torch.Tensor) -> Change:
    """The change when ``removed`` slots (boolean) go and ``chosen`` coordinates (sorted) come, or stay."""
    chosen = chosen.to(index.dtype)
    slot = torch.searchsorted(index, chosen).clamp_(max=index.numel() - 1)
    back = index[slot] == chosen
    keep = ~removed
    keep[slot[back]] = True
    return Change(keep.nonzero().view(-1), chosen[~back].long())


def apply(
    posterior: Slots,
    change: Change,
    optimiser: torch.optim.Optimizer | None,
    added: Mapping[str, torch.Tensor | float] = MappingProxyType({}),
) -> None:
    """Make ``change``; the parameters of added slots, by name, take ``added`` (0 by default), no momentum.

    The slots stay sorted by coordinate. At an equal number of slots this happens in place; else
    the parameters are new objects, which take the place of the old ones in ``optimiser``, if there is one.
    """
    order, index = _merged_order(posterior.index, change)
    before = {name: getattr(posterior, name) for name in posterior.PARAMETERS}
    values = {
        name: _rearranged(parameter.detach(), change, order, added.get(name, 0.0))
        for name, parameter in before.items()
    }
    if index.numel() == posterior.active:
        posterior.index.copy_(index)
        for name, parameter in before.items():
            parameter.data.copy_(values[name])
    else:
        posterior.set_slots(index, **values)
    for name, parameter in before.items():
        after = getattr(posterior, name)
        move_state(optimiser, parameter, after, lambda value: _rearranged(value, change, order, 0.0))


def move_state(
    optimiser: torch.optim.Optimizer | None,
    before: torch.nn.Parameter,
    after: torch.nn.Parameter,
    rearrange: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Have ``optimiser`` train ``after`` in place of ``before``; ``rearrange`` is for state of its shape."""
    if optimiser is None:
        return
    state = optimiser.state.pop(before, None)
    if state is not None:
        optimiser.state[after] = {
            name: rearrange(value)
            if isinstance(value, torch.Tensor) and value.shape == before.shape
            else value
            for name, value in state.items()
        }
    if after is not before:
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


def overlap(first: torch.Tensor, second: torch.Tensor, size: int) -> float:
    """Intersection over union of two sets of coordinates below ``size``; 1 when both are empty."""
    marked = torch.zeros(size, dtype=torch.bool, device=first.device)
    marked[first] = True
    common = int(marked[second].sum())
    union = first.numel() + second.numel() - common
    return common / union if union else 1.0


def _nth_lowest(values: torch.Tensor, n: int) -> float | torch.Tensor:
    if values.device.type == "cpu":  # numpy's selection is vectorised, and several times as fast
        return float(np.partition(values.numpy(), n - 1)[n - 1])
    return values.kthvalue(n).values


def _with_first(chosen: torch.Tensor, ties: torch.Tensor, n: int) -> torch.Tensor:
    """``chosen``, in place, with the first of ``ties`` added to make ``n`` in all."""
    chosen[ties.nonzero().view(-1)[: n - int(chosen.sum())]] = True
    return chosen


def _merged_order(index: torch.Tensor, change: Change) -> tuple[torch.Tensor, torch.Tensor]:
    """How kept slots followed by added ones must be permuted to be sorted, and the sorted index."""
    merged, order = torch.cat([index[change.keep].long(), change.add]).sort()
    return order, merged.to(torch.int32)


def _rearranged(
    values: torch.Tensor, change: Change, order: torch.Tensor, fill: float | torch.Tensor
) -> torch.Tensor:
    added = values.new_empty(change.add.numel()).copy_(torch.as_tensor(fill).expand(change.add.numel()))
    return torch.cat([values[change.keep], added])[order]
