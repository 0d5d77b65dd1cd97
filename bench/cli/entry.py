"""How a command ends: exit statuses, and errors in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from bench.results.files import printable

if TYPE_CHECKING:
    pass


BAD_INPUT = 2


INTERRUPTED = 130


BROKEN_PIPE = 141


#: Errors that mean "the user can mend this". They are looked up among the modules that are
#: loaded: a command of the read side must not import torch to have its errors printed.
_USER_ERRORS = (
    ("methods.core.errors", "UserError"),
    ("bench.results.files", "StoreError"),
    ("bench.monitoring.slurm_commands", "SlurmError"),
)


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """While it holds, Ctrl-C and SIGTERM end the process there and then, with status 130.

    For the seconds in which a command imports and has nothing to put in order: a ``KeyboardInterrupt``
    among imports can be swallowed by a compiled module that is half loaded, and the command would go on.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: os._exit(INTERRUPTED)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def entry(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` as a process: its result is the exit status.

    Bad input is one line ``error: …`` on stderr and status 2; Ctrl-C is status 130; a
    reader that went away (``| head``) is status 141, silently. Anything else is a bug and
    keeps its traceback.
    """
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        # whoever pressed it waits, and an interpreter with torch takes more than a second to take down
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    except BrokenPipeError:
        # what is still buffered would raise again when the interpreter flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    except Exception as error:
        if not isinstance(error, _loaded_user_errors()):
            raise
        print(f"error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        status = BAD_INPUT
    sys.exit(status)


def _loaded_user_errors() -> tuple[type[Exception], ...]:
    return tuple(getattr(sys.modules[module], name) for module, name in _USER_ERRORS if module in sys.modules)
