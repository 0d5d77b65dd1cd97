"""Record a moving subspace: how many slots change, their scores, and how far criteria agree.

The rows go to the run's tables ``layers`` and ``criteria_pairs``; ``bench/columns.yaml`` defines
every column.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import torch

from methods.base import Context
from methods.criteria.base import CRITERIA
from methods.criteria.moments import Moments
from methods.layers.posterior import Slots
from methods.subspace import lifetimes, surgery
from methods.subspace.lifetimes import Numbers

#: What is recorded of some updates only is so at about ``SNAPSHOTS`` updates of a stage; in a short stage at
#: fewer, but at least at two. Criteria are compared once in ``STEPS_A_SNAPSHOT`` steps then, since a
#: comparison costs as much as a step or two of a small network.
SNAPSHOTS, STEPS_A_SNAPSHOT = 20, 120
#: Rank correlations use about this many slots, evenly spaced; their standard error is then at most 0.04.
RANKED = 512
QUANTILES = (0.1, 0.5, 0.9)


@cache
def snapshots(updates: int, steps: int, each: int = STEPS_A_SNAPSHOT) -> frozenset[int]:
    """Return which of the updates 1..updates are snapshots; they are evenly spaced on a logarithmic scale.

    ``steps`` is the number of steps in the stage, of which there is a snapshot for ``each``.
    """
    if updates < 1:
        return frozenset()
    count = min(SNAPSHOTS, max(2, steps // each))
    return frozenset(np.geomspace(1, updates, count).round().astype(int).tolist())


def record_change(
    context: Context,
    layer: str,
    posterior: Slots,
    change: surgery.Change,
    before: torch.Tensor,
    score_before: torch.Tensor,
    score_after: torch.Tensor,
) -> None:
    """Record a row of ``layers`` for an update just made: slots, turnover, overlaps, ages, scores.

    Parameters
    ----------
    context
        Context of the hook.
    layer
        Name of the layer.
    posterior
        Posterior after the update.
    change
        The change that was made.
    before
        Active coordinates (s,) before the change.
    score_before, score_after
        Scores of the slots before and after the change.
    """
    # numpy's operations on a few thousand numbers take a fraction of the time of torch's
    was, index, keep, add = map(lifetimes.on_host, (before, posterior.index, change.keep, change.add))
    slots, kept_slots, added = len(was), len(keep), len(add)
    goes = np.ones(slots, dtype=bool)
    goes[keep] = False
    left, new = np.flatnonzero(goes), np.searchsorted(index, add.astype(index.dtype))
    lower, upper = map(lifetimes.on_host, (score_before, score_after))
    row: dict[str, Any] = {
        **_position(context, layer),
        "slots": posterior.active,
        "replaced": added,
        "removed": slots - kept_slots,
        "iou_previous": kept_slots / (slots + added),
        "iou_initial": lifetimes.overlap(
            index, lifetimes.on_host(context.memory[f"initial/{layer}"]), posterior.shape.numel()
        ),
    }
    for group, score in {"kept": lower[keep], "removed": lower[left], "added": upper[new]}.items():
        found = _quantiles(score)
        row |= {f"{group}_q{round(100 * q)}": v for q, v in zip(QUANTILES, found, strict=True)}
    row |= lifetimes.follow(context, layer, posterior, keep, add, was, left, new)
    context.record("layers", row)


def record_criteria(context: Context, layer: str, moments: Moments, criterion: str, n: int) -> None:
    """Record a row of ``criteria_pairs`` for each pair of criteria: would they remove the same slots?

    The criteria are those of ``compared``.

    Parameters
    ----------
    context
        Context of the hook.
    layer
        Name of the layer.
    moments
        Moments of the layer's slots.
    criterion
        Criterion that the method uses.
    n
        Number of slots to remove.
    """
    if n == 0:
        return
    names = compared(criterion)
    score = torch.stack([CRITERIA.get(name)().score(moments) for name in names])
    removed = surgery.lowest(score, n).float()
    shared = (removed @ removed.t()).tolist()
    ranks = _centred_ranks(score[:, :: max(1, score.shape[1] // RANKED)])
    products = ranks @ ranks.t()
    correlation = (products / products[0, 0]).tolist()  # all rows rank the same numbers: equal variances
    position = _position(context, layer)
    for a, b in combinations(range(len(names)), 2):
        common, rank = shared[a][b], correlation[a][b]
        context.record(
            "criteria_pairs",
            {
                **position,
                "criterion_used": criterion,
                "criterion_a": names[a],
                "criterion_b": names[b],
                "iou": common / (2 * n - common),
                "rank_correlation": rank if rank == rank else None,
            },
        )


def compared(criterion: str) -> tuple[str, ...]:
    """Return the criteria that a run compares: those of this package, and ``criterion``, by which it removes.

    What a run records so depends on its settings, not on the plug-ins that are installed. A criterion
    that ranks as another one (``snr_abs``) is left out.
    """
    entries = [CRITERIA.get(name) for name in CRITERIA.names()]
    return tuple(
        entry.name
        for entry in entries
        if entry.ranks_as is None and (CRITERIA.is_own(entry) or entry.name == criterion)
    )


def _position(context: Context, layer: str) -> dict[str, Any]:
    progress = context.progress
    return {"stage": progress.stage, "epoch": progress.epoch, "step": progress.step, "layer": layer}


def _quantiles(values: Numbers) -> list[float | None]:
    if values.size == 0:
        return [None] * len(QUANTILES)
    # take the order statistic at or below each quantile: one partial sort gives all three
    at = [int(q * (values.size - 1)) for q in QUANTILES]
    return [float(v) for v in np.partition(values, at)[at]]


def _centred_ranks(score: torch.Tensor) -> torch.Tensor:
    """Return the ranks within each row, shifted to mean 0, as float64; ties rank in order of position."""
    ranks = torch.arange(score.shape[1], dtype=torch.float64, device=score.device)
    ranks -= (score.shape[1] - 1) / 2
    return torch.empty_like(score).scatter_(1, score.argsort(1), ranks.expand_as(score))
