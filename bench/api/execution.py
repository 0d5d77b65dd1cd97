"""How runs that Python code asks for are computed."""

from __future__ import annotations

import warnings

from bench.experiment.execution import MODES, Execution, missed_kernels, resolve_device
from methods.core.errors import UserError, unknown


def execution_of(device: str, threads: int, mode: str, executor: str = "inline") -> Execution:
    """The execution with these properties; warns where sparse kernels are missed.

    Raises ``UserError`` for a device that this machine lacks, threads that are no positive number, a mode
    other than ``MODES``, and for ``sparse`` where there are no kernels.
    """
    if mode not in MODES:
        raise unknown("execution", mode, MODES)
    if type(threads) is not int or threads < 1:
        raise UserError(f"threads: {threads!r} is not a positive whole number")
    device = resolve_device(device)
    if (missed := missed_kernels(device, mode, "execution sparse")) is not None:
        warnings.warn(missed, stacklevel=3)
    return Execution(executor=executor, threads=threads, device=device, mode=mode)
