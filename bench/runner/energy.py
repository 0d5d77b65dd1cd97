"""Measure the energy of a run's device by the counters of the machine.

A counter counts all energy that the device uses, including that of other processes.
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

#: Folder where Linux shows the energy counters of Intel's and AMD's processors (RAPL).
POWERCAP = Path("/sys/class/powercap")
#: Processor counters can overflow after some minutes at full power (at 65 kJ), so they are read more often.
_READ_EVERY_SECONDS = 30.0


class Unknown(Exception):
    """The energy can't be measured."""


@dataclass(frozen=True)
class Counter:
    """An energy counter.

    Parameters
    ----------
    read
        Returns its present value, in microjoules.
    wrap
        Value at which it starts again from 0; None if it never does.
    """

    read: Callable[[], int]
    wrap: int | None = None


class EnergyMeter:
    """Measures the energy that ``counters`` count within a block.

        with EnergyMeter(package_counters()) as meter: ...

    ``joules`` is None if there is no counter, or if one could not be read.
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
        """Energy since the block was entered, in joules; None if it is not known."""
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
    """Return the energy counters of ``device``.

    The list is empty if it has none, or if they would also count other runs.

    Parameters
    ----------
    device
        Device of the run.
    concurrency
        Number of runs at once on this machine, which share its processors; None if it is not known. A GPU's
        counter detects other processes by itself.
    """
    if device.type == "cuda":
        return gpu_counters(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    return package_counters() if device.type == "cpu" and concurrency == 1 else []


def package_counters(root: Path = POWERCAP) -> list[Counter]:
    """Return the counters of all processor packages, each with its cores; no counter if one can't be read."""
    try:
        # other zones are parts of a package, or the whole platform
        zones = sorted(root.glob("intel-rapl:*"))
        packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
        return [
            Counter(partial(_number, zone / "energy_uj"), _number(zone / "max_energy_range_uj"))
            for zone in packages
        ]
    except (OSError, Unknown):
        return []


def gpu_counters(uuid: str) -> list[Counter]:
    """Return the counter of an NVIDIA GPU; no counter without the package pynvml or if it has none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except Exception:  # ImportError, or any error of the driver's library
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
