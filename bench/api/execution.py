"""Resolve how runs that are asked for from Python are computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.experiment.execution import MODES, Execution
from methods.core.errors import UserError, unknown


def plain(value: Any) -> Any:
    """Return numbers of numpy, also those within lists and mappings, as numbers of Python."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def execution_of(device: str, threads: int, mode: str, executor: str = "inline") -> Execution:
    """Check the arguments and return the execution; the device is not resolved yet.

    Parameters
    ----------
    device
        A device of torch, or ``auto``.
    threads
        Threads of torch for each run, at least 1.
    mode
        One of ``MODES``.
    executor
        Where runs are computed.

    Raises
    ------
    UserError
        If ``threads`` or ``mode`` is not valid.
    """
    if mode not in MODES:
        raise unknown("execution", mode, MODES)
    if type(threads) is not int or threads < 1:
        raise UserError(f"threads: {threads!r} is not a positive whole number")
    return Execution(executor=executor, threads=threads, device=device, mode=mode)
