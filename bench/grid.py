"""Run a suite: ``python -m bench.grid --suite criteria_ablation``.

Finished runs are not repeated, so the same command continues where it was stopped. A failed run is a row
of the tables with its reason, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from bench.cli import arguments as cli
from bench.cli import typed
from bench.cli.entry import BAD_INPUT, entry, interrupt, leaving_at_once

if TYPE_CHECKING:  # these import torch, which takes seconds in which Ctrl-C must be handled
    from rich.console import Console

    from bench.launching.asked import Asked
    from bench.planning.plan import Plan

FAILED = 1


def main(argv: list[str] | None = None) -> int:
    """Expand the suite, compute its missing runs, write the tables, and show a summary."""
    arguments = _parser().parse_args(argv)
    typed.check(arguments)
    with leaving_at_once():
        from bench.launching import asked
        from bench.launching.prepare import ready
        from bench.planning import suite

        found = suite.load(arguments.suite)
        if found.one_at_a_time:
            _require_one(arguments)
        plan = found.expand(
            arguments.scale,
            overrides=cli.overrides(arguments),
            where=arguments.where,
            seeds=arguments.seeds,
        )
        wanted = asked.read(arguments)
        if arguments.dry_run:
            return _print_plan(plan, wanted, arguments.results)
        wanted = ready(plan, wanted)
        console = cli.console()
    command = shlex.join(["python", "-m", "bench.grid", *(sys.argv[1:] if argv is None else argv)])
    signal.signal(signal.SIGTERM, interrupt)
    return _run(plan, arguments.results, wanted, command, console)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bench.grid", __doc__)
    parser.add_argument(
        "--suite",
        type=cli.path,
        required=True,
        help="name of a suite (python -m bench.list suites) or path of its file",
    )
    parser.add_argument("--scale", default="demo", help="demo, small, reduced or paper (default: demo)")
    cli.add_launching(parser)
    cli.add_execution(parser)
    cli.add_where(parser)
    cli.add_set(parser)
    cli.add_seeds(parser)
    cli.add_results(parser)
    parser.add_argument(
        "--detach", action="store_true", help="with --executor slurm: exit once all jobs are submitted"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show all cells and the estimated cost; run nothing"
    )
    return parser


def _require_one(arguments: argparse.Namespace) -> None:
    """Set one worker for a suite that measures time; raise ``UserError`` if more are asked for."""
    from methods.core.errors import UserError

    if arguments.workers not in (None, 1):
        raise UserError(
            f"--workers {arguments.workers}: suite {arguments.suite} measures time, "
            "so its runs come one at a time; valid: 1"
        )
    if arguments.executor != "slurm":
        arguments.workers = 1


def _print_plan(plan: Plan, asked: Asked, results: str) -> int:
    """Print the plan and what would stop a launch; the exit status is that of the launch."""
    from pathlib import Path

    from bench.cli.describe_plan import describe_plan
    from bench.launching.prepare import foreseen
    from bench.planning.estimate import estimate
    from bench.results.store import Store

    store = Store(results) if Path(results).exists() else None
    print(describe_plan(plan, plan.statuses(store), estimate(plan, store)))
    jobs, obstacles = foreseen(plan, asked, Path(results))
    for line in (*jobs, *obstacles):
        print(line)
    return BAD_INPUT if obstacles else 0


def _run(plan: Plan, results: str, asked: Asked, command: str, console: Console) -> int:
    from bench.cli.live import say
    from bench.cli.summary import Ranking, print_best, print_next, print_share, print_summary
    from bench.experiment.notation import show
    from bench.launching.compute import compute
    from bench.reporting.collecting import collect
    from bench.results.names import in_words
    from bench.results.store import Store
    from bench.results.styles import CRITERIA
    from bench.results.tables.columns import SCORES
    from bench.statistics.consistency import notes

    store = Store(results, create=True)
    computed = compute(plan, store, asked, command, console)
    if not plan.specs:
        say(console, "no cell of the suite is left: nothing to run")
        return 0
    if computed.detached:
        return 0
    paths = collect(store, plan.suite)
    runs = store.read_tables(plan.suite, ["runs"])["runs"]
    mine = runs[(runs["scale"] == plan.scale) & runs["run_id"].isin([spec.run_id for spec in plan.specs])]
    methods, criteria = store.read_styles(plan.suite), store.read_styles(plan.suite, CRITERIA)
    words = [in_words(label, methods, criteria) for label in mine["config_label"].astype(str)]
    mine = mine.assign(config_label=words)
    ranking = plan.rank_by and Ranking(plan.rank_by, plan.references, show(plan.reference))
    print_summary(console, mine, [cell for cell in plan.cells if cell.omitted], ranking or None)
    # runs that had begun earlier spent some of their time before this launch
    if computed.left and computed.workers and not computed.begun:
        left = mine[mine["run_id"].isin([spec.run_id for spec in computed.left])]
        print_share(console, left, computed.seconds, computed.workers)
    for line in notes(mine):
        say(console, f"note: {line}")
    say(console, f"tables in {store.root / plan.suite}: {', '.join(path.name for path in paths.values())}")
    print_best(console, mine, plan.rank_by or SCORES[0])
    print_next(console, mine, plan.suite, plan.scale, results)
    return FAILED if (mine["status"] != "done").any() or not computed.evaluated else 0


if __name__ == "__main__":
    entry(main)
