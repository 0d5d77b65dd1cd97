"""Write the tables of a suite: ``python -m bench.collect --suite criteria_ablation``.

The tables are made from the run folders, and can be made again at any time, also while runs are computed.
Only runs that changed since the last time are read; if none did, the files stay as they are. --recompute
makes the metrics of test parts again from stored predictions, and --bins N others with N bins.
"""

from __future__ import annotations

from functools import partial

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
        "--recompute",
        action="store_true",
        help="make the metrics of test parts again from stored predictions, also if nothing changed",
    )
    parser.add_argument(
        "--bins",
        type=cli.positive,
        metavar="N",
        help="also write tables with calibration errors of N bins, to the folder bins-N of the suite",
    )
    arguments = parser.parse_args(argv)
    if arguments.recompute or arguments.bins:
        from bench.evaluation.recompute import recomputed  # imports torch, which takes seconds
    store = Store(arguments.results)
    suites = store.suites() if arguments.suite == "all" else [arguments.suite]
    if not suites:
        raise StoreError(f"no suite was launched in {store.root}")
    if (reason := settle_all(store)) is not None:
        print(f"note: {printable(reason)}")
    for suite in suites:
        paths = collect(store, suite, recomputed if arguments.recompute else None)
        print(f"{printable(str(store.root / suite))}: {', '.join(path.name for path in paths.values())}")
        if arguments.bins:
            renewed, folder = partial(recomputed, bins=arguments.bins), f"bins-{arguments.bins}"
            names = ", ".join(path.name for path in store.update_tables(suite, renewed, folder).values())
            print(f"{printable(str(store.root / suite / folder))}: {names}")
        for line in notes(store.read_tables(suite, ["runs"])["runs"]):
            print(f"note: {printable(line)}")
    return 0


if __name__ == "__main__":
    entry(main)
