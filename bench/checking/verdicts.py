"""Make checks one after another; each passes, fails or is skipped, with a reason."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from bench.results.run_folder import RunFolder
from methods.base import Method
from methods.core.errors import UserError

T = TypeVar("T")


class Failed(Exception):
    """A promise is not kept; the message says what was found."""


class Skipped(Exception):
    """A promise can't be checked here; the message says why."""


@dataclass(frozen=True)
class Check(Generic[T]):
    """A promise, and how it is checked.

    Parameters
    ----------
    name
        One word.
    promise
        What is promised, in a sentence.
    look
        Returns what was found of a subject; raises ``Failed`` or ``Skipped`` with the reason.
    vital
        Whether all later checks are skipped if this one fails.
    """

    name: str
    promise: str
    look: Callable[[T], str]
    vital: bool = False


@dataclass(frozen=True)
class Verdict:
    """The result of a check.

    Parameters
    ----------
    check
        The check.
    outcome
        ``pass``, ``FAIL`` or ``skipped``.
    words
        What was found, or the reason of the failure.
    """

    check: Check[Any]
    outcome: Literal["pass", "FAIL", "skipped"]
    words: str


def examine(checks: Sequence[Check[T]], subject: T, cls: type) -> Iterator[Verdict]:
    """Make every check of ``subject`` in order; an error raised by the class ``cls`` is a failed check."""
    failed = ""
    for check in checks:
        if failed:
            yield Verdict(check, "skipped", f"{failed} failed")
            continue
        verdict = _examine(check, subject, cls)
        if verdict.outcome == "FAIL" and check.vital:
            failed = check.name
        yield verdict


def _examine(check: Check[T], subject: T, cls: type) -> Verdict:
    try:
        return Verdict(check, "pass", check.look(subject))
    except Skipped as reason:
        return Verdict(check, "skipped", str(reason))
    except Failed as reason:
        return Verdict(check, "FAIL", str(reason))
    except (Exception, SystemExit) as error:  # a class from elsewhere may raise anything
        return Verdict(check, "FAIL", tell(error, cls))


#: A line of a printed traceback: file, line and function.
_FRAME = re.compile(r'File "(.+?)", line (\d+), in (\S+)')


def tell(error: BaseException, cls: type) -> str:
    """Describe an exception in one line: what was raised, and where in the class that is checked."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text}{where(''.join(traceback.format_exception(error)), cls)}"


def reason(folder: RunFolder, method: type[Method]) -> str:
    """Describe why the run in ``folder`` failed, and where in the method."""
    error = str((folder.read("status") or {}).get("error"))
    log = folder.path / "run.log"
    return f"{error}{where(log.read_text(), method) if log.exists() else ''}"


def where(log: str, cls: type) -> str:
    """Return the last place in a printed traceback that the author of ``cls`` can mend, or an empty text.

    The place is a line in the file of ``cls``, else in a file of its base classes, else outside installed
    libraries.
    """
    frames = _FRAME.findall(log)
    files = [_file(base) for base in cls.__mro__]
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
