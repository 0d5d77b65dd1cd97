"""Show the status and logs of a run: ``python -m bench.logs RUN_ID``.

It prints the run's status and reason, its SLURM job, the log in its folder, and the last output of the
processes that computed it. That output is kept only if something went wrong in the launch.
``python -m bench.status --runs`` lists the ids.
"""

from __future__ import annotations

import sys
import time

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.cli.live import named
from bench.monitoring.progress import known_ids
from bench.monitoring.run_logs import RunLogs
from bench.results.files import printable
from bench.results.store import Store

_LINES = 50
_FOLLOW_SECONDS = 1.0


def main(argv: list[str] | None = None) -> int:
    """Print the status and logs of a run; with ``--follow``, also new lines until the run has ended."""
    parser = cli.parser("bench.logs", __doc__)
    parser.add_argument("run_id", metavar="RUN_ID", help="id of a run, or its first digits")
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
    logs = RunLogs(store, store.full_id(arguments.run_id, known_ids(store)))
    print(named(logs.item))
    for key, value in logs.facts().items():
        print(f"{key}: {printable(value)}")
    sys.stdout.flush()
    for log, lines in logs.tails(arguments.lines):
        print(f"\n{printable(str(log))}:")
        print("\n".join(map(printable, lines)))
    if arguments.follow:
        settled = False
        while not settled:
            settled = logs.is_settled  # asked before reading, so that the last lines are not missed
            for line in logs.news():
                print(printable(line), flush=True)
            time.sleep(0 if settled else _FOLLOW_SECONDS)
        print(f"status: {logs.status}")
    return 0


if __name__ == "__main__":
    entry(main)
