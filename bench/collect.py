"""Write the tables of a suite: ``python -m bench.collect --suite criteria_ablation``.

The tables are made from the run folders and can be made again at any time, also while runs
are being computed. What changed since the last time is read; where nothing did, the files stay as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import cli
from bench.code_versions import differences
from bench.files import printable
from bench.slurm.jobs import settle_all
from bench.store import Store, StoreError
from bench.styles import one_line


def collect(store: Store, suite: str, recompute: bool = False) -> dict[str, Path]:
    """Bring the tables of ``suite`` up to date; returns their paths by name, ``methods.json`` included.

    recompute: make them anew even if no plan and no run changed since they were made.
    """
    paths = store.update_tables(suite, recompute)
    styles = store.write_styles(suite, method_styles())
    return {**paths, styles.name: styles}


def method_styles() -> dict[str, dict[str, Any]]:
    """What views need of every method: its style, version and the first line of its docstring, by name."""
    from methods.base import METHODS  # here, as it imports torch: errors should not wait for it

    found = {}
    for name in METHODS.names():
        method = METHODS.get(name)
        found[name] = {**vars(method.style), "doc": one_line(method.__doc__), "version": method.version}
    return found


def main(argv: list[str] | None = None) -> int:
    """Write the tables and say where they lie."""
    parser = cli.parser("bench.collect", __doc__)
    parser.add_argument("--suite", required=True, help="a suite that was launched, or all of them: all")
    cli.add_results(parser)
    parser.add_argument("--recompute", action="store_true", help="make them anew though nothing changed")
    arguments = parser.parse_args(argv)
    store = Store(arguments.results)
    suites = store.suites() if arguments.suite == "all" else [arguments.suite]
    if not suites:
        raise StoreError(f"no suite was launched in {store.root}")
    if (reason := settle_all(store)) is not None:
        print(f"note: {printable(reason)}")
    for suite in suites:
        paths = collect(store, suite, arguments.recompute)
        print(f"{store.root / suite}: {', '.join(path.name for path in paths.values())}")
        for line in differences(store.read_tables(suite, ["runs"])["runs"]):
            print(f"note: {printable(line)}")
    return 0


if __name__ == "__main__":
    cli.entry(main)
