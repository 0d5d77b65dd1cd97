"""Search the settings of each method as a suite declares it: ``python -m bench.tune --suite baselines``.

Every method gets the same number of trials. They are scored on validation data only, with seeds that no
suite reports, and a method keeps the suite's own settings if no trial is better. The chosen settings are
written to ``<suite>.tuned.yaml`` beside the suite's file, from which the suite then reads them; all trials
are written to ``<suite>.search.csv``. Finished runs are not repeated: the same command continues where it
was stopped, and a larger ``--trials`` adds trials. The exit status is 1 if no trial of a method finished.
"""

from __future__ import annotations

import argparse
import shlex
import signal
from typing import TYPE_CHECKING

from bench.cli import arguments as cli
from bench.cli.entry import entry, leaving_at_once

if TYPE_CHECKING:  # these import torch, which takes seconds in which Ctrl-C must be handled
    from rich.console import Console

    from bench.launching.session import Asked
    from bench.planning.search_spec import FamilySearch
    from bench.tuning.study import Outcome, Part, Searching
    from bench.tuning.trial_scores import Scored

FAILED = 1


def main(argv: list[str] | None = None) -> int:
    """Compute the trials that are missing, choose, write what was chosen, and show it."""
    arguments = _parser().parse_args(argv)
    with leaving_at_once():
        from bench.launching import session
        from bench.planning import suite
        from bench.tuning.study import Searching
        from methods.core.errors import UserError

        if settings := cli.overrides(arguments):
            raise UserError(f"--set {next(iter(settings))}: settings are searched, not set; valid: slurm.KEY")
        searching = Searching(suite.load(arguments.suite), arguments.scale, arguments.where, arguments.trials)
        asked = session.ready(searching.plan, arguments, lambda: _print_plan(searching, arguments.results))
        if asked is None:
            return 0
        console = cli.console()
    signal.signal(signal.SIGTERM, session.interrupt)
    return _run(searching, arguments, asked, console)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bench.tune", __doc__)
    parser.add_argument(
        "--suite", required=True, help="name of a suite that declares a search, or path of its file"
    )
    parser.add_argument("--scale", default="demo", help="demo, small or paper (default: demo)")
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
    """The line that makes the same choices on any machine."""
    parts = ["python", "-m", "bench.tune", "--suite", arguments.suite, "--scale", arguments.scale]
    for condition in arguments.where:
        parts += ["--where", condition]
    if arguments.trials is not None:
        parts += ["--trials", str(arguments.trials)]
    return shlex.join(parts)


def _run(searching: Searching, arguments: argparse.Namespace, asked: Asked, console: Console) -> int:
    from bench.cli.live import say
    from bench.launching import session
    from bench.reporting.collecting import collect
    from bench.results.store import Store
    from bench.tuning.trial_scores import validation

    store = Store(arguments.results, create=True)
    command = _command(arguments)
    session.compute(searching.plan, store, asked, command, console)
    collect(store, searching.plan.suite)
    metrics = store.read_tables(searching.plan.suite, ["metrics"])["metrics"]
    values = validation(metrics, searching.search.metric)
    outcomes = searching.outcomes(values)
    written = searching.write(outcomes, command)
    _print_outcomes(searching, outcomes, console)
    for family in written.kept:
        say(console, f"{family}: no trial finished; what was chosen before stays, with its trials")
    say(console, f"written: {', '.join(map(str, written.paths))}")
    return FAILED if any(outcome.chosen is None for outcome in outcomes) else 0


def _print_plan(searching: Searching, results: str) -> None:
    from pathlib import Path

    from bench.cli.describe_plan import describe_cost
    from bench.experiment.notation import show
    from bench.launching import session
    from bench.planning.estimate import estimate
    from bench.results.store import Store

    store = Store(results) if Path(results).exists() else None
    search, plan = searching.search, searching.plan
    at = f", at {show(search.at)}" if search.at else ""
    print(f"{plan.suite}, scale {plan.scale}: by {search.metric}, seeds {show(list(search.seeds))}{at}\n")
    for part in searching.parts:
        print("\n".join(_described(searching, part)))
    for found in searching.fixed:
        print(f"{found.family}: nothing to search: {_why_fixed(found)}")
    for record in searching.gone:
        print(f"{record.family}: chosen before, and the suite has it no longer: delete the entry")
    print("\n" + "\n".join(describe_cost(plan, session.statuses(plan, store), estimate(plan, store))))


def _why_fixed(found: FamilySearch) -> str:
    return f"its grid writes {', '.join(found.written)}" if found.written else "it has no key of the space"


def _described(searching: Searching, part: Part) -> list[str]:
    from bench.experiment.notation import show
    from bench.planning.tuned_settings import is_current

    found, seeds = part.found, len(searching.search.seeds)
    lines = [f"{found.family}: {len(part.trials)} trials, {len(part.trials) * seeds} runs"]
    own = found.own
    lines += [f"    {item}, now {show(own[key])}" for key, item in found.ranges.items()]
    if found.written:
        lines.append(f"    not searched, as its grid writes them: {', '.join(found.written)}")
    if (record := searching.before(part)) is not None:
        stale = "" if is_current(record, searching.search, found) else ", not by the search as it is now"
        lines.append(f"    chosen before, by {record.trials} trials{stale}: {show(record.chosen)}")
    return lines


def _print_outcomes(searching: Searching, outcomes: list[Outcome], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from bench.experiment.notation import show

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(f"{searching.search.metric} over {len(searching.search.seeds)} seeds")
    for head in ("trials", "failed", "untuned", "chosen"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("settings")
    for outcome in outcomes:
        chosen = outcome.chosen
        settings = "none finished" if chosen is None else show(chosen.trial.settings).strip("{}")
        family = Text(str(outcome.part.found.family))
        figures = _figure(outcome.untuned), _figure(chosen)
        table.add_row(family, str(len(outcome.scored)), str(outcome.failed), *figures, Text(settings))
    console.print(table)
    console.print("mean ± standard deviation over seeds, on validation data", highlight=False)


def _figure(scored: Scored | None) -> str:
    if scored is None or scored.value is None:
        return "–"
    return f"{scored.value:.4f}" + ("" if scored.sd is None else f" ± {scored.sd:.4f}")


if __name__ == "__main__":
    entry(main)
