"""The tables that a run writes while it trains: kept in memory, and written as a whole.

Nothing is appended to a file, so that two processes that are at the same run mix nothing: each file is one
process's own. Checkpoints carry the tables, and what lies in the folder is for others to read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.results.files import to_json
from bench.results.run_folder import RunFolder
from bench.results.tables.run_reader import LINES

#: Least time between two writings that no checkpoint asks for.
_SECONDS = 2.0
#: As long as so many bytes were written in all, tables are written whenever they are offered.
_FREE_BYTES = 2**16
#: All such writings together come to so many times the size of the tables.
_MOST_TIMES = 3


class Recorder:
    """The tables of the run in ``folder``."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lines = {table: bytearray() for table in LINES}
        self._stored: dict[str, int] = {}
        self._written, self._written_at = 0, -float("inf")

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row to a table; NaN and infinities become null."""
        self._lines[table] += to_json(row, f"{self._folder.path}/{table}").encode() + b"\n"

    def state_dict(self) -> dict[str, str]:
        """All rows, by table."""
        return {table: lines.decode() for table, lines in self._lines.items()}

    def start(self, state: Mapping[str, str] | None = None) -> None:
        """Go on with the rows of ``state_dict``, or with none; what the folder has beside them goes."""
        for table in LINES:
            self._lines[table] = bytearray((state or {}).get(table, "").encode())
            if self._lines[table] or self._folder.lines(table):
                self._write(table)

    def write(self) -> None:
        """Write what has changed."""
        for table in LINES:
            if len(self._lines[table]) != self._stored.get(table, 0):
                self._write(table)
        self._written_at = time.monotonic()

    def write_all(self) -> None:
        """Write every table that has rows, whatever lies in the folder."""
        for table in LINES:
            if self._lines[table]:
                self._write(table)

    def offer(self) -> None:
        """Write what has changed, but neither often nor, in all, much more than there is."""
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
