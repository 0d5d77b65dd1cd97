"""How a run is computed, as against what it is: recorded beside the results, never part of the id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.results.run_folder import RunFolder


@dataclass(frozen=True)
class Execution:
    """executor, concurrency (runs at once on this machine), threads, device, and how often to checkpoint.

    concurrency: None where others may have runs on the machine, of which this program knows nothing.
    device: as torch names it. channels_last: images and kernels lie channel by channel within a
    pixel. mode: ``auto``, ``dense`` or ``sparse``: which layers are computed by sparse kernels (see
    ``methods.layers.execution``). compile: what is not variational goes through ``torch.compile``.
    checkpoint_seconds: least time between two checkpoints.
    """

    executor: str = "inline"
    threads: int = 1
    concurrency: int | None = 1
    device: str = "cpu"
    channels_last: bool = False
    compile: bool = False
    mode: str = "auto"
    checkpoint_seconds: float = 5.0


def stopped_otherwise(run: RunFolder, mode: str) -> bool:
    """Whether ``run`` was stopped under another ``--execution``; it may then start anew."""
    before = (run.read("provenance") or {}).get("mode", mode)
    return run.path.exists() and run.status() == "preempted" and before != mode


def resolve_device(name: str) -> str:
    """``name``, or for ``auto`` a CUDA device where there is one and the CPU elsewhere.

    Raises ``UserError`` for a device that this machine lacks.
    """
    import torch  # here: a worker loads this module before it says which devices torch may see

    from methods.core.errors import UserError

    count = torch.cuda.device_count()
    if name == "auto":
        return "cuda" if count else "cpu"
    valid = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if name not in valid:
        raise UserError(f"device {name!r} is not here; valid: auto, {', '.join(valid)}")
    return name
