"""How much of a machine's memory a run is likely to take, and how many fit it at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from pathlib import Path

import psutil

from bench.experiment import preflight
from bench.experiment.spec import RunSpec
from methods.core.errors import UserError

#: An interpreter with torch that has trained something small, as measured.
PROCESS_BYTES = 512 * 2**20
#: Examples, as float32, are held twice for a moment, and there are others than those trained on.
_DATA_FACTOR = 3
#: Of dense VI, for each weight: two parameters, their gradients and momenta, what is made of them in a step.
_BYTES_PER_WEIGHT = 40
_CGROUP = Path("/sys/fs/cgroup")


def expected_bytes(spec: RunSpec) -> int:
    """What a process takes that computes ``spec``, activations aside: too much rather than too little."""
    try:
        task, network = preflight.task(spec), preflight.network(spec)
    except (MemoryError, RuntimeError, UserError):
        return PROCESS_BYTES  # what can't be built fails when it is run, not here
    data = task.examples * math.prod(task.input_shape) * 4
    weights = sum(parameter.numel() for parameter in network.parameters())
    return PROCESS_BYTES + _DATA_FACTOR * data + _BYTES_PER_WEIGHT * weights


def fitting(specs: Iterable[RunSpec]) -> int:
    """How many runs at once the free memory of this machine has room for, at least one."""
    seen = {repr((spec.dataset, spec.network, spec.protocol)): spec for spec in specs}
    largest = max((expected_bytes(spec) for spec in seen.values()), default=PROCESS_BYTES)
    return max(1, available_bytes() // largest)


def available_bytes(cgroup: Path = _CGROUP) -> int:
    """Memory that new processes can have: what the system has free, or less where a container limits it."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        limit = int((cgroup / "memory.max").read_text())  # "max" where there is none
        used = int((cgroup / "memory.current").read_text())
        # pages of files count as used, and are given up when memory is asked for
        for line in (cgroup / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        free = min(free, max(limit - used, 0))
    return free
