"""Keep other grids off this machine while a suite measures time.

Every grid locks one file while it computes: a suite that measures time exclusively, all others shared. The
lock ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Busy(Exception):
    """Another grid computes on this machine, or measures time."""


@contextlib.contextmanager
def held(alone: bool) -> Iterator[bool]:
    """Lock the machine while the block runs; yield whether the lock was obtained.

    A grid that does not need the machine alone also runs, without a lock, beside one that measures time.

    Parameters
    ----------
    alone
        Whether the grid measures time, and so needs the machine alone.

    Raises
    ------
    Busy
        If ``alone`` is true and another grid holds the lock.
    """
    path = Path(tempfile.gettempdir()) / f"ssvi-bench-{os.getuid()}.lock"
    with contextlib.ExitStack() as stack:
        locked = True
        try:
            file = stack.enter_context(path.open("ab"))
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            if alone:
                raise Busy from None
            locked = False
        except OSError:
            pass  # a folder that cannot be written, or has no locks, lets all grids through
        yield locked
