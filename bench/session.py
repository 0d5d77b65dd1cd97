"""Compute the runs of a plan in a results folder: what the commands have in common that launch runs.

What is done is not repeated, what is stopped goes on later, and a person can watch.
"""

from __future__ import annotations

import contextlib
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from bench import blueprint, claims, cli, machine
from bench.execution import Execution, stopped_otherwise
from bench.folder import SETTLED
from bench.launch import run_inline, run_workers
from bench.live import shown
from bench.plan import Plan
from bench.progress import Item, Progress
from bench.spec import RunSpec
from bench.store import Store
from methods.errors import UserError

#: What must be the same for times of runs to be compared.
_WAYS = ("device", "threads", "channels_last", "compile", "mode")


@dataclass(frozen=True)
class Asked:
    """What the caller wants: processes at once (None: as many as fit), and what becomes of earlier runs."""

    workers: int | None = None
    retry_failed: bool = False
    force: bool = False


@dataclass(frozen=True)
class Computed:
    """What was computed: the runs that were not settled before, in how many seconds, by how many processes.

    begun: whether some of them had been begun earlier, so that ``seconds`` are not all of their time.
    """

    left: list[RunSpec]
    begun: bool
    seconds: float
    workers: int


def ready(specs: Sequence[RunSpec], arguments: Namespace, show: Callable[[], None]) -> Execution | None:
    """How a command's ``arguments`` have ``specs`` computed; None where ``--dry-run`` only shows them.

    Raises ``UserError`` for data, a device or kernels that are missing.
    """
    missing = blueprint.missing_data(specs)
    if arguments.dry_run:
        show()
        if missing is not None:
            print(f"not here: {missing}")
        return None
    if missing is not None:
        raise UserError(missing)
    execution = cli.execution(arguments, executor=arguments.executor)
    blueprint.check_execution(specs, execution.mode)
    return execution


def compute(
    plan: Plan, store: Store, asked: Asked, execution: Execution, command: str, console: Console
) -> Computed:
    """Compute what is left of ``plan`` and show how it goes; ``command`` is the line that asked for it.

    On ``KeyboardInterrupt`` the runs are stopped, and a line says how to go on.
    """
    for spec in plan.specs:
        _prepare(store, spec, asked, console)
    store.merge_plan(plan.to_dict(command))
    progress = Progress(store, items(plan))
    before = progress.look(everything=True)
    if not plan.specs:
        return Computed([], False, 0.0, 1)
    say(console, f"{plan.suite}, scale {plan.scale}: {before.total} runs: {before.counted()}")
    if plan.one_at_a_time and (others := _otherwise(store, plan, execution)):
        ways = ", ".join(_WAYS)
        say(
            console,
            f"their times are not comparable: {others} of them were computed by other {ways}: --force "
            "measures them again",
        )
    if anew := sum(stopped_otherwise(store.run(spec.run_id), execution.mode) for spec in plan.specs):
        say(
            console,
            f"{anew} of them were stopped under another --execution: what can't be continued starts anew",
        )
    started = time.perf_counter()
    begun = any(progress.status(spec.run_id) == "preempted" for spec in plan.specs)
    left = [spec for spec in plan.specs if progress.status(spec.run_id) not in SETTLED]
    workers = _workers(asked.workers, execution, len(left))
    try:
        if left:
            with _machine(plan, console), shown(progress, console):
                _launch(store, left, replace(execution, concurrency=workers))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        now = progress.look(everything=True)
        say(console, f"stopped: {now.counted()}; the same command goes on from here")
        raise
    return Computed(left, begun, time.perf_counter() - started, workers)


def statuses(plan: Plan, store: Store | None) -> dict[str, str]:
    """Where the runs of ``plan`` stand, by run id; nothing where there is no results folder yet."""
    return Progress(store, items(plan)).statuses() if store else {}


def items(plan: Plan) -> list[Item]:
    """The runs to train, as progress is told of them."""
    trained = [cell for cell in plan.cells if cell.omitted is None]
    return [Item(c.run_id, c.label, c.spec.seed, _weight(c.spec)) for c in trained]


def interrupt(*_: object) -> None:
    """The handler by which SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def say(console: Console, line: str) -> None:
    """Print a plain line, however long."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _machine(plan: Plan, console: Console) -> Iterator[None]:
    """Hold the machine while computing; ``UserError`` where a suite that measures time can't have it."""
    try:
        with machine.held(alone=plan.one_at_a_time) as held:
            if not held:
                say(console, "beside this grid another one measures time on this machine: both suffer")
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


def _prepare(store: Store, spec: RunSpec, asked: Asked, console: Console) -> None:
    """Set aside what can't be trusted or is not wanted any more; what failed becomes queued."""
    run = store.run(spec.run_id)
    if not run.path.exists() or claims.holder(run) is not None:
        return
    if (fault := store.check(spec.run_id)) is not None:
        aside = store.set_aside(spec.run_id, fault)
        say(console, f"run {spec.run_id} is corrupted ({fault}); it is in {aside} now and runs again")
    elif asked.force:
        store.set_aside(spec.run_id, "run again by --force")
    elif asked.retry_failed and run.status() in ("failed", "cancelled"):
        run.write("status", {**(run.read("status") or {}), "status": "queued"})


def _launch(store: Store, specs: Sequence[RunSpec], execution: Execution) -> None:
    if execution.executor == "inline":
        run_inline(store, specs, execution)
        return
    from bench.local import LocalWorkers  # submitit, which one process alone does without

    run_workers(store, specs, LocalWorkers(store.root, specs, execution))


def _workers(asked: int | None, execution: Execution, runs: int) -> int:
    """How many runs to compute at once."""
    if execution.executor == "inline":
        return 1
    from bench.local import places

    return max(1, min(asked or places(execution), runs))


def _weight(spec: RunSpec) -> float:
    """What a run takes next to others of its grid: the steps of all its stages."""
    return blueprint.steps(spec)
