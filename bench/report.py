"""Write a report of a suite: ``python -m bench.report --suite baselines``.

It writes ``report.md``, ``report.tex`` (tables for a paper; needs booktabs) and ``report.html``, a single
file with the figures of the dashboard. The report has the question, tables with intervals, failed and
missing runs, definitions, provenance, and the commands that compute everything again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.reporting.contents import make
from bench.results.files import StoreError, printable, write_bytes
from bench.results.store import Store

if TYPE_CHECKING:  # pandas and plotly take a second to import
    pass


def main(argv: list[str] | None = None) -> int:
    """Write the report in its three forms, and say where."""
    parser = cli.parser("bench.report", __doc__)
    parser.add_argument("--suite", required=True, help="a suite that was collected")
    parser.add_argument("--scale", help="scale to report (required if the suite was launched at several)")
    parser.add_argument("--to", metavar="DIR", help="folder to write (default: the suite's results folder)")
    cli.add_results(parser)
    arguments = parser.parse_args(argv)
    store = Store(arguments.results)
    report = make(store, arguments.suite, arguments.scale)
    folder = Path(arguments.to) if arguments.to else store.root / arguments.suite
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from None
    texts = {"report.md": report.markdown(), "report.tex": report.latex(), "report.html": report.page()}
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    print(f"{printable(str(folder))}: {', '.join(texts)}")
    return 0


if __name__ == "__main__":
    entry(main)
