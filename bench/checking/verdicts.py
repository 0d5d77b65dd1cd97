"""Describe how a check fails or is skipped, and where in the method the cause lies."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from pathlib import Path

from bench.results.run_folder import RunFolder
from methods.base import Method
from methods.core.errors import UserError

#: A line of a printed traceback: file, line and function.
_FRAME = re.compile(r'File "(.+?)", line (\d+), in (\S+)')


class Failed(Exception):
    """A promise is not kept; the message says what was found."""


class Skipped(Exception):
    """A promise can't be checked here; the message says why."""


def tell(error: BaseException, method: type[Method]) -> str:
    """Describe an exception in one line: what was raised, and where in the method."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}{where(''.join(traceback.format_exception(error)), method)}"


def reason(folder: RunFolder, method: type[Method]) -> str:
    """Describe why the run in ``folder`` failed, and where in the method."""
    error = str((folder.read("status") or {}).get("error"))
    log = folder.path / "run.log"
    return f"{error}{where(log.read_text(), method) if log.exists() else ''}"


def where(log: str, method: type[Method]) -> str:
    """Return the last place in a printed traceback that the author of ``method`` can mend; else nothing.

    This is a line in the method's own file; else one in a file of its base classes; else one outside
    libraries.
    """
    frames = _FRAME.findall(log)
    files = [_file(cls) for cls in method.__mro__]
    for wanted in (files[:1], files):
        if mine := [frame for frame in frames if frame[0] in wanted]:
            return _place(*mine[-1])
    others = [frame for frame in frames if "site-packages" not in frame[0]]
    return _place(*others[-1]) if others else ""


def place_of(method: type[Method], hook: str) -> str:
    """Return file and line that define ``hook`` of ``method``; empty if it is not a function."""
    code = getattr(inspect.unwrap(getattr(method, hook)), "__code__", None)
    return _place(code.co_filename, str(code.co_firstlineno), hook) if code else ""


def _place(file: str, line: str, function: str) -> str:
    path = Path(file)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f", at {shown}:{line} in {function}"


def _file(cls: type) -> str:
    return str(getattr(sys.modules.get(cls.__module__), "__file__", ""))
