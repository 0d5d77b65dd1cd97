"""Run a suite: ``python -m bench.grid --suite criteria_ablation``.

Runs that are done are not repeated, so the same command goes on where it was stopped. A run
that fails is a row with its reason, and the exit status 1 says that there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench import cli

if TYPE_CHECKING:  # what follows imports torch, which takes seconds in which Ctrl-C must be handled
    from rich.console import Console

    from bench.execution import Execution
    from bench.plan import Plan
    from bench.progress import Item
    from bench.spec import RunSpec
    from bench.store import Store

FAILED = 1
#: What must be the same for times of runs to be compared.
_WAYS = ("device", "threads", "channels_last", "compile", "mode")
#: Columns of a terminal that is none.
_WIDTH = 240


def main(argv: list[str] | None = None) -> int:
    """Expand the suite, compute what is missing, write the tables, show a summary."""
    arguments = _parser().parse_args(argv)
    with cli.leaving_at_once():
        from rich.console import Console

        from bench import blueprint, suite
        from methods.errors import UserError

        found = suite.load(arguments.suite)
        if found.one_at_a_time:
            _require_one(arguments)
        plan = found.expand(
            arguments.scale,
            overrides=cli.overrides(arguments),
            where=arguments.where,
            seeds=arguments.seeds,
        )
        missing = blueprint.missing_data(plan.specs)
        if arguments.dry_run:
            _print_plan(plan, arguments.results)
            if missing is not None:
                print(f"not here: {missing}")
            return 0
        if missing is not None:
            raise UserError(missing)
        execution = cli.execution(arguments, executor=arguments.executor)
        blueprint.check_execution(plan.specs, execution.mode)
        console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    command = shlex.join(["python", "-m", "bench.grid", *(sys.argv[1:] if argv is None else argv)])
    signal.signal(signal.SIGTERM, _interrupt)
    return _run(plan, arguments, execution, command, console)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bench.grid", __doc__)
    parser.add_argument(
        "--suite", required=True, help="name of a suite (python -m bench.list suites) or path of its file"
    )
    parser.add_argument("--scale", default="demo", help="demo, small or paper (default: demo)")
    parser.add_argument(
        "--executor",
        choices=("local", "inline"),
        default="local",
        help="where runs are computed: worker processes of this machine, or this process (default: local)",
    )
    parser.add_argument(
        "--workers",
        type=cli.positive,
        metavar="N",
        help="processes at once (default: one for each GPU in use, or for each usable core over --threads)",
    )
    cli.add_execution(parser)
    cli.add_where(parser)
    cli.add_set(parser)
    cli.add_seeds(parser)
    cli.add_results(parser)
    parser.add_argument("--dry-run", action="store_true", help="show every cell and an estimate; run nothing")
    parser.add_argument("--retry-failed", action="store_true", help="run again what failed or was cancelled")
    parser.add_argument("--force", action="store_true", help="run everything again; set aside what there is")
    return parser


def _require_one(arguments: argparse.Namespace) -> None:
    """One worker for a suite that measures time; ``UserError`` where more are asked for."""
    from methods.errors import UserError

    if arguments.workers not in (None, 1):
        raise UserError(
            f"--workers {arguments.workers}: suite {arguments.suite} measures time, "
            "so its runs come one at a time; valid: 1"
        )
    arguments.workers = 1


def _interrupt(*_: object) -> None:
    """SIGTERM ends a grid as Ctrl-C does."""
    raise KeyboardInterrupt


def _print_plan(plan: Plan, results: str) -> None:
    from pathlib import Path

    from bench.dry_run import describe_plan
    from bench.estimate import estimate
    from bench.progress import Progress
    from bench.store import Store

    store = Store(results) if Path(results).exists() else None
    statuses = Progress(store, _items(plan)).statuses() if store else {}
    print(describe_plan(plan, statuses, estimate(plan, store)))


def _run(
    plan: Plan, arguments: argparse.Namespace, execution: Execution, command: str, console: Console
) -> int:
    from bench.collect import collect
    from bench.execution import stopped_otherwise
    from bench.folder import SETTLED
    from bench.headline import print_share, print_summary
    from bench.live import shown
    from bench.progress import Progress
    from bench.store import Store

    store = Store(arguments.results, create=True)
    for spec in plan.specs:
        _prepare(store, spec, arguments, console)
    store.merge_plan(plan.to_dict(command))
    progress = Progress(store, _items(plan))
    before = progress.look(everything=True)
    if not plan.specs:
        _say(console, "no cell of the suite is left: nothing to run")
        return 0
    _say(console, f"{plan.suite}, scale {plan.scale}: {before.total} runs: {before.counted()}")
    if plan.one_at_a_time and (others := _otherwise(store, plan, execution)):
        ways = ", ".join(_WAYS)
        _say(
            console,
            f"their times are not comparable: {others} of them were computed by other {ways}: --force "
            "measures them again",
        )
    if anew := sum(stopped_otherwise(store.run(spec.run_id), execution.mode) for spec in plan.specs):
        _say(
            console,
            f"{anew} of them were stopped under another --execution: what can't be continued starts anew",
        )
    started = time.perf_counter()
    begun = any(progress.status(spec.run_id) == "preempted" for spec in plan.specs)
    left = [spec for spec in plan.specs if progress.status(spec.run_id) not in SETTLED]
    workers = _workers(arguments, execution, len(left))
    try:
        if left:
            with _machine(plan, console), shown(progress, console):
                _compute(store, left, replace(execution, concurrency=workers))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        now = progress.look(everything=True)
        _say(console, f"stopped: {now.counted()}; the same command goes on from here")
        raise
    seconds = time.perf_counter() - started
    paths = collect(store, plan.suite)
    runs = store.read_tables(plan.suite)["runs"]
    mine = runs[(runs["scale"] == plan.scale) & runs["run_id"].isin([spec.run_id for spec in plan.specs])]
    print_summary(console, mine, [cell for cell in plan.cells if cell.omitted])
    if left and not begun:  # else some of the time was spent before
        print_share(console, mine[mine["run_id"].isin([spec.run_id for spec in left])], seconds, workers)
    _say(console, f"tables in {store.root / plan.suite}: {', '.join(path.name for path in paths.values())}")
    return FAILED if (mine["status"] != "done").any() else 0


@contextlib.contextmanager
def _machine(plan: Plan, console: Console) -> Iterator[None]:
    """Hold the machine while computing; ``UserError`` where a suite that measures time can't have it."""
    from bench import machine
    from methods.errors import UserError

    try:
        with machine.held(alone=plan.one_at_a_time) as held:
            if not held:
                _say(console, "beside this grid another one measures time on this machine: both suffer")
            yield
    except machine.Busy:
        raise UserError(
            f"suite {plan.suite} measures time, and another grid is computing on this machine: wait for it"
        ) from None


def _otherwise(store: Store, plan: Plan, execution: Execution) -> int:
    """How many of the runs that are done were computed in another way than is asked for now."""
    asked = [getattr(execution, way) for way in _WAYS]
    done = [run for spec in plan.specs if (run := store.run(spec.run_id)).path.exists() and run.is_done()]
    ways = ([(run.read("provenance") or {}).get(way) for way in _WAYS] for run in done)
    return sum(way != asked for way in ways)


def _prepare(store: Store, spec: RunSpec, arguments: argparse.Namespace, console: Console) -> None:
    """Set aside what can't be trusted or is not wanted any more; what failed becomes queued."""
    from bench import claims

    run = store.run(spec.run_id)
    if not run.path.exists() or claims.holder(run) is not None:
        return
    if (fault := store.check(spec.run_id)) is not None:
        aside = store.set_aside(spec.run_id, fault)
        _say(console, f"run {spec.run_id} is corrupted ({fault}); it is in {aside} now and runs again")
    elif arguments.force:
        store.set_aside(spec.run_id, "run again by --force")
    elif arguments.retry_failed and run.status() in ("failed", "cancelled"):
        run.write("status", {**(run.read("status") or {}), "status": "queued"})


def _compute(store: Store, specs: Sequence[RunSpec], execution: Execution) -> None:
    from bench.launch import run_inline, run_workers

    if execution.executor == "inline":
        run_inline(store, specs, execution)
        return
    from bench.local import LocalWorkers

    run_workers(store, specs, LocalWorkers(store.root, specs, execution))


def _workers(arguments: argparse.Namespace, execution: Execution, runs: int) -> int:
    """How many runs to compute at once."""
    if execution.executor == "inline":
        return 1
    from bench.local import places

    return max(1, min(arguments.workers or places(execution), runs))


def _items(plan: Plan) -> list[Item]:
    from bench.progress import Item

    trained = [cell for cell in plan.cells if cell.omitted is None]
    return [Item(c.run_id, c.label, c.spec.seed, _weight(c.spec)) for c in trained]


def _weight(spec: RunSpec) -> float:
    """What a run takes next to others of its grid: epochs, or nothing to tell them apart where it is cut."""
    return spec.training.epochs if spec.training.max_steps is None else 1.0


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    cli.entry(main)
