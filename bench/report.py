"""Write a report of a suite: ``python -m bench.report --suite baselines``.

It writes ``report.md``, ``report.tex`` (tables for a paper; needs booktabs and tabularx) and
``report.html``, a single file with the figures of the dashboard. The report has the question, tables with
intervals, failed and missing runs, definitions, provenance, and the commands that compute everything again.
"""

from __future__ import annotations

from pathlib import Path

from bench.cli import arguments as cli
from bench.cli.entry import entry
from bench.reporting.contents import make
from bench.results.files import printable
from bench.results.store import Store
from bench.results.tables.columns import PREDICTORS, SCORES
from methods.core.errors import unknown


def main(argv: list[str] | None = None) -> int:
    """Write the report in its three formats, and print the paths."""
    parser = cli.parser("bench.report", __doc__)
    parser.add_argument("--suite", required=True, help="a suite that was collected")
    parser.add_argument("--scale", help="scale to report (required if the suite was launched at several)")
    parser.add_argument(
        "--to", type=cli.path, metavar="DIR", help="folder to write (default: the suite's results folder)"
    )
    cli.add_results(parser)
    parser.add_argument(
        "--score",
        metavar="SCORE",
        action="append",
        default=[],
        help=f"rank by it: {', '.join(SCORES)}; repeatable: a ranking for each (default: as the suite says)",
    )
    parser.add_argument(
        "--predictor",
        choices=PREDICTORS,
        default="samples",
        help="whose scores to compare: those of averaged samples, or of the mean network (default: samples)",
    )
    arguments = parser.parse_args(argv)
    for score in arguments.score:
        if score not in SCORES:
            raise unknown("score", score, SCORES, "--score")
    store = Store(arguments.results)
    scores = list(dict.fromkeys(arguments.score))
    report = make(store, arguments.suite, arguments.scale, scores, arguments.predictor)
    folder = Path(arguments.to) if arguments.to else store.root / arguments.suite
    names = report.write(folder)
    print(f"{printable(str(folder))}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    entry(main)
