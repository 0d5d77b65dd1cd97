"""Read and write the folder of one run: JSON documents, tables of JSON lines, and a log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.results.files import (
    MAX_DOCUMENT,
    StoreError,
    WriteError,
    append_text,
    complete_lines,
    parse_json,
    parse_rows,
    printable,
    read_bytes,
    tail,
    write_bytes,
    write_json,
)

#: The states of a run. A ``pending`` run has not started, or was asked for again.
STATUSES = ("pending", "queued", "running", "preempted", "done", "failed", "cancelled")

#: The states in which a run stays until somebody asks for it again.
SETTLED = ("done", "failed", "cancelled")

#: File in a run folder that asks for the end of the run.
CANCEL = "cancel.json"
#: Why a run was stopped that somebody cancelled: the error in its status.
CANCELLED = "cancelled by bench.cancel"
RUN_ID = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(r"[a-z_]{1,40}")


class RunFolder:
    """Access the folder ``DIR/runs/<run_id>`` of one run. The first write makes the folder.

    Documents (``spec``, ``status``, ``metrics``, ``costs``, ``provenance``) are JSON objects; tables
    (``history``, ``layers``, ``criteria_pairs``) are JSON lines. Methods take their names without suffix.
    A write replaces the whole file, so that a file never mixes the output of two processes. Every fault
    raises ``StoreError`` with the name of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name

    def write(self, name: str, obj: Mapping[str, Any]) -> None:
        """Replace the document ``name`` atomically; NaN and infinities become null."""
        write_json(self._for_writing(name, ".json"), obj)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the document ``name``; None if it does not exist yet."""
        path = self._file(name, ".json")
        data = read_bytes(path, MAX_DOCUMENT)
        if data is None:
            return None
        obj = parse_json(data, str(path))
        if not isinstance(obj, dict):
            raise StoreError(f"{path}: expected an object, got {type(obj).__name__}")
        return obj

    def write_lines(self, name: str, lines: bytes) -> None:
        """Replace the table ``name`` atomically by ``lines``, one JSON object a line."""
        write_bytes(self._for_writing(name, ".jsonl"), lines)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of the table ``name``; an empty list if the file does not exist."""
        return parse_rows(self.lines(name), str(self._file(name, ".jsonl")))

    def lines(self, name: str) -> bytes:
        """Return the bytes of the table ``name`` up to its last newline, without an unfinished last row."""
        return complete_lines(read_bytes(self._file(name, ".jsonl")) or b"")

    def status(self) -> str:
        """Return the state of the run, one of ``STATUSES``."""
        return status_of(self.read("status"), f"{self.path / 'status.json'}")

    def is_done(self) -> bool:
        """Tell whether the run finished and has results."""
        return self.status() == "done"

    def is_settled(self) -> bool:
        """Tell whether the state is one of ``SETTLED``; false if it cannot be read."""
        try:
            return self.status() in SETTLED
        except StoreError:
            return False

    def made(self) -> Path:
        """Make the folder if it is missing, and return its path.

        The results folder is not made: who deletes it while its runs are computed does not get it back.
        """
        if self.path.is_symlink():
            raise StoreError(f"{self.path}: is a link")
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(exist_ok=True)
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror or error}") from None
        return self.path

    def log(self, text: str) -> None:
        """Append the time and ``text`` to ``run.log``."""
        append_text(self.made() / "run.log", f"{timestamp()} {text.rstrip()}\n")

    def tail(self, lines: int) -> list[str]:
        """Return the last ``lines`` lines of ``run.log`` without terminal control characters.

        The list is empty if there is no log.
        """
        if self.path.is_symlink():
            raise StoreError(f"{self.path}: is a link")
        return [printable(line) for line in tail(self.path / "run.log", lines)]

    def ask_cancel(self) -> None:
        """Ask the process that computes the run, now or later, to end it as ``cancelled``."""
        write_json(self.made() / CANCEL, {"asked_at": timestamp()})

    def is_cancel_asked(self) -> bool:
        """Tell whether cancelling the run was asked for."""
        return (self.path / CANCEL).exists()

    def forget_cancel(self) -> None:
        """Withdraw the request to cancel the run, if there is one."""
        try:
            (self.path / CANCEL).unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"cannot remove {self.path / CANCEL}: {error.strerror or error}") from None

    def _file(self, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name):
            raise StoreError(f"{self.path}: {name!r} is not a name of a document or table")
        if self.path.is_symlink():
            raise StoreError(f"{self.path}: is a link")
        return self.path / (name + suffix)

    def _for_writing(self, name: str, suffix: str) -> Path:
        path = self._file(name, suffix)
        self.made()
        return path


def status_of(document: Mapping[str, Any] | None, where: str = "status.json") -> str:
    """Return the state in a run's document ``status``; ``pending`` if ``document`` is None.

    Raises
    ------
    StoreError
        The state is not one of ``STATUSES``; the message starts with ``where``.
    """
    status = "pending" if document is None else document.get("status")
    if not isinstance(status, str) or status not in STATUSES:
        raise StoreError(f"{where}: unknown status {repr(status)[:60]}")
    return status


def timestamp() -> str:
    """Return the time in UTC in ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
