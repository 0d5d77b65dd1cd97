"""The most memory that a run took, on the host and on the device."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
#: What a high-water mark that was just reset may lie above the resident size: the kernel counts in batches.
_SLACK = 2**22


class PeakMemory:
    """Peak memory of this process, its children not included, from construction on.

    The marks are reset first, so that a worker's run does not report an earlier one's. Where
    the system has no such marks or does not reset them, nothing is reported.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats(device)
        self._known = _reset()

    @property
    def bytes(self) -> int | None:
        """Resident memory at its highest; None where it can't be known."""
        return _resident("VmHWM") if self._known else None

    @property
    def device_bytes(self) -> int | None:
        """Memory of tensors on the GPU at its highest; None where the run has none."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None


def _reset() -> bool:
    """Whether the high-water mark of resident memory has come down to what is resident now."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier run freed, glibc would keep
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
