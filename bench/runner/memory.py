"""Measure the peak memory of a run, on the host and on the device."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
#: Bytes by which a peak that was just reset may exceed the resident size, since the kernel counts in batches.
_SLACK = 2**22


class PeakMemory:
    """The peak memory of this process since this object was made, without its children.

    The system's peaks are reset first, so that a worker does not report an earlier run's peak. If the
    system has no such peaks or does not reset them, the values are None.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats(device)
        self._known = _reset()

    @property
    def bytes(self) -> int | None:
        """Peak of the resident memory, in bytes; None if it is not known."""
        return _resident("VmHWM") if self._known else None

    @property
    def device_bytes(self) -> int | None:
        """Peak memory of tensors on the GPU, in bytes; None for a run on the CPU."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None


def _reset() -> bool:
    """Reset the peak of the resident memory; return whether it has come down to the present value."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # otherwise glibc keeps memory that an earlier run freed
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    peak, now = _resident("VmHWM"), _resident("VmRSS")
    return peak is not None and now is not None and peak - now <= _SLACK


def _resident(field: str) -> int | None:
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB$", (_PROCESS / "status").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
