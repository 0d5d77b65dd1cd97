"""Record the tables of a run while it trains: keep them in memory and write them as whole files.

Files are replaced and never appended to, so that two processes on the same run cannot mix their rows in a
file. Checkpoints hold the tables too; the files in the folder are for other readers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.results.files import to_json
from bench.results.run_folder import RunFolder
from bench.results.tables.run_reader import LINES

#: Least number of seconds between two writes by ``offer``.
_SECONDS = 2.0
#: Until this many bytes are written, every offer is written.
_FREE_BYTES = 2**16
#: All writes by ``offer`` together write at most this many times the size of the tables.
_MOST_TIMES = 3


class Recorder:
    """Record the tables of the run in ``folder``."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lines = {table: bytearray() for table in LINES}
        self._stored: dict[str, int] = {}
        self._written, self._written_at = 0, -float("inf")

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row to a table; NaN and infinities become null."""
        self._lines[table] += to_json(row, f"{self._folder.path}/{table}").encode() + b"\n"

    def state_dict(self) -> dict[str, str]:
        """Return all rows as JSON lines, by table."""
        return {table: lines.decode() for table, lines in self._lines.items()}

    def start(self, state: Mapping[str, str] | None = None) -> None:
        """Start from the rows of ``state_dict``, or from none; other rows in the folder are removed."""
        for table in LINES:
            self._lines[table] = bytearray((state or {}).get(table, "").encode())
            if self._lines[table] or self._folder.lines(table):
                self._write(table)

    def write(self) -> None:
        """Write the tables that have changed."""
        for table in LINES:
            if len(self._lines[table]) != self._stored.get(table, 0):
                self._write(table)
        self._written_at = time.monotonic()

    def write_all(self) -> None:
        """Write every table that has rows, even if it has not changed."""
        for table in LINES:
            if self._lines[table]:
                self._write(table)

    def offer(self) -> None:
        """Write the tables that have changed, unless this happens too often or has written too much."""
        size = sum(map(len, self._lines.values()))
        after = self._written + size
        soon = time.monotonic() - self._written_at < _SECONDS
        if after > _FREE_BYTES and (soon or after > _MOST_TIMES * size):
            return
        self.write()
        self._written = after

    def _write(self, table: str) -> None:
        self._folder.write_lines(table, bytes(self._lines[table]))
        self._stored[table] = len(self._lines[table])
