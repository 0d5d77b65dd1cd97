"""Compute the data term of losses: cross-entropy, with the class weights and label smoothing of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Targets:
    """How labels count in the cross-entropy.

    Parameters
    ----------
    class_weights
        Weight of each class, of shape (C,); None: all count the same.
    smoothing
        Share of each target that is spread over all classes.
    used
        Whether a loss has been computed with them.
    """

    class_weights: torch.Tensor | None = None
    smoothing: float = 0.0
    used: bool = False

    @property
    def plain(self) -> bool:
        """Whether labels count as they are."""
        return self.class_weights is None and self.smoothing == 0


_in_force: ContextVar[Targets] = ContextVar("targets", default=Targets())  # noqa: B039


@contextmanager
def counting(targets: Targets) -> Iterator[None]:
    """Let ``data_loss`` count labels by ``targets`` within the block."""
    token = _in_force.set(targets)
    try:
        yield
    finally:
        _in_force.reset(token)


def data_loss(module: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the mean cross-entropy of a minibatch, in nats, in the forward pass that is in force.

    The settings ``class_weights`` and ``label_smoothing`` of a run in training apply, as those of
    ``torch.nn.CrossEntropyLoss``: the mean is divided by the sum of the weights of the labels.

    Parameters
    ----------
    module
        Function from inputs to logits.
    batch
        Inputs (n, *input_shape) and labels (n,).
    """
    inputs, labels = batch
    targets = _in_force.get()
    targets.used = True
    return F.cross_entropy(module(inputs), labels, targets.class_weights, label_smoothing=targets.smoothing)
