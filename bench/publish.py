"""Copy tables, without runs, to give them to others: ``python -m bench.publish --suite baselines --to DIR``.

A published folder has plans, tables, the styles of methods, and the patches of uncommitted code that runs
refer to: a few MB instead of hundreds. The dashboard and ``bench.report`` read it like any results folder,
but nothing can be computed or collected there. Publishing again replaces the suites that are named; with
``--merge`` it adds the runs that are not published yet. Planned runs that are not done are listed.
"""

from __future__ import annotations

from pathlib import Path

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.reporting.publishing import missing, publish
from bench.results.files import StoreError, not_launched, printable
from bench.results.store import Store
from bench.results.words import counted


def main(argv: list[str] | None = None) -> int:
    """Publish the suites, and print the number and size of the files."""
    parser = cli.parser("bench.publish", __doc__)
    parser.add_argument("--suite", required=True, help="a suite that was collected, or `all`")
    parser.add_argument("--to", type=cli.path, required=True, metavar="DIR", help="the folder to publish to")
    parser.add_argument(
        "--merge",
        action="store_true",
        help="keep what is published of the suites and add finished runs by their id; refused, with nothing "
        "changed, where the two contradict each other",
    )
    cli.add_results(parser)
    arguments = parser.parse_args(argv)
    store = Store(arguments.results)
    suites = store.suites() if arguments.suite == "all" else [arguments.suite]
    if not suites:
        raise StoreError(f"no suite was launched in {store.root}")
    if unknown := set(suites) - set(store.suites()):
        raise not_launched(store.root, "suite", unknown.pop(), store.suites())
    target = Path(arguments.to)
    if target.resolve() == store.root.resolve():
        raise StoreError(f"--to {target}: is the results folder itself")
    written = publish(store, suites, target, arguments.merge)
    size = sum(path.stat().st_size for path in written) / 2**20
    print(f"{printable(str(target))}: {', '.join(suites)}: {counted(len(written), 'file')}, {size:.1f} MB")
    published = Store(target)
    for suite in suites:
        for scale, lines in missing(published, suite).items():
            print(f"{suite}, scale {scale}: planned and not done:")
            print("\n".join(f"  {line}" for line in lines))
    return 0


if __name__ == "__main__":
    entry(main)
