"""How runs that Python code asks for are computed."""

from __future__ import annotations

from bench.experiment.execution import MODES, Execution
from methods.core.errors import UserError, unknown


def execution_of(device: str, threads: int, mode: str, executor: str = "inline") -> Execution:
    """Check what a caller asks for, as the parser of a command does; the device is not resolved yet.

    Raises
    ------
    UserError
        ``threads`` is not a positive whole number, or ``mode`` is not one of ``MODES``.
    """
    if mode not in MODES:
        raise unknown("execution", mode, MODES)
    if type(threads) is not int or threads < 1:
        raise UserError(f"threads: {threads!r} is not a positive whole number")
    return Execution(executor=executor, threads=threads, device=device, mode=mode)
