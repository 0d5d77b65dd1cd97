"""Change which weights are active: choose slots to remove and coordinates to add, and update the state.

A slot is a stored weight; a coordinate is the flat position of a weight in its tensor. The choice is a
pure function of scores and a dense gradient. ``apply`` then carries parameters and optimiser state
over. Both treat one layer at a time; ``methods.subspace.exchange`` chooses across layers.
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
    """A change of the active set of one layer.

    Parameters
    ----------
    keep
        Positions in the slot vectors that stay, sorted.
    add
        Flat coordinates to add, sorted.
    """

    keep: torch.Tensor
    add: torch.Tensor


#: Orders in which pi t / T_end of ``replacement_fraction`` is computed.
ROUNDINGS = {
    "quotient": "pi (t / T_end)",
    "product": "(pi t) / T_end, as in the released SSVI code",
}


#: Schedules of the share of slots that an update replaces, r_t, with tau = t / T_end.
SCHEDULES = {
    "cosine": "alpha (1 + cos(pi tau)) / 2",
    "linear": "alpha (1 - tau)",
    "inverse_power": "alpha (1 - tau)^3",
    "constant": "alpha",
}


def replacement_fraction(
    step: int, last: int, initial: float, rounding: str = "quotient", schedule: str = "cosine"
) -> float:
    """Return the share r_t of slots to replace at ``step``, which begins at ``initial``.

    Unless it is constant, it falls to 0 at step ``last``. Where the share times a number of slots is a whole
    number, rounding decides on which side of it the result lies, and so whether one slot more is replaced.

    Parameters
    ----------
    step, last
        t and T_end.
    initial
        alpha.
    rounding
        Order of operations of the cosine, one of ``ROUNDINGS``.
    schedule
        One of ``SCHEDULES``.

    References
    ----------
    Dettmers & Zettlemoyer 2019; Evci et al. 2020 (cosine, and the others in its appendix).
    """
    step = min(step, last)
    if schedule == "constant":
        return initial
    if schedule == "cosine":
        angle = math.pi * (step / last) if rounding == "quotient" else step * math.pi / last
        return initial / 2 * (1 + math.cos(angle))
    return initial * (1 - step / last) ** (3 if schedule == "inverse_power" else 1)


def lowest(scores: torch.Tensor, n: int) -> torch.Tensor:
    """Mark the ``n`` lowest scores of each row, as a boolean tensor of their shape (s,) or (rows, s).

    NaN is lowest, and ties go to the lower position.
    """
    if n == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    scores = torch.nan_to_num(scores, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    threshold = _nth_lowest(scores, n)
    marked = scores <= threshold
    if int(marked.count_nonzero()) > n * (scores.numel() // scores.shape[-1]):  # ties at a threshold: rare
        rows = (values.reshape(-1, values.shape[-1]) for values in (scores, threshold, marked))
        for score, at, row in zip(*rows, strict=True):
            row.copy_(_with_first(score < at, score == at, n))
    return marked


def strongest(magnitude: torch.Tensor, n: int) -> torch.Tensor:
    """Return the positions of the ``n`` largest magnitudes, sorted; ties go to the lower position.

    Magnitudes must not be NaN.
    """
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=magnitude.device)
    if magnitude.is_cpu and magnitude.dtype == torch.float32 and absent() is None:
        magnitude, chosen = magnitude.contiguous(), torch.empty(n, dtype=torch.long)
        threads = torch.get_num_threads()
        if library().largest(pointer(magnitude), magnitude.numel(), n, pointer(chosen), threads):
            return chosen
    # topk does not sort everything, unlike kthvalue; it breaks ties arbitrarily, so only its minimum is used
    threshold = magnitude.topk(n, sorted=False).values.min()
    return _with_first(magnitude > threshold, magnitude == threshold, n).nonzero().view(-1)


def candidates(
    index: torch.Tensor, removed: torch.Tensor, magnitude: torch.Tensor, readmit: bool
) -> torch.Tensor:
    """Return the numbers by which all coordinates of a layer are ranked for addition, flat; largest first.

    Parameters
    ----------
    index
        Active coordinates (s,), sorted.
    removed
        Slots to remove, boolean (s,).
    magnitude
        Magnitudes of the weight's shape; overwritten with the result. NaN becomes 0.
    readmit
        Whether removed slots compete with their magnitude. If false, they rank below all others (-0.5).
        Slots that stay are not candidates (-1).
    """
    index = index.long()
    ranks = magnitude.view(-1).nan_to_num_(nan=0.0)
    ranks[index[~removed]] = -1
    if not readmit:
        # above the slots that stay, below all others: taken only if there are no other candidates
        ranks[index[removed]] = -0.5
    return ranks


def settle(index: torch.Tensor, removed: torch.Tensor, chosen: torch.Tensor) -> Change:
    """Return the change that removes slots and adds coordinates; a slot that is in both stays.

    Parameters
    ----------
    index
        Active coordinates (s,), sorted.
    removed
        Slots to remove, boolean (s,).
    chosen
        Coordinates to add, sorted.
    """
    chosen = chosen.to(index.dtype)
    slot = torch.searchsorted(index, chosen).clamp_(max=index.numel() - 1)
    back = index[slot] == chosen
    keep = ~removed
    keep[slot[back]] = True
    return Change(keep.nonzero().view(-1), chosen[~back].long())


#: State of added slots in the optimiser.
ADDED_STATES = {
    "zero": "all of it is 0",
    "mean": "means of squared gradients (adam, adamw, rmsprop) are the mean over the layer, all else is 0",
}
#: Names under which torch's optimisers keep running means of squared gradients.
SQUARED_GRADIENTS = ("exp_avg_sq", "square_avg")


def apply(
    posterior: Slots,
    change: Change,
    optimiser: torch.optim.Optimizer | None,
    added: Mapping[str, torch.Tensor | float] = MappingProxyType({}),
    added_state: str = "zero",
) -> None:
    """Make ``change`` in ``posterior`` and in the state of ``optimiser``.

    Slots stay sorted by coordinate. If their number does not change, the parameters change in place.
    Otherwise they are new objects, which replace the old ones in ``optimiser``. Added slots start
    without momentum; step counts are theirs only if the optimiser keeps one for each element.

    Parameters
    ----------
    posterior
        Posterior to change.
    change
        Slots that stay and coordinates to add.
    optimiser
        Optimiser of the parameters, if there is one.
    added
        Values of the parameters of added slots, by name; 0 if not named.
    added_state
        State of added slots in ``optimiser``, one of ``ADDED_STATES``.
    """

    def moved(name: str, state: torch.Tensor) -> torch.Tensor:
        mean = added_state == "mean" and name in SQUARED_GRADIENTS
        return _rearranged(state, change, order, state.mean() if mean else 0.0)

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
        move_state(optimiser, parameter, after, moved)


def move_state(
    optimiser: torch.optim.Optimizer | None,
    before: torch.nn.Parameter,
    after: torch.nn.Parameter,
    rearrange: Callable[[str, torch.Tensor], torch.Tensor],
) -> None:
    """Let ``optimiser`` train ``after`` in place of ``before``.

    ``rearrange`` is applied to the name and value of every state tensor of the parameter's shape.
    """
    if optimiser is None:
        return
    state = optimiser.state.pop(before, None)
    if state is not None:
        optimiser.state[after] = {
            name: rearrange(name, value)
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


def _nth_lowest(values: torch.Tensor, n: int) -> torch.Tensor:
    """Return the ``n``-th lowest value of each row, of shape (1,) or (rows, 1)."""
    if values.device.type == "cpu":  # numpy's selection is several times as fast as torch's
        return torch.from_numpy(np.partition(values.numpy(), n - 1)[..., n - 1 : n])
    return values.kthvalue(n, keepdim=True).values


def _with_first(chosen: torch.Tensor, ties: torch.Tensor, n: int) -> torch.Tensor:
    """Add the first of ``ties`` to ``chosen`` until it has ``n`` entries; changes ``chosen`` in place."""
    chosen[ties.nonzero().view(-1)[: n - int(chosen.sum())]] = True
    return chosen


def _merged_order(index: torch.Tensor, change: Change) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the permutation that sorts kept slots followed by added ones, and the sorted index."""
    merged, order = torch.cat([index[change.keep].long(), change.add]).sort()
    return order, merged.to(torch.int32)


def _rearranged(
    values: torch.Tensor, change: Change, order: torch.Tensor, fill: float | torch.Tensor
) -> torch.Tensor:
    added = values.new_empty(change.add.numel()).copy_(torch.as_tensor(fill).expand(change.add.numel()))
    return torch.cat([values[change.keep], added])[order]
