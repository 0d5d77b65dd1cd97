"""Whether the loss is still a number, without the device waiting for the host in each step."""

from __future__ import annotations

import math
import time

import torch

_SECONDS = 0.25


class LossWatch:
    """Looks at a loss on the CPU at once; elsewhere at its sum so far, a few times a second.

    Once a term is not finite the sum never is again, so that no step goes unseen. The sum is copied
    behind the work that makes it, and looked at when it has come.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_device = device.type == "cuda"
        self._copied: torch.cuda.Event | None = None
        self._asked_at = time.monotonic()
        if self._on_device:
            self._copy = torch.zeros((), dtype=torch.float64, pin_memory=True)

    def not_finite(self, loss: torch.Tensor, total: torch.Tensor) -> float | None:
        """The loss, or the sum ``total`` (float64) of losses, where that is known not to be finite."""
        if not self._on_device:
            return None if math.isfinite(value := float(loss)) else value
        if self._copied is not None:
            if not self._copied.query():
                return None
            self._copied = None
            if not math.isfinite(value := float(self._copy)):
                return value
        if time.monotonic() - self._asked_at >= _SECONDS:
            self._copy.copy_(total, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()
            self._asked_at = time.monotonic()
        return None
