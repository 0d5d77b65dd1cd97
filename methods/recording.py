"""What is written down about a moving subspace: turnover, scores, and how criteria agree.

The rows go to the run's ``layers`` and ``criteria_pairs`` tables; ``bench/columns.yaml``
defines every field.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import torch

from methods import subspace
from methods.base import Context
from methods.criteria import CRITERIA, EQUIVALENT, scores
from methods.posterior import SparseGaussian

SNAPSHOTS = 20
#: Rank correlations are taken on at most so many slots, evenly spaced: enough for two digits.
RANKED = 512
QUANTILES = (0.1, 0.5, 0.9)


@cache
def snapshots(updates: int) -> frozenset[int]:
    """About ``SNAPSHOTS`` update numbers of 1..updates, spaced evenly in the logarithm."""
    if updates < 1:
        return frozenset()
    spaced = torch.logspace(0, float(torch.tensor(float(updates)).log10()), SNAPSHOTS)
    return frozenset(int(u) for u in spaced.round().unique())


def record_change(
    context: Context,
    layer: str,
    posterior: SparseGaussian,
    before: torch.Tensor,
    change: subspace.Change,
    score_before: torch.Tensor,
    score_after: torch.Tensor,
) -> None:
    """One ``layers`` row for an update just made: slots, turnover, overlaps, score quantiles."""
    replaced = change.add.numel()
    gone = torch.ones(before.numel(), dtype=torch.bool, device=before.device)
    gone[change.keep] = False
    new = torch.isin(posterior.index, change.add.to(torch.int32), assume_unique=True)
    groups = {"kept": score_before[~gone], "removed": score_before[gone], "added": score_after[new]}
    row: dict[str, Any] = {
        **_position(context, layer),
        "slots": posterior.active,
        "replaced": replaced,
        "iou_previous": (before.numel() - replaced) / (before.numel() + replaced),
        "iou_initial": subspace.overlap(posterior.index, context.memory[f"initial/{layer}"]),
    }
    for group, values in groups.items():
        row |= {f"{group}_q{round(100 * q)}": v for q, v in zip(QUANTILES, _quantiles(values), strict=True)}
    context.record("layers", row)


@torch.no_grad()
def record_criteria(
    context: Context, layer: str, posterior: SparseGaussian, criterion: str, n: int, lam: float
) -> None:
    """A ``criteria_pairs`` row for each pair of criteria: would they remove the same ``n`` slots?

    ``snr_abs`` is left out: its ranking is that of ``snr``.
    """
    if n == 0:
        return
    mean, std = posterior.mean, posterior.std
    names = [c for c in CRITERIA if c not in EQUIVALENT]
    score = torch.stack([scores(c, mean, std, lam) for c in names])
    removed = torch.zeros(score.shape, dtype=torch.bool)
    for row, values in enumerate(score):
        removed[row, subspace.lowest(values, n)] = True
    shared = removed.double() @ removed.double().t()
    correlation = torch.corrcoef(_ranks(score[:, :: max(1, score.shape[1] // RANKED)]))
    for a, b in combinations(range(len(names)), 2):
        common, rank = float(shared[a, b]), float(correlation[a, b])
        context.record(
            "criteria_pairs",
            {
                **_position(context, layer),
                "criterion_used": criterion,
                "criterion_a": names[a],
                "criterion_b": names[b],
                "iou": common / (2 * n - common),
                "rank_correlation": rank if rank == rank else None,
            },
        )


def _position(context: Context, layer: str) -> dict[str, Any]:
    progress = context.progress
    return {"stage": progress.stage, "epoch": progress.epoch, "step": progress.step, "layer": layer}


def _quantiles(values: torch.Tensor) -> list[float | None]:
    if values.numel() == 0:
        return [None] * len(QUANTILES)
    # the order statistic at or below the quantile: no interpolation, no limit on the number of slots
    last = values.numel() - 1
    return [float(values.kthvalue(int(q * last) + 1).values) for q in QUANTILES]


def _ranks(score: torch.Tensor) -> torch.Tensor:
    """Ranks within each row, as float64; ties in order of position."""
    return score.argsort(1).argsort(1).double()
