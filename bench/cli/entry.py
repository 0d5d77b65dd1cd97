"""Run a command as a process: exit statuses, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from bench.results.files import StoreError, printable
from methods.core.errors import meant

#: Exit statuses; the last two are those of a shell.
BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
#: The console command that has all others as verbs.
PROGRAM = "ssvi-bench"
#: Errors that the user can mend. They are looked up among the loaded modules, so that commands that only
#: read results do not import torch just to print an error.
_USER_ERRORS = (
    ("methods.core.errors", "UserError"),
    ("bench.results.files", "StoreError"),
    ("bench.monitoring.slurm_commands", "SlurmError"),
)


def print_anything() -> None:
    """Let no character end this process: stdout replaces those that its encoding lacks.

    A process that was started without stdout (``>&-``) prints to nowhere.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", errors="replace")  # noqa: SIM115  (it stays open as long as the process)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """Within the block, make Ctrl-C and SIGTERM end the process at once, with status 130.

    Use it while a command imports modules and has nothing to clean up. During imports, a
    ``KeyboardInterrupt`` can be swallowed by a compiled module that is half loaded, and the command would
    go on.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: os._exit(INTERRUPTED)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def interrupt(*_: object) -> NoReturn:
    """Handle SIGTERM by ending the command as Ctrl-C does."""
    raise KeyboardInterrupt


def program() -> str | None:
    """Return ``ssvi-bench`` or ``python -m bench`` if that was typed; None if a command's own module was."""
    first = Path(sys.argv[0])
    if first.name == PROGRAM:
        return PROGRAM
    return "python -m bench" if first.parts[-2:] == ("bench", "__main__.py") else None


def typed_as(module: str) -> str:
    """Return how the command in ``module`` was typed: ``ssvi-bench grid`` or ``python -m bench.grid``."""
    typed = program()
    return f"{typed} {module.removeprefix('bench.')}" if typed else f"python -m {module}"


def entry(main: Callable[[], int]) -> NoReturn:
    """Run ``main`` as a process and exit with its result as the exit status.

    Bad input prints one line ``error: …`` to stderr and exits with status 2. Ctrl-C exits with status 130.
    A reader that has gone away (``| head``) leads to status 141, without a message. Any other exception is a
    bug and keeps its traceback.
    """
    print_anything()
    try:
        status = main()
        _flush()
    except KeyboardInterrupt:
        # exit at once, because an interpreter with torch loaded takes more than a second to shut down
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(INTERRUPTED)
    except BrokenPipeError:
        # stdout now leads to nowhere; otherwise flushing it at exit would raise the error again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = BROKEN_PIPE
    except Exception as error:
        if not isinstance(error, _loaded_user_errors()):
            raise
        text = " ".join(str(error).split())
        if isinstance(error, StoreError) and error.there:
            text += meant(error.name, error.there)
        print(f"error: {printable(text)}", file=sys.stderr)
        status = BAD_INPUT
    sys.exit(status)


def _flush() -> None:
    """Write what was printed; raise ``StoreError`` if its file takes no more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # the text stays in the buffer, and the interpreter would try again to write it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StoreError(f"cannot write the output: {error.strerror or error}") from None


def _loaded_user_errors() -> tuple[type[Exception], ...]:
    return tuple(getattr(sys.modules[module], name) for module, name in _USER_ERRORS if module in sys.modules)
