"""What the end of a job means for the run that it was at."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.slurm.commands import GONE, State

_KINDS = {
    "CANCELLED": "cancelled",
    "PREEMPTED": "preempted",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "OUT_OF_MEMORY": "oom",
    "NODE_FAIL": "node_failure",
    "BOOT_FAIL": "node_failure",
    "LAUNCH_FAILED": "node_failure",
}
#: What SLURM, or the kernel through it, prints where a site has a job killed that takes too much memory.
_OUT_OF_MEMORY = re.compile(r"exceeded memory limit|\boom[-_ ]kill|out[ -]of[ -]memory", re.IGNORECASE)


@dataclass(frozen=True)
class Fate:
    """kind: as ``error_kind`` of ``bench/columns.yaml``, or ``cancelled``; what: in words."""

    kind: str
    what: str


def fate(job: str, state: State, log: list[str]) -> Fate:
    """What became of the run that ``job`` was at, from the job's last state and its log's last lines."""
    kind = _KINDS.get(state.name, "killed")
    # sites without control groups call a job that was killed for its memory FAILED
    if kind == "killed" and any(_OUT_OF_MEMORY.search(line) for line in log):
        kind = "oom"
    known = "is over, and SLURM remembers it no more" if state.name == GONE else f"ended as {state.name}"
    where = f" on {state.nodes}" if state.nodes else ""
    return Fate(kind, f"its job {job} {known}{where}")
