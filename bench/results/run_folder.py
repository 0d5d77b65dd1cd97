"""The folder of one run: a few JSON documents, a few tables of JSON lines."""

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

#: Where a run may stand; ``pending`` is one that nobody has begun, or that was asked for again.
STATUSES = ("pending", "queued", "running", "preempted", "done", "failed", "cancelled")

#: Those in which a run is left alone until it is asked for again.
SETTLED = ("done", "failed", "cancelled")

#: In a run folder: somebody has asked for its end.
CANCEL = "cancel.json"
RUN_ID = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(r"[a-z_]{1,40}")


class RunFolder:
    """``DIR/runs/<run_id>``. It need not exist: the first thing written makes it.

    Documents (``spec``, ``status``, ``metrics``, ``costs``, ``provenance``) are JSON objects, tables
    (``history``, ``layers``, ``criteria_pairs``) JSON lines. Both are replaced as a whole, so that each is
    one process's own, and are named without suffix. Every fault raises ``StoreError`` with the file's name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name

    def write(self, name: str, obj: Mapping[str, Any]) -> None:
        """Replace the document ``name`` atomically; NaN and infinities become null."""
        write_json(self._for_writing(name, ".json"), obj)

    def read(self, name: str) -> dict[str, Any] | None:
        """The document ``name``; None where there is none yet."""
        path = self._file(name, ".json")
        data = read_bytes(path, MAX_DOCUMENT)
        if data is None:
            return None
        obj = parse_json(data, str(path))
        if not isinstance(obj, dict):
            raise StoreError(f"{path}: expected an object, got {type(obj).__name__}")
        return obj

    def write_lines(self, name: str, lines: bytes) -> None:
        """Replace the table ``name``, rows as JSON lines, atomically."""
        write_bytes(self._for_writing(name, ".jsonl"), lines)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of the table ``name``; none where there is no such file."""
        return parse_rows(self.lines(name), str(self._file(name, ".jsonl")))

    def lines(self, name: str) -> bytes:
        """The table ``name`` as it is stored; what follows the last line's end is no row."""
        return complete_lines(read_bytes(self._file(name, ".jsonl")) or b"")

    def status(self) -> str:
        """One of ``STATUSES``."""
        return status_of(self.read("status"), f"{self.path / 'status.json'}")

    def is_done(self) -> bool:
        """Whether the run finished and has results."""
        return self.status() == "done"

    def is_settled(self) -> bool:
        """Whether the run is left alone until it is asked for again; one that can't be read is not."""
        try:
            return self.status() in SETTLED
        except StoreError:
            return False

    def made(self) -> Path:
        """The path of the folder, which exists now."""
        if self.path.is_symlink():
            raise StoreError(f"{self.path}: is a link")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror or error}") from None
        return self.path

    def log(self, text: str) -> None:
        """Add ``text`` to ``run.log``, after the time."""
        append_text(self.made() / "run.log", f"{now()} {text.rstrip()}\n")

    def tail(self, lines: int) -> list[str]:
        """The last lines of ``run.log``, without what would steer a terminal; none where there is no log."""
        if self.path.is_symlink():
            raise StoreError(f"{self.path}: is a link")
        return [printable(line) for line in tail(self.path / "run.log", lines)]

    def ask_cancel(self) -> None:
        """Ask whoever computes the run, now or next, to end it as ``cancelled``."""
        write_json(self.made() / CANCEL, {"asked_at": now()})

    def is_cancel_asked(self) -> bool:
        """Whether somebody has asked for that."""
        return (self.path / CANCEL).exists()

    def forget_cancel(self) -> None:
        """Forget that somebody has; nothing where nobody has."""
        try:
            (self.path / CANCEL).unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"cannot remove {self.path / CANCEL}: {error.strerror or error}") from None

    def _file(self, name: str, suffix: str) -> Path:
        if not _NAME.fullmatch(name):
            raise StoreError(f"{self.path}: {name!r} is no name of a document or table")
        if self.path.is_symlink():
            raise StoreError(f"{self.path}: is a link")
        return self.path / (name + suffix)

    def _for_writing(self, name: str, suffix: str) -> Path:
        path = self._file(name, suffix)
        self.made()
        return path


def status_of(document: Mapping[str, Any] | None, where: str = "status.json") -> str:
    """The status that a run's document ``status`` tells; ``pending`` when there is none."""
    status = "pending" if document is None else document.get("status")
    if not isinstance(status, str) or status not in STATUSES:
        raise StoreError(f"{where}: unknown status {repr(status)[:60]}")
    return status


def now() -> str:
    """The time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


CANCELLED = "cancelled by bench.cancel"
