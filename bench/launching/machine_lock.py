"""Who computes on this machine: suites that measure time have it to themselves, as far as grids go.

Every grid holds one file's lock while it computes, shared, and a suite that measures time holds it
alone. The lock ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Busy(Exception):
    """Another grid computes on this machine, or measures."""


@contextlib.contextmanager
def held(alone: bool) -> Iterator[bool]:
    """Hold the machine; yields whether that is so, and raises ``Busy`` where ``alone`` can't be had.

    A grid that needs not be alone goes on beside one that measures, and is told so.
    """
    path = Path(tempfile.gettempdir()) / f"ssvi-bench-{os.getuid()}.lock"
    with path.open("ab") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if alone:
                raise Busy from None
            yield False
        else:
            yield True
