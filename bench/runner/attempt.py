"""One attempt at a run: the status that it keeps, and what makes it stop."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from bench.results import run_folder
from bench.results.files import StoreError
from bench.results.integrity import is_sealed
from bench.results.run_folder import CANCELLED, RunFolder

#: Why a run is to stop whose claim another process has taken: nothing is written any more.
LOST = "the claim was lost to another process"
_LOOK_SECONDS = 0.5
_MOST_ATTEMPTS = 10**6


class Over(Exception):
    """The run is another process's now, or that one has finished it: there is nothing left to write.

    outcome: ``preempted`` or ``done``.
    """

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class OwnFolder(RunFolder):
    """The folder of a run that this process is at.

    Claims make it rare that another one is at it too. Once that one has finished the run, nothing is written
    here any more: writing raises ``Over``, unless something of this process stands among the other's files.
    """

    _mine: tuple[Any, ...] | None = None

    def write(self, name: str, obj: Mapping[str, Any]) -> None:
        """As ``RunFolder``."""
        self._require_unfinished()
        super().write(name, obj)
        if name == "status":
            self._mine = _who(obj)

    def write_lines(self, name: str, lines: bytes) -> None:
        """As ``RunFolder``."""
        self._require_unfinished()
        super().write_lines(name, lines)

    def _require_unfinished(self) -> None:
        if self._mine is None:
            return
        try:
            said = self.read("status") or {}
        except StoreError:
            return
        if said.get("status") == "done" and _who(said) != self._mine and is_sealed(self):
            raise Over("done")


def _who(status: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(status.get(key) for key in ("host", "pid", "attempt"))


class Status:
    """The run's status file: what was said before stays, what is said now is added."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        earlier = folder.read("status") or {}
        before = earlier.get("attempt")
        self.fields: dict[str, Any] = {
            **{key: value for key, value in earlier.items() if key != "files"},
            "attempt": (before if type(before) is int and before < _MOST_ATTEMPTS else 0) + 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": earlier.get("started_at") or run_folder.now(),
        }

    def set(self, status: str, **fields: Any) -> None:
        """Say where the run stands; an error of earlier is one no more, unless it is said again."""
        told = {"status": status, "updated_at": run_folder.now(), "error": None, "error_kind": None}
        self.fields |= told | fields
        self._folder.write("status", self.fields)


class Watch:
    """Asked again and again why a run is to stop: for what its caller says (``stop``), or as it is cancelled.

    Raises ``Over`` where it has passed to another process.
    """

    def __init__(self, folder: RunFolder, stop: Callable[[], object]) -> None:
        self._folder, self._stop = folder, stop
        self._looked_at = -float("inf")

    def __call__(self) -> object:
        """The reason, or something false."""
        reason = self._stop()
        if reason is LOST:
            raise Over("preempted")
        if not reason and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = time.monotonic()
            if self._folder.is_cancel_asked():
                return CANCELLED
        return "asked to stop" if reason is True else reason
