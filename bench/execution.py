"""How a run is computed, as against what it is: recorded beside the results, never part of the id."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """executor, concurrency (runs at once on this machine), threads, device, and how often to checkpoint.

    checkpoint_seconds: least time between two checkpoints, which are written at epoch ends.
    """

    executor: str = "inline"
    threads: int = 1
    concurrency: int = 1
    device: str = "cpu"
    checkpoint_seconds: float = 5.0
