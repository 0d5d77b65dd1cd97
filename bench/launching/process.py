"""Prepare new processes: limit the threads of libraries, and block signals."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


def thread_limits(threads: int) -> dict[str, str]:
    """Return environment variables that limit every library to ``threads`` threads.

    Libraries choose their number of threads when they are loaded, so it must be set before.
    """
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


@contextlib.contextmanager
def blocked(*numbers: signal.Signals) -> Iterator[None]:
    """Hold back these signals until the block ends; processes that start within it never receive them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
