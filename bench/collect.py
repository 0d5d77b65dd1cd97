"""Write the tables of a suite: ``python -m bench.collect --suite criteria_ablation``.

The tables are made from the run folders, and can be made again at any time, also while runs are computed.
Only runs that changed since the last time are read; if none did, the files stay as they are.
"""

from __future__ import annotations

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.monitoring.slurm_queue import settle_all
from bench.reporting.collecting import collect
from bench.results.files import StoreError, printable
from bench.results.store import Store
from bench.statistics.consistency import notes


def main(argv: list[str] | None = None) -> int:
    """Write the tables and print their paths."""
    parser = cli.parser("bench.collect", __doc__)
    parser.add_argument("--suite", required=True, help="a suite that was launched, or `all`")
    cli.add_results(parser)
    parser.add_argument(
        "--recompute", action="store_true", help="read all runs again, also if nothing changed"
    )
    arguments = parser.parse_args(argv)
    store = Store(arguments.results)
    suites = store.suites() if arguments.suite == "all" else [arguments.suite]
    if not suites:
        raise StoreError(f"no suite was launched in {store.root}")
    if (reason := settle_all(store)) is not None:
        print(f"note: {printable(reason)}")
    for suite in suites:
        paths = collect(store, suite, arguments.recompute)
        print(f"{printable(str(store.root / suite))}: {', '.join(path.name for path in paths.values())}")
        for line in notes(store.read_tables(suite, ["runs"])["runs"]):
            print(f"note: {printable(line)}")
    return 0


if __name__ == "__main__":
    entry(main)
