"""Signals that wait."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def blocked(*numbers: signal.Signals) -> Iterator[None]:
    """While it holds, these signals wait for its end; processes that start in it never hear them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
