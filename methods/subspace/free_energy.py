"""Record the free energy right before and after an update, on the update's minibatch under the same noise.

Nothing but the subspace differs between the two, so that their difference is what the update itself costs.
What can be proved about it is in docs/theory.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from methods.base import Batch, Context, Progress

#: Training steps for one measured update. Its two forward passes cost about as much as a step.
STEPS_EACH = 160

Loss = Callable[[nn.Module, Batch, Progress], torch.Tensor]


@torch.no_grad()
def of_minibatch(loss: Loss, context: Context) -> float:
    """Return the loss of the current minibatch, in nats per example; the same noise in every call.

    Parameters
    ----------
    loss
        ``Method.loss``: for variational methods, the free energy with the weight that the KL term has now.
    context
        Context of the hook; its streams and batch-norm statistics stay as they are.
    """
    progress = replace(context.progress, noise=context.streams.fresh("free_energy"))
    with context.undisturbed(), context.arithmetic():
        return float(loss(context.module, context.batch, progress))


def record(context: Context, before: float, after: float) -> None:
    """Record the free energy before and after the update of this step, in the table ``history``."""
    progress = context.progress
    row = {"stage": progress.stage, "epoch": progress.epoch, "step": progress.step, "split": "train"}
    for metric, value in (("free_energy_before", before), ("free_energy_after", after)):
        context.record("history", {**row, "metric": metric, "value": value})
