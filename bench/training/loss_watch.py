"""Notice a loss that is NaN or infinite, without the device waiting for the CPU in every step."""

from __future__ import annotations

import math
import time

import torch

_SECONDS = 0.25


class LossWatch:
    """Check each loss on the CPU at once; on a GPU check the sum of losses a few times a second.

    If one loss is not finite, the sum stays not finite, so that no step is missed. The sum is copied to the
    CPU asynchronously and checked once it has arrived.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_device = device.type == "cuda"
        self._copied: torch.cuda.Event | None = None
        self._asked_at = time.monotonic()
        if self._on_device:
            self._copy = torch.zeros((), dtype=torch.float64, pin_memory=True)

    def not_finite(self, loss: torch.Tensor, total: torch.Tensor) -> float | None:
        """Return the loss or the sum of losses if it is known not to be finite, else None.

        Parameters
        ----------
        loss
            Loss of the last step, a scalar.
        total
            Sum of the losses so far, a scalar of float64.
        """
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
