"""Follow how long slots live: their ages, weights that come back, and what is in the final subspace.

The state is kept in ``Context.memory`` and has the size of the slots. ``bench/columns.yaml`` defines what is
recorded of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from methods.base import Context
from methods.layers.layer import sparse_layers
from methods.layers.posterior import Slots
from methods.subspace import surgery

#: Slots of the network, about, by which earlier subspaces are compared with the final one.
COMPARED = 4096
_PASSED = "passed"


def begin(context: Context) -> None:
    """Let every slot be new, and no weight removed."""
    context.memory[_PASSED] = {}
    for name, _, posterior in sparse_layers(context.module):
        context.memory[f"born/{name}"] = torch.zeros_like(posterior.index)
        context.memory[f"gone/{name}"] = posterior.index[:0].clone()


def follow(
    context: Context,
    layer: str,
    posterior: Slots,
    change: surgery.Change,
    before: torch.Tensor,
    left: torch.Tensor,
    new: torch.Tensor,
) -> dict[str, Any]:
    """Take note of an update of a layer just made, and return its columns of the table ``layers``.

    Parameters
    ----------
    context
        Context of the hook.
    layer, posterior
        Name of the layer, and its posterior after the update.
    change
        The change that was made.
    before
        Active coordinates (s,) before it.
    left, new
        Positions of the removed slots in ``before``, and of the added ones in the posterior's index.
    """
    memory, step = context.memory, context.progress.step
    if _PASSED not in memory:  # the run goes on from a checkpoint of an earlier version of this package
        return {}
    born, gone = memory[f"born/{layer}"], memory[f"gone/{layer}"]
    stays = torch.ones(posterior.active, dtype=torch.bool, device=before.device).index_fill_(0, new, False)
    now = torch.full_like(posterior.index, step).masked_scatter_(stays, born.index_select(0, change.keep))
    added = torch.zeros(posterior.shape.numel(), dtype=torch.bool, device=before.device)
    back = added.index_fill_(0, change.add, True).index_select(0, gone)
    # the state stays of the size of the slots: what was removed longest ago is forgotten
    memory[f"gone/{layer}"] = torch.cat([gone[~back], before[left]])[-posterior.active :]
    memory[f"born/{layer}"] = now
    births = {"age": now, "removed_age": born[left]}
    ages = {f"{name}_q50": _median_age(values, step) for name, values in births.items()}
    return {"regrown": int(back.sum())} | ages


def pass_by(context: Context) -> None:
    """Remember the current subspace, or a sample of it, until the final one is known."""
    if _PASSED not in context.memory:
        return
    found = [(name, posterior) for name, _, posterior in sparse_layers(context.module)]
    share = min(1.0, COMPARED / max(1, sum(posterior.active for _, posterior in found)))
    progress = context.progress
    sets: dict[str, Any] = {name: _sample(posterior.index, share) for name, posterior in found}
    context.memory[_PASSED][progress.step] = {"epoch": progress.epoch, "share": share, "sets": sets}


def record_final(context: Context) -> None:
    """Record how much each subspace that was remembered has in common with the current one, the final one."""
    final = {name: posterior.index for name, _, posterior in sparse_layers(context.module)}
    for step, passed in context.memory.pop(_PASSED, {}).items():
        common = union = 0
        for name, then in passed["sets"].items():
            now = _sample(final[name], passed["share"])
            shared = int(torch.isin(then, now).sum())
            common, union = common + shared, union + then.numel() + now.numel() - shared
        row = {"stage": context.progress.stage, "epoch": passed["epoch"], "step": step, "split": "train"}
        value = common / union if union else 1.0
        context.record("history", {**row, "metric": "iou_final", "value": value})


def _sample(index: torch.Tensor, share: float) -> torch.Tensor:
    """Return the coordinates of about ``share`` of all that there could be, the same ones in each call."""
    if share == 1:
        return index.clone()
    # multiplying by an odd number mixes the coordinates: the result's upper bits are spread evenly
    mixed = (index.long() * 2654435761) % 2**32
    return index[mixed < share * 2**32]


def _median_age(born: torch.Tensor, step: int) -> int | None:
    """Return the median age, or the lower one of two in the middle; None of nothing."""
    if born.numel() == 0:
        return None
    at = born.numel() // 2
    return step - int(np.partition(born.cpu().numpy(), at)[at])
