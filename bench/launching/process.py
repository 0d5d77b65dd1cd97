"""How many threads libraries take: they size their pools when they load, before anything could tell them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


def limits(threads: int) -> dict[str, str]:
    """The environment in which no library takes more than ``threads``."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


@contextlib.contextmanager
def blocked(*numbers: signal.Signals) -> Iterator[None]:
    """While it holds, these signals wait for its end; processes that start in it never hear them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
