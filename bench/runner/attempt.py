"""Keep the status of one attempt at a run, and decide when it stops."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.results import run_folder
from bench.results.files import StoreError, WriteError
from bench.results.integrity import is_sealed
from bench.results.run_folder import CANCELLED, RunFolder

#: Reason to stop when another process has taken over the run; nothing more is written then.
LOST = "the claim was lost to another process"
_LOOK_SECONDS = 0.5
_MOST_ATTEMPTS = 10**6


class Over(Exception):
    """Another process has taken over or finished the run, so this one must not write any more.

    Parameters
    ----------
    outcome
        ``preempted`` or ``done``.
    """

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Gone(WriteError):
    """The folder of a run was deleted or moved while the run was computed; it is not made again."""


class OwnFolder(RunFolder):
    """The folder of the run that this process computes; its specification is written first.

    Claims make it rare that another process computes the same run. Once another process has finished it,
    writing here raises ``Over``; if this process has already written over some of those files, it goes on.
    If somebody deletes or moves the folder, writing here raises ``Gone``, so that no folder is left that
    holds only the end of a run.
    """

    _mine: tuple[Any, ...] | None = None
    _begun = False

    def write(self, name: str, obj: Mapping[str, Any]) -> None:
        """Write a document, like ``RunFolder.write``."""
        self._require_unfinished()
        super().write(name, obj)
        if name == "status":
            self._mine = _who(obj)
        self._begun = self._begun or name == "spec"

    def made(self) -> Path:
        """Make the folder for the specification; later raise ``Gone`` if it is no longer there."""
        if not self._begun:
            return super().made()
        self.require_there()
        return self.path

    def require_there(self) -> None:
        """Raise ``Gone`` unless the specification that was written here is still here."""
        if not (self.path / "spec.json").exists():
            raise Gone(f"run {self.run_id}: {self.path} was deleted or moved while the run was computed")

    def write_lines(self, name: str, lines: bytes) -> None:
        """Write lines, like ``RunFolder.write_lines``."""
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
    """The status file of a run: new fields are added to those written before."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        earlier = folder.read("status") or {}
        before = earlier.get("attempt")
        self.fields: dict[str, Any] = {
            **{key: value for key, value in earlier.items() if key != "files"},
            "attempt": (before if type(before) is int and before < _MOST_ATTEMPTS else 0) + 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": earlier.get("started_at") or run_folder.timestamp(),
        }

    def set(self, status: str, **fields: Any) -> None:
        """Write the status of the run; an earlier error is removed unless ``fields`` repeat it."""
        told = {"status": status, "updated_at": run_folder.timestamp(), "error": None, "error_kind": None}
        self.fields |= told | fields
        self._folder.write("status", self.fields)


class Watch:
    """Tells why a run must stop: its caller's reason, or that it was cancelled.

    Parameters
    ----------
    folder
        Folder of the run.
    stop
        Returns the caller's reason to stop, or something false.

    Raises
    ------
    Over
        When called, if another process has taken over the run.
    Gone
        When called, if the folder of the run is no longer there.
    """

    def __init__(self, folder: OwnFolder, stop: Callable[[], object]) -> None:
        self._folder, self._stop = folder, stop
        self._looked_at = -float("inf")

    def __call__(self) -> object:
        """Return the reason to stop, or something false."""
        reason = self._stop()
        if reason is LOST:
            raise Over("preempted")
        if not reason and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._folder.require_there()
            if self._folder.is_cancel_asked():
                return CANCELLED
        return "asked to stop" if reason is True else reason
