"""What is known of how a run went: ``python -m bench.logs RUN_ID``.

Its status and reason, the log in its folder, and the end of what the processes printed that it was
given to, as far as that is kept: the files of a launch in which all went well are removed.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from bench import cli, launches
from bench.files import StoreError, opened, printable
from bench.folder import SETTLED
from bench.slurm import records
from bench.store import Store

_LINES = 50
_FOLLOW_SECONDS = 1.0
_SHOWN = (
    *("status", "error_kind", "error", "stage", "epoch", "epochs", "step", "attempt", "host", "pid"),
    *("started_at", "updated_at"),
)


def main(argv: list[str] | None = None) -> int:
    """Print what there is; with ``--follow`` what is added, until the run is settled."""
    parser = cli.parser("bench.logs", __doc__)
    parser.add_argument("run_id", metavar="RUN_ID", help="a run, as tables and bench.status name it")
    cli.add_results(parser)
    parser.add_argument(
        "--lines", type=cli.positive, metavar="N", default=_LINES, help="of each log (default: 50)"
    )
    parser.add_argument("--follow", action="store_true", help="go on printing until the run is settled")
    arguments = parser.parse_args(argv)
    store = Store(arguments.results)
    run = store.run(arguments.run_id)
    logs = records.logs_of(store.root, arguments.run_id)
    if not run.path.exists() and not logs:
        raise StoreError(f"{store.root}: nothing is stored of a run {arguments.run_id}")
    document = run.read("status") or {}
    for key in _SHOWN:
        if document.get(key) is not None:
            print(f"{key}: {printable(str(document[key]))}")
    sys.stdout.flush()
    read = {log: _print_tail(log, arguments.lines) for log in [run.path / "run.log", *logs]}
    while arguments.follow and run.status() not in SETTLED:
        time.sleep(_FOLLOW_SECONDS)
        for log in [run.path / "run.log", *records.logs_of(store.root, arguments.run_id)]:
            read[log] = _print_from(log, read.get(log, 0))
    if arguments.follow:
        print(f"status: {run.status()}")
    return 0


def _print_tail(log: Path, lines: int) -> int:
    """Print the last lines of a log; returns its size."""
    if found := launches.tail(log, lines):
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
    cli.entry(main)
