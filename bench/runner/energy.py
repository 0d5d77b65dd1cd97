"""Energy of the device of a run, from the counters that the machine has.

A counter counts everything that the device does: what others did meanwhile is in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

#: Where Linux has the counters of Intel's and AMD's processors (running average power limit).
POWERCAP = Path("/sys/class/powercap")
#: A package's counter overflows after minutes at full power (65 kJ on some), so it is read more often.
_READ_EVERY_SECONDS = 30.0


class Unknown(Exception):
    """The energy can't be told."""


@dataclass(frozen=True)
class Counter:
    """``read`` gives microjoules, which start again from 0 after ``wrap`` (None: never)."""

    read: Callable[[], int]
    wrap: int | None = None


class EnergyMeter:
    """Joules that ``counters`` have counted since the block was entered.

        with EnergyMeter(package_counters()) as meter: ...

    Without a counter, or once one can't be read, ``joules`` is None.
    """

    def __init__(self, counters: list[Counter]) -> None:
        self._counters = counters
        self._known = bool(counters)
        self._microjoules = 0
        self._last: list[int] = []
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._read()
        if self._known:
            threading.Thread(target=self._keep_reading, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    @property
    def joules(self) -> float | None:
        """Energy so far; None where it is not known."""
        self._read()
        return self._microjoules * 1e-6 if self._known else None

    def _keep_reading(self) -> None:
        while self._known and not self._over.wait(_READ_EVERY_SECONDS):
            self._read()

    def _read(self) -> None:
        with self._lock:
            try:
                now = [counter.read() for counter in self._counters]
            except Unknown:
                self._known = False
                return
            for counter, before, after in zip(self._counters, self._last, now, strict=False):
                if after < before and counter.wrap is None:
                    self._known = False
                    return
                self._microjoules += after - before + (counter.wrap or 0) * (after < before)
            self._last = now


def counters(device: torch.device, concurrency: int | None) -> list[Counter]:
    """The counters of ``device``; none where there are none, or other runs would be counted too.

    concurrency: runs at once on this machine, None where that is not known. They share its processors; a
    GPU tells by itself whether another process is on it.
    """
    if device.type == "cuda":
        return gpu_counters(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    return package_counters() if device.type == "cpu" and concurrency == 1 else []


def package_counters(root: Path = POWERCAP) -> list[Counter]:
    """The counters of the processor packages, each with its cores in it; none where one can't be read."""
    try:
        # there are also zones of a package's parts, and of the whole platform
        zones = sorted(root.glob("intel-rapl:*"))
        packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        return [
            Counter(partial(_number, zone / "energy_uj"), _number(zone / "max_energy_range_uj"))
            for zone in packages
        ]
    except (OSError, Unknown):
        return []


def gpu_counters(uuid: str) -> list[Counter]:
    """The counter of an NVIDIA GPU, through pynvml; none without that package or such a counter."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except Exception:  # ImportError, or whatever the driver's library finds wrong
        return []

    def read() -> int:
        try:
            millijoules = int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
            shared = len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) > 1
        except pynvml.NVMLError as error:
            raise Unknown(str(error)) from None
        if shared:
            raise Unknown("another process is on the GPU")
        return 1000 * millijoules

    return [Counter(read)]


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError) as error:
        raise Unknown(f"{file}: {error}") from None
