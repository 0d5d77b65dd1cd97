"""Evaluate finished runs of a suite on sets beside their test part: ``python -m bench.evaluate --suite ood``.

The stored models predict; nothing is trained. Rows are those of runs that had the sets from the start. What a
run has already is not evaluated again, so the same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys

from bench.cli import arguments as cli
from bench.cli.entry import entry, interrupt, leaving_at_once

FAILED = 1
#: Runs of which it is said one by one why they are not evaluated.
_MOST_NAMED = 5


def main(argv: list[str] | None = None) -> int:
    """Evaluate the finished runs on the sets that they lack, and write the tables of the suite."""
    arguments = _parser().parse_args(argv)
    with leaving_at_once():
        from bench.cli.live import say
        from bench.launching import asked
        from bench.launching.compute import compute
        from bench.launching.prepare import ready
        from bench.planning.finished import finished
        from bench.reporting.collecting import collect
        from bench.results.files import StoreError, not_launched
        from bench.results.store import Store
        from bench.results.words import counted
        from methods.core.errors import unknown

        if settings := cli.overrides(arguments):
            raise unknown("key", next(iter(settings)), ["slurm.KEY"], "--set")
        store = Store(arguments.results)
        if arguments.suite not in store.suites():
            raise not_launched(store.root, "suite", arguments.suite, store.suites())
        scales = store.scales(arguments.suite) if arguments.scale is None else [arguments.scale]
        chosen = {"ood": _names(arguments.ood), "shift": _names(arguments.shifts)}
        given = chosen if any(chosen.values()) else None
        parts = [finished(store, store.plan(arguments.suite, scale), given) for scale in scales]
        wanted = asked.read(arguments)
        console = cli.console()
    command = shlex.join(["python", "-m", "bench.evaluate", *(sys.argv[1:] if argv is None else argv)])
    signal.signal(signal.SIGTERM, interrupt)
    complete, done = True, 0
    for part in parts:
        for run_id, reason in [*part.left_out.items()][:_MOST_NAMED]:
            say(console, f"run {run_id} is not evaluated: {reason}")
        if (more := len(part.left_out) - _MOST_NAMED) > 0:
            say(console, f"{counted(more, 'other run')} not evaluated")
        if part.plan.cells:
            found = compute(part.plan, store, ready(part.plan, wanted), command, console)
            complete, done = complete and found.evaluated, done + len(part.plan.specs)
    if not done:
        raise StoreError(f"{store.root}: no run of suite {arguments.suite} is done")
    if not wanted.detach:
        paths = collect(store, arguments.suite)
        say(console, f"tables in {store.root / arguments.suite}: {', '.join(p.name for p in paths.values())}")
    return 0 if complete else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bench.evaluate", __doc__)
    parser.add_argument("--suite", required=True, help="a suite that was launched")
    parser.add_argument("--scale", help="only this scale (default: all that were launched)")
    parser.add_argument(
        "--ood",
        metavar="NAMES",
        default="",
        help="sets of inputs of no class, as in svhn,mnist, or all that the data set declares; without "
        "--ood and --shifts: the sets that the suite asked for when it was launched",
    )
    parser.add_argument(
        "--shifts", metavar="NAMES", default="", help="shifts of the test part, as in fog,contrast, or all"
    )
    cli.add_launching(parser, trains=False)
    cli.add_execution(parser)
    cli.add_set(parser, "keys of the SLURM profile, as in --set slurm.partition=long; repeatable")
    cli.add_results(parser)
    parser.add_argument(
        "--detach", action="store_true", help="with --executor slurm: exit once all jobs are submitted"
    )
    return parser


def _names(text: str) -> list[str]:
    """Return the names in a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    entry(main)
