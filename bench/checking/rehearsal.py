"""The first step of a run, for what ``build`` and ``loss`` return: the loop would stumble over it later."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from bench.checking.blame import place_of
from bench.checking.outcomes import Failed
from bench.checking.trial import Trial
from methods.base import METHODS, Batch, Method, Progress, Task
from methods.streams import Streams


class _Over(Exception):
    """All has been seen."""


def rehearse(trial: Trial) -> None:
    """Raise ``Failed`` where ``build`` or ``loss`` returns what can't be trained.

    What they raise is not told here, but by the run that comes next.
    """
    name, options = trial.spec.method
    asked = cast(Method, _Asked(METHODS.get(name)(options)))
    try:
        with torch.enable_grad():  # whoever asks may be within no_grad
            trial.trainer("rehearsal", asked).run()
    except Failed:
        raise
    except (Exception, SystemExit):
        pass


class _Asked:
    """Stands in for ``method`` in training, looks at what it returns, and ends with its first loss."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        """What the method builds."""
        module: Any = self._method.build(network, streams, task)
        cls = type(self._method)
        place = place_of(cls, "build")
        if not isinstance(module, nn.Module):
            raise Failed(f"build returns {_words(module)}; it is the nn.Module to train{place}")
        callers = [hook for hook in ("loss", "mean") if getattr(cls, hook) is getattr(Method, hook)]
        if callers and type(module).forward is nn.Module.forward:
            raise Failed(
                f"build returns a {type(module).__name__}, which has no forward, and {' and '.join(callers)} "
                f"of Method would call it{place}"
            )
        return module

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        """Never returns."""
        loss: Any = self._method.loss(module, batch, progress)
        if not isinstance(loss, torch.Tensor) or loss.dim() or not loss.requires_grad:
            place = place_of(type(self._method), "loss")
            raise Failed(f"loss returns {_words(loss)}; it is a scalar tensor with a gradient{place}")
        raise _Over


def _words(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        gradient = "" if value.requires_grad else " without a gradient"
        return f"a tensor of shape {tuple(value.shape)}{gradient}"
    return " ".join(repr(value).split())[:80]
