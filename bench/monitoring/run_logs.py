"""Read what is known of one run: its status and reason, its SLURM job, and its logs as they grow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.monitoring import slurm_records
from bench.monitoring.progress import Item, Progress, items
from bench.results.files import StoreError, opened, tail
from bench.results.run_folder import SETTLED
from bench.results.store import Store

#: Keys of a status document that are shown, in this order.
_SHOWN = (
    *("error_kind", "error", "stage", "epoch", "epochs", "step", "attempt", "host", "pid"),
    *("started_at", "updated_at"),
)


class RunLogs:
    """The logs of a run: the log in its folder, and the output of the processes that computed it.

    Parameters
    ----------
    store
        The results folder.
    run_id
        Id of the run.

    Raises
    ------
    StoreError
        If no launched suite has the run, and it has neither a folder nor a log.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store, self._run = store, store.run(run_id)
        item = _planned(store, run_id)
        if item is None and not self._run.path.exists() and not slurm_records.logs_of(store.root, run_id):
            raise StoreError(f"{store.root}: no suite that was launched has a run {run_id}")
        self._progress = Progress(store, [item or Item(run_id, "run")])
        #: Log to the number of bytes read so far.
        self._read: dict[Path, int] = {}

    @property
    def item(self) -> Item:
        """The run as its plan describes it."""
        return self._progress.items[self._run.run_id]

    @property
    def status(self) -> str:
        """The status of the run now."""
        return self._progress.document(self._run.run_id)[0]

    @property
    def is_settled(self) -> bool:
        """Whether the run has ended, so that its logs will not grow."""
        return self.status in SETTLED

    def facts(self) -> dict[str, str]:
        """Return its status, its job, and what its status document says, such as the reason of a failure."""
        status, document = self._progress.document(self._run.run_id)
        job = self._progress.job(self._run.run_id)
        said = {key: str(document[key]) for key in _SHOWN if document.get(key) is not None}
        return {"status": status, **({"job": job} if job else {}), **said}

    def tails(self, lines: int) -> Iterator[tuple[Path, list[str]]]:
        """Yield each log that is not empty with its last ``lines`` lines."""
        for log in self._logs():
            if found := tail(log, lines):
                yield log, found
            self._read[log] = len(_from(log, 0))

    def news(self) -> Iterator[str]:
        """Yield the lines that were added to the logs since the last call of ``tails`` or ``news``."""
        for log in self._logs():
            start = self._read.get(log, 0)
            new = _from(log, start)
            self._read[log] = start + len(new)
            yield from new.decode(errors="replace").splitlines()

    def _logs(self) -> list[Path]:
        return [self._run.path / "run.log", *slurm_records.logs_of(self._store.root, self._run.run_id)]


def _planned(store: Store, run_id: str) -> Item | None:
    """Return the run as a launched suite describes it; None if no suite has it."""
    with contextlib.suppress(StoreError):
        return next((item for item in items(store, None, None) if item.run_id == run_id), None)
    return None


def _from(log: Path, start: int) -> bytes:
    with contextlib.suppress(OSError, StoreError), opened(log) as file:
        file.seek(start)
        return file.read()
    return b""
