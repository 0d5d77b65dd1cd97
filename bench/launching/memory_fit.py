"""Estimate the memory of a run, and how many runs fit into a machine's memory at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from pathlib import Path

import psutil

from bench.experiment import preflight
from bench.experiment.spec import RunSpec
from methods.core.errors import UserError

#: Measured memory of a process that has loaded torch and trained a small network.
PROCESS_BYTES = 512 * 2**20
#: Copies of the training examples to allow for: float32 values exist twice for a moment, and other examples
#: (validation, test) are loaded too.
_DATA_FACTOR = 3
#: Bytes for a weight under dense VI: two parameters, their gradients and momenta, and values of a step.
_BYTES_PER_WEIGHT = 40
_CGROUP = Path("/sys/fs/cgroup")


def expected_bytes(spec: RunSpec) -> int:
    """Estimate the memory of a process that computes ``spec``, in bytes, without activations.

    The estimate is rather too high than too low.
    """
    try:
        task, network = preflight.task(spec), preflight.network(spec)
    except (MemoryError, RuntimeError, UserError):
        return PROCESS_BYTES  # a run that can't be built fails when it is run, not here
    data = task.examples * math.prod(task.input_shape) * 4
    weights = sum(parameter.numel() for parameter in network.parameters())
    return PROCESS_BYTES + _DATA_FACTOR * data + _BYTES_PER_WEIGHT * weights


def fitting(specs: Iterable[RunSpec]) -> int:
    """Return how many of ``specs`` fit into the free memory of this machine at once, at least one."""
    seen = {spec.key("dataset", "network", "protocol"): spec for spec in specs}
    largest = max((expected_bytes(spec) for spec in seen.values()), default=PROCESS_BYTES)
    return max(1, available_bytes() // largest)


def available_bytes(cgroup: Path = _CGROUP) -> int:
    """Return the memory that new processes can have, in bytes; the limit of a container is respected."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text())  # "max", a ValueError, if there is no limit
        used = int((cgroup / "memory.current").read_text())
        # cached pages of files count as used, but are freed when memory is needed
        for line in (cgroup / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        free = min(free, max(limit - used, 0))
    return free
