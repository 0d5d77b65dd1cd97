"""Describe how a run is computed; this is recorded with the results, but is not part of the run id."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.results.run_folder import RunFolder


#: What ``Execution.mode`` may be.
MODES = ("auto", "dense", "sparse")


@dataclass(frozen=True)
class Execution:
    """How a run is computed.

    Parameters
    ----------
    executor
        ``local``, ``inline`` or ``slurm``.
    threads
        Number of torch threads.
    concurrency
        Number of runs at once on this machine; None if unknown, as others may compute there too.
    device
        Device by torch's name.
    channels_last
        Whether images and kernels are stored with channels last in memory.
    compile
        Whether the parts of a network that are not variational are compiled by ``torch.compile``.
    mode
        ``auto``, ``dense`` or ``sparse``: which layers sparse kernels compute (see
        ``methods.layers.execution``).
    checkpoint_seconds
        Least time between two checkpoints, in seconds.
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
    """Return whether ``run`` was stopped under another ``--execution``; it may then have to start anew."""
    before = (run.read("provenance") or {}).get("mode", mode)
    return run.path.exists() and run.status() == "preempted" and before != mode


def on_this_machine(execution: Execution) -> Execution:
    """Return ``execution`` with ``device: auto`` resolved, unless SLURM jobs compute: nodes have their own.

    A note on stderr says if sparse kernels could be used but are missing.

    Raises
    ------
    UserError
        If the device, or kernels that were asked for, are missing.
    """
    from methods.core.errors import UserError
    from methods.kernels.library import absent

    if execution.executor != "slurm":
        execution = replace(execution, device=resolve_device(execution.device))
    if execution.device == "cpu" and execution.mode != "dense" and (reason := absent()) is not None:
        if execution.mode == "sparse":
            raise UserError(f"--execution sparse: {reason}")
        print(f"note: every layer is computed densely: {reason}", file=sys.stderr)
    return execution


def resolve_device(name: str) -> str:
    """Return the device to use: ``name``, or for ``auto`` a GPU if there is one, else the CPU.

    Raises
    ------
    UserError
        If this machine does not have the device.
    """
    import torch  # imported here: a worker loads this module before it sets the devices that torch may see

    from methods.core.errors import UserError

    count = torch.cuda.device_count()
    if name == "auto":
        return "cuda" if count else "cpu"
    valid = ["cpu", *(["cuda"] if count else []), *(f"cuda:{number}" for number in range(count))]
    if name not in valid:
        raise UserError(f"this machine has no device {name!r}; valid: auto, {', '.join(valid)}")
    return name
