"""Follow how long slots live: their ages, weights that come back, and what is in the final subspace.

The state is kept in ``Context.memory`` and has the size of the slots. ``bench/columns.yaml`` defines what is
recorded of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.base import Context
from methods.layers.layer import sparse_layers
from methods.layers.posterior import Slots

#: Slots of the network, about, by which earlier subspaces are compared with the final one.
COMPARED = 4096
#: Training steps for one of these earlier subspaces.
STEPS_EACH = 40
_PASSED = "passed"
Numbers = NDArray[Any]


def on_host(tensor: torch.Tensor) -> Numbers:
    """Return the values of a tensor as an array of numpy, which shares its memory on the CPU."""
    return tensor.detach().cpu().numpy()


def overlap(first: Numbers, second: Numbers, size: int) -> float:
    """Return intersection over union of two sets of coordinates below ``size``; 1 if both are empty."""
    marked = np.zeros(size, dtype=bool)
    marked[first] = True
    common = int(np.count_nonzero(marked[second]))
    union = len(first) + len(second) - common
    return common / union if union else 1.0


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
    keep: Numbers,
    add: Numbers,
    before: Numbers,
    left: Numbers,
    new: Numbers,
) -> dict[str, Any]:
    """Take note of an update of a layer just made, and return its columns of the table ``layers``.

    Parameters
    ----------
    context
        Context of the hook.
    layer, posterior
        Name of the layer, and its posterior after the update.
    keep, add
        Of the change that was made (``surgery.Change``): positions of slots that stay, and new coordinates.
    before
        Active coordinates (s,) before it.
    left, new
        Positions of the removed slots in ``before``, and of the added ones in the posterior's index.
    """
    memory, step = context.memory, context.progress.step
    if _PASSED not in memory:  # the run goes on from a checkpoint of an earlier version of this package
        return {}
    born, gone = (on_host(memory[f"{name}/{layer}"]) for name in ("born", "gone"))
    stays = np.ones(posterior.active, dtype=bool)
    stays[new] = False
    now = np.full(posterior.active, step, dtype=born.dtype)
    now[stays] = born[keep]
    added = np.zeros(posterior.shape.numel(), dtype=bool)
    added[add] = True
    back = added[gone]
    # the state stays of the size of the slots: what was removed longest ago is forgotten
    still = np.concatenate([gone[~back], before[left]])[-posterior.active :]
    for name, values in (("born", now), ("gone", still)):
        memory[f"{name}/{layer}"] = torch.from_numpy(values).to(posterior.index.device)
    births = {"age": now, "removed_age": born[left]}
    ages = {f"{name}_q50": _median_age(values, step) for name, values in births.items()}
    return {"regrown": int(np.count_nonzero(back))} | ages


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


def _median_age(born: Numbers, step: int) -> int | None:
    """Return the median age, or the lower one of two in the middle; None of nothing."""
    if born.size == 0:
        return None
    at = born.size // 2
    return step - int(np.partition(born, at)[at])
