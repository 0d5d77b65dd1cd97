"""Show the progress of the runs of a suite: ``python -m bench.status --suite criteria_ablation --watch``.

It reads the results folder, and asks SLURM if jobs were submitted. So it also shows grids that other
processes or machines compute, from any machine that sees the folder.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from rich.console import Console

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.cli.live import listed, named, render, say, shown
from bench.monitoring.progress import Progress, items
from bench.results.store import Store

_WATCH_SECONDS = 1.0


def main(argv: list[str] | None = None) -> int:
    """Print the progress of runs now, or until every run has ended; return 1 if a run failed."""
    parser = cli.parser("bench.status", __doc__)
    parser.add_argument("--suite", help="a suite that was launched (default: all suites)")
    parser.add_argument("--scale", help="show only this scale")
    cli.add_results(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="follow until every run has ended")
    how.add_argument("--runs", action="store_true", help="list every run with its id, status and job")
    arguments = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 240)
    store = Store(arguments.results)
    progress = Progress(store, items(store, arguments.suite, arguments.scale))
    snapshot = progress.look(everything=True)
    if arguments.watch:
        with shown(progress, console):
            while (snapshot := progress.look()).settled < snapshot.total:
                time.sleep(_WATCH_SECONDS)
    else:
        if arguments.runs:
            for item in progress.items.values():
                say(console, listed(item, progress.status(item.run_id), progress.job(item.run_id)))
        for item, reason in snapshot.failed:
            say(console, f"failed: {named(item)}: {reason}")
        console.print(render(replace(snapshot, failed=[])))
    return 1 if snapshot.failed else 0


if __name__ == "__main__":
    entry(main)
