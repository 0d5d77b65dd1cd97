"""Search the settings of each method as a suite declares it: ``python -m bench.tune --suite baselines``.

Every method gets the same number of trials. They are scored on validation data only, with seeds that no
suite reports, and a method keeps the suite's own settings if no trial is better. If the suite asks for
finalists, the best trials run again beside these settings under other seeds, and those runs decide. What was
chosen is written to ``<suite>.tuned.yaml`` beside the suite's file, from which the suite then reads it; all
trials are written to ``<suite>.search.csv``. Finished runs are not repeated: the same command continues where
it was stopped, and a larger ``--trials`` adds trials. The exit status is 1 if no trial of a method finished.
"""

from __future__ import annotations

import argparse
import shlex
import signal
from typing import TYPE_CHECKING

from bench.cli import arguments as cli
from bench.cli import typed
from bench.cli.entry import BAD_INPUT, entry, interrupt, leaving_at_once

if TYPE_CHECKING:  # these import torch, which takes seconds in which Ctrl-C must be handled
    from rich.console import Console

    from bench.launching.asked import Asked
    from bench.planning.plan import Plan
    from bench.tuning.study import Searching

FAILED = 1


def main(argv: list[str] | None = None) -> int:
    """Compute the missing trials, choose the best settings, write them, and print them."""
    arguments = _parser().parse_args(argv)
    typed.check(arguments)
    with leaving_at_once():
        from bench.launching import asked
        from bench.launching.prepare import ready
        from bench.planning import suite
        from bench.tuning.study import Searching
        from methods.core.errors import UserError

        if settings := cli.overrides(arguments):
            raise UserError(f"--set {next(iter(settings))}: settings are searched, not set; valid: slurm.KEY")
        searching = Searching(suite.load(arguments.suite), arguments.scale, arguments.where, arguments.trials)
        wanted = asked.read(arguments)
        if arguments.dry_run:
            return _print_search(searching, wanted, arguments.results)
        wanted = ready(searching.plan, wanted)
        console = cli.console()
    signal.signal(signal.SIGTERM, interrupt)
    return _run(searching, arguments, wanted, console)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bench.tune", __doc__)
    parser.add_argument(
        "--suite",
        type=cli.path,
        required=True,
        help="name of a suite that declares a search, or path of its file",
    )
    parser.add_argument("--scale", default="demo", help="demo, small, reduced or paper (default: demo)")
    parser.add_argument(
        "--trials", type=cli.positive, metavar="N", help="trials of each method (default: those of the suite)"
    )
    cli.add_launching(parser)
    cli.add_execution(parser)
    cli.add_where(parser)
    cli.add_set(parser, "change keys of the SLURM profile, as in --set slurm.time=30; repeatable")
    cli.add_results(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show what is searched and the estimated cost; run nothing"
    )
    return parser


def _command(arguments: argparse.Namespace) -> str:
    """Return the command line that makes the same choices on any machine."""
    parts = ["python", "-m", "bench.tune", "--suite", arguments.suite, "--scale", arguments.scale]
    for condition in arguments.where:
        parts += ["--where", condition]
    if arguments.trials is not None:
        parts += ["--trials", str(arguments.trials)]
    return shlex.join(parts)


def _run(searching: Searching, arguments: argparse.Namespace, asked: Asked, console: Console) -> int:
    from dataclasses import replace

    from bench.cli.describe_search import print_outcomes
    from bench.cli.launch_messages import LaunchMessages
    from bench.cli.live import say
    from bench.launching.compute import compute
    from bench.launching.prepare import make_way
    from bench.reporting.collecting import collect
    from bench.results.store import Store
    from bench.tuning.trial_scores import validation

    store = Store(arguments.results, create=True)
    command = _command(arguments)

    def values(plan: Plan, asked: Asked) -> dict[str, float]:
        compute(plan, store, asked, command, console)
        collect(store, plan.suite)
        metrics = store.read_tables(plan.suite, ["metrics"])["metrics"]
        return validation(metrics, searching.search.metric)

    outcomes = searching.outcomes(values(searching.plan, asked))
    if searching.search.finalists:
        finals, trials = searching.second_round(outcomes), set(searching.plan.specs)
        # the plan has the trials too, which are not computed again whatever was asked for
        added = [spec for spec in finals.specs if spec not in trials]
        make_way(store, added, asked, LaunchMessages(console, finals, store.root).corrupted)
        asked = replace(asked, force=False, retry_failed=False)
        outcomes = searching.decided(outcomes, values(finals, asked))
    written = searching.write(outcomes, command)
    print_outcomes(searching, outcomes, console)
    for family in written.kept:
        say(console, f"{family}: no trial finished; the earlier choice and its trials are kept")
    say(console, f"written: {', '.join(map(str, written.paths))}")
    return FAILED if any(outcome.chosen is None for outcome in outcomes) else 0


def _print_search(searching: Searching, asked: Asked, results: str) -> int:
    """Print the search and what would stop a launch; the exit status is that of the launch."""
    from pathlib import Path

    from bench.cli.describe_search import describe_search
    from bench.launching.prepare import foreseen
    from bench.planning.estimate import estimate
    from bench.results.store import Store

    store, plan = Store(results) if Path(results).exists() else None, searching.plan
    print(describe_search(searching, plan.statuses(store), estimate(plan, store)))
    jobs, obstacles = foreseen(plan, asked, Path(results))
    for line in (*jobs, *obstacles):
        print(line)
    return BAD_INPUT if obstacles else 0


if __name__ == "__main__":
    entry(main)
