"""Show the status and logs of a run: ``python -m bench.logs RUN_ID``.

It prints the run's status and reason, its SLURM job, the log in its folder, and the last output of the
processes that computed it. That output is kept only if something went wrong in the launch.
``python -m bench.status --runs`` lists the ids.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.cli.live import named
from bench.monitoring import slurm_records
from bench.monitoring.progress import Item, Progress, items
from bench.results.files import StoreError, opened, printable, tail
from bench.results.run_folder import SETTLED
from bench.results.store import Store

_LINES = 50
_FOLLOW_SECONDS = 1.0
_SHOWN = (
    *("error_kind", "error", "stage", "epoch", "epochs", "step", "attempt", "host", "pid"),
    *("started_at", "updated_at"),
)


def main(argv: list[str] | None = None) -> int:
    """Print what there is; with ``--follow`` what is added, until the run is settled."""
    parser = cli.parser("bench.logs", __doc__)
    parser.add_argument("run_id", metavar="RUN_ID", help="id of a run, as in tables and bench.status")
    cli.add_results(parser)
    parser.add_argument(
        "--lines",
        type=cli.positive,
        metavar="N",
        default=_LINES,
        help="print the last N lines of each log (default: 50)",
    )
    parser.add_argument("--follow", action="store_true", help="print new lines until the run has ended")
    arguments = parser.parse_args(argv)
    store = Store(arguments.results)
    run = store.run(arguments.run_id)
    logs = slurm_records.logs_of(store.root, arguments.run_id)
    item = _planned(store, run.run_id)
    if item is None and not run.path.exists() and not logs:
        raise StoreError(f"{store.root}: no suite that was launched has a run {run.run_id}")
    progress = Progress(store, [item or Item(run.run_id, "run")])
    status, document = progress.document(run.run_id)
    print(named(progress.items[run.run_id]))
    print(f"status: {status}")
    if job := progress.job(run.run_id):
        print(f"job: {job}")
    for key in _SHOWN:
        if document.get(key) is not None:
            print(f"{key}: {printable(str(document[key]))}")
    sys.stdout.flush()
    read = {log: _print_tail(log, arguments.lines) for log in [run.path / "run.log", *logs]}
    while arguments.follow and status not in SETTLED:
        time.sleep(_FOLLOW_SECONDS)
        for log in [run.path / "run.log", *slurm_records.logs_of(store.root, arguments.run_id)]:
            read[log] = _print_from(log, read.get(log, 0))
        status, _ = progress.document(run.run_id)
    if arguments.follow:
        print(f"status: {status}")
    return 0


def _planned(store: Store, run_id: str) -> Item | None:
    """The run as the suites that were launched have it; None where none does."""
    with contextlib.suppress(StoreError):
        return next((item for item in items(store, None, None) if item.run_id == run_id), None)
    return None


def _print_tail(log: Path, lines: int) -> int:
    """Print the last lines of a log; returns its size."""
    if found := tail(log, lines):
        print(f"\n{printable(str(log))}:")
        print("\n".join(map(printable, found)))
    return len(_from(log, 0))


def _print_from(log: Path, start: int) -> int:
    """Print what a log has behind its first ``start`` bytes; returns its size."""
    if new := _from(log, start):
        print("\n".join(printable(line) for line in new.decode(errors="replace").splitlines()), flush=True)
    return start + len(new)


def _from(log: Path, start: int) -> bytes:
    with contextlib.suppress(OSError, StoreError), opened(log) as file:
        file.seek(start)
        return file.read()
    return b""


if __name__ == "__main__":
    entry(main)
