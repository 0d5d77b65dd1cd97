"""Compute the runs of a plan in a results folder: in this process, by local workers, or by SLURM jobs.

Finished runs are not repeated, stopped runs can be continued later, and progress is shown.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from bench.cli.launch_messages import LaunchMessages
from bench.cli.live import shown
from bench.experiment import beside
from bench.experiment.execution import Execution, stopped_otherwise
from bench.experiment.spec import RunSpec
from bench.launching import machine_lock
from bench.launching.asked import Asked
from bench.launching.pool import run_inline, run_workers
from bench.launching.prepare import make_way, sets_lacking, submission
from bench.launching.slurm_launch import not_shared
from bench.monitoring.progress import Progress
from bench.monitoring.slurm_queue import settle_all
from bench.planning.plan import Plan
from bench.results.beside import finished, unevaluated
from bench.results.run_folder import SETTLED
from bench.results.store import Store
from methods.core.errors import UserError

if TYPE_CHECKING:
    from bench.launching.slurm_submission import Submission

#: Properties of an execution that must agree if times of runs are compared.
_WAYS = ("device", "threads", "channels_last", "compile", "mode")


@dataclass(frozen=True)
class Computed:
    """What a launch computed.

    Parameters
    ----------
    left
        The runs that were not settled before.
    begun
        Whether some of them had begun earlier, so that ``seconds`` is not all of their time.
    seconds
        Duration of the launch.
    workers
        Number of processes; None if it is not known.
    detached
        Whether the runs were left to SLURM jobs and may not be done yet.
    evaluated
        Whether the finished runs were evaluated on all the sets that were asked for.
    """

    left: list[RunSpec]
    begun: bool
    seconds: float
    workers: int | None
    detached: bool = False
    evaluated: bool = True


def compute(plan: Plan, store: Store, asked: Asked, command: str, console: Console) -> Computed:
    """Compute the runs of ``plan`` that are not settled, and show progress.

    On Ctrl-C or SIGTERM, runs on this machine stop, SLURM jobs go on, and a line says how to continue.

    Parameters
    ----------
    plan
        The runs.
    store
        The results folder.
    asked
        What the caller wants, as ``prepare.ready`` returns it.
    command
        The command line that asked for the plan; it is stored with the plan.
    console
        Where messages and progress are printed.

    Raises
    ------
    UserError
        If an evaluation set is missing on this machine, or a suite that measures time is asked for while
        another grid computes here.
    KeyboardInterrupt
        After the runs were stopped.
    """
    execution, messages = asked.execution, LaunchMessages(console, plan, store.root)
    jobs = None if asked.profile is None else submission(plan, store.root, asked.profile, execution)
    if (fault := settle_all(store)) is not None:
        messages.say(fault)
    missing = beside.missing((spec, sets_lacking(store, spec)) for spec in plan.specs)
    if missing is not None:
        raise UserError(missing)
    make_way(store, plan.specs, asked, messages.corrupted)
    store.merge_plan(plan.to_dict(command))
    progress = Progress(store, plan.items())
    before = progress.look(everything=True)
    if not plan.specs:
        return Computed([], False, 0.0, 1)
    messages.begins(before)
    if plan.one_at_a_time and (others := _computed_otherwise(store, plan, execution)):
        messages.not_comparable(others, _WAYS)
    if anew := sum(stopped_otherwise(store.run(spec.run_id), execution.mode) for spec in plan.specs):
        messages.may_start_anew(anew)
    started = time.perf_counter()
    left = [spec for spec in plan.specs if progress.status(spec.run_id) not in SETTLED]
    done = [spec for spec in left if finished(store.run(spec.run_id))]
    messages.evaluates(sets_lacking(store, spec) for spec in done)
    begun = bool(done) or any(progress.status(spec.run_id) == "preempted" for spec in left)
    workers: int | None = None
    detached = False
    try:
        if left and jobs is not None:
            detached = _by_slurm(store, left, jobs, asked.detach, progress, console, messages)
        elif left:
            workers = _workers(asked.workers, execution, left, messages)
            with _machine(plan, messages), shown(progress, console):
                _here(store, left, replace(execution, concurrency=workers))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        messages.interrupted(progress.look(everything=True), in_jobs=jobs is not None)
        raise
    told = {spec.run_id: unevaluated(store.run(spec.run_id), beside.wanted(spec)) for spec in plan.specs}
    if not detached:
        messages.not_evaluated(told)
    return Computed(left, begun, time.perf_counter() - started, workers, detached, not any(told.values()))


def _computed_otherwise(store: Store, plan: Plan, execution: Execution) -> int:
    """Return how many finished runs were computed in another way than is asked for now."""
    asked = [getattr(execution, way) for way in _WAYS]
    done = [run for spec in plan.specs if (run := store.run(spec.run_id)).path.exists() and run.is_done()]
    ways = ([(run.read("provenance") or {}).get(way) for way in _WAYS] for run in done)
    return sum(way != asked for way in ways)


def _workers(
    asked: int | None, execution: Execution, left: Sequence[RunSpec], messages: LaunchMessages
) -> int:
    """Return how many runs to compute at once on this machine."""
    if execution.executor == "inline":
        return 1
    from bench.launching.local_workers import places
    from bench.launching.memory_fit import fitting

    if asked is not None:
        return min(asked, len(left))
    wanted = min(places(execution), len(left))
    fit = fitting(left) if wanted > 1 else 1
    if fit < wanted:
        messages.fewer_fit(fit, wanted)
    return min(wanted, fit)


@contextlib.contextmanager
def _machine(plan: Plan, messages: LaunchMessages) -> Iterator[None]:
    """Hold the machine within the block; raise ``UserError`` if a suite needs it alone and can't have it."""
    try:
        with machine_lock.held(alone=plan.one_at_a_time) as held:
            if not held:
                messages.beside_a_measurement()
            yield
    except machine_lock.Busy:
        raise UserError(
            f"suite {plan.suite} measures time, and another grid is computing here: wait until it has ended"
        ) from None


def _here(store: Store, specs: Sequence[RunSpec], execution: Execution) -> None:
    """Compute ``specs`` on this machine, in this process or by worker processes."""
    if execution.executor == "inline":
        run_inline(store, specs, execution)
        return
    from bench.launching.local_workers import LocalWorkers  # imported here because it loads submitit

    run_workers(store, specs, LocalWorkers(store.root, specs, execution))


def _by_slurm(
    store: Store,
    left: Sequence[RunSpec],
    jobs: Submission,
    detach: bool,
    progress: Progress,
    console: Console,
    messages: LaunchMessages,
) -> bool:
    """Submit jobs that compute ``left``; return whether they were left to run without this process."""
    from bench.launching.slurm_launch import Launch

    launch = Launch(store, left, jobs, messages.say)
    if (where := not_shared(store.root)) is not None:
        messages.not_shared(where)
    messages.submitted(launch.submit(), launch.elsewhere)
    if detach:
        messages.how_to_follow()
        return True
    with shown(progress, console):
        launch.see_through()
    return False
