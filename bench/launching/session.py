"""Compute the runs of a plan in a results folder: what the commands have in common that launch runs.

What is done is not repeated, what is stopped goes on later, and a person can watch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bench.cli import arguments as cli
from bench.cli.live import counted, say, shown
from bench.experiment import preflight
from bench.experiment.execution import Execution, stopped_otherwise
from bench.experiment.spec import RunSpec
from bench.launching import machine_lock
from bench.launching.pool import run_inline, run_workers
from bench.launching.slurm_launch import not_shared
from bench.launching.slurm_profile import Profile, load
from bench.monitoring import slurm_commands
from bench.monitoring.progress import Item, Progress
from bench.monitoring.slurm_queue import settle_all
from bench.planning.estimate import expected_seconds
from bench.planning.plan import Plan
from bench.results import claims
from bench.results.run_folder import SETTLED
from bench.results.store import Store
from methods.core.errors import UserError

if TYPE_CHECKING:
    from bench.launching.slurm_submission import Submission

#: What must be the same for times of runs to be compared.
_WAYS = ("device", "threads", "channels_last", "compile", "mode")


@dataclass(frozen=True)
class Asked:
    """What the caller wants: how runs are computed, how many at once (None: as many as fit), and what becomes
    of earlier ones.

    profile: what SLURM is told of jobs. detach: leave as soon as they are submitted.
    """

    execution: Execution
    workers: int | None = None
    retry_failed: bool = False
    force: bool = False
    profile: Profile | None = None
    detach: bool = False


@dataclass(frozen=True)
class Computed:
    """What was computed: the runs that were not settled before, in how many seconds, by how many processes.

    begun: whether some of them had been begun earlier, so that ``seconds`` are not all of their time.
    workers: None where that is not known. detached: whether they are computed elsewhere, and not yet done.
    """

    left: list[RunSpec]
    begun: bool
    seconds: float
    workers: int | None
    detached: bool = False


def ready(plan: Plan, arguments: Namespace, show: Callable[[], None]) -> Asked | None:
    """What a command's ``arguments`` want of ``plan``; None where ``--dry-run`` only shows it.

    Raises ``UserError`` for data, a device or kernels that are missing, and a profile that is not valid;
    ``SlurmError`` where SLURM is missing or would not take such jobs.
    """
    profile = _asked_profile(arguments)
    missing = preflight.missing_data(plan.specs)
    if arguments.dry_run:
        show()
        if missing is not None:
            print(f"not here: {missing}")
        if profile is not None:
            _print_jobs(plan, profile, arguments)
        return None
    if missing is not None:
        raise UserError(missing)
    if profile is not None:
        slurm_commands.check(profile.sbatch())
        execution = _on_nodes(profile, arguments)
    else:
        execution = cli.execution(arguments, arguments.executor)
    preflight.check_execution(plan.specs, execution.mode)
    detach = getattr(arguments, "detach", False)  # which not every command has
    return Asked(execution, arguments.workers, arguments.retry_failed, arguments.force, profile, detach)


def _on_nodes(profile: Profile, arguments: Namespace) -> Execution:
    # whether there is a GPU is for the nodes to say
    device = arguments.device if arguments.device != "auto" else "cuda" if profile.gpus else "cpu"
    return cli.execution(arguments, "slurm", device, profile.cpus)


def _print_jobs(plan: Plan, profile: Profile, arguments: Namespace) -> None:
    """Print as what jobs SLURM would get what is not settled and not in the queue, or why it would not."""
    root = Path(arguments.results)
    there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        print(f"not as it is: cannot write {there}")
    found = statuses(plan, Store(root) if root.exists() else None)
    left = [spec for spec in plan.specs if found.get(spec.run_id) not in (*SETTLED, "queued", "running")]
    try:
        slurm_commands.check(profile.sbatch())
        submission = _submission(plan, root, profile, _on_nodes(profile, arguments))
        jobs, arrays = submission.shape(left)
    except slurm_commands.SlurmError as error:
        print(f"not as it is: {error}")
        return
    print(
        f"SLURM takes such jobs; submitted now: {counted(len(left), 'run')} as {counted(jobs, 'job')} "
        f"in {counted(arrays, 'array')}"
    )


def _asked_profile(arguments: Namespace) -> Profile | None:
    """The profile that a command's ``arguments`` name, None where they do not ask for SLURM.

    Raises ``UserError`` where it is not valid, or options of SLURM stand beside another executor.
    """
    overrides = cli.profile_overrides(arguments)
    if arguments.executor == "slurm":
        if arguments.workers is not None:
            raise UserError(
                "--workers: of this machine; valid with --executor slurm: --set slurm.array_parallelism=N"
            )
        return load(arguments.profile, overrides)
    given = [
        name
        for name, is_given in (("--profile", arguments.profile), ("--set slurm.…", overrides))
        if is_given
    ]
    if getattr(arguments, "detach", False):
        given.append("--detach")
    if given:
        raise UserError(f"{given[0]}: only with --executor slurm")
    return None


def compute(plan: Plan, store: Store, asked: Asked, command: str, console: Console) -> Computed:
    """Compute what is left of ``plan`` and show how it goes; ``command`` is the line that asked for it.

    On ``KeyboardInterrupt`` the runs are stopped (jobs of SLURM are left), and a line says how to go on.
    """
    execution = asked.execution
    submission = None if asked.profile is None else _submission(plan, store.root, asked.profile, execution)
    if (fault := settle_all(store)) is not None:
        say(console, fault)
    _prepare(store, plan.specs, asked, console)
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
    workers: int | None = None
    detached = False
    try:
        if left and submission is not None:
            detached = _submit(plan, store, left, submission, asked.detach, progress, console)
        elif left:
            workers = _workers(asked.workers, execution, left, console)
            with _machine(plan, console), shown(progress, console):
                _launch(store, left, replace(execution, concurrency=workers))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        now = progress.look(everything=True)
        if submission is not None:
            say(console, f"left: {now.counted()}; jobs go on by themselves; {_how_to_follow(plan, store)}")
        else:
            say(console, f"stopped: {now.counted()}; the same command goes on from here")
        raise
    return Computed(left, begun, time.perf_counter() - started, workers, detached)


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


@contextlib.contextmanager
def _machine(plan: Plan, console: Console) -> Iterator[None]:
    """Hold the machine while computing; ``UserError`` where a suite that measures time can't have it."""
    try:
        with machine_lock.held(alone=plan.one_at_a_time) as held:
            if not held:
                say(console, "beside this grid another one measures time on this machine: both suffer")
            yield
    except machine_lock.Busy:
        raise UserError(
            f"suite {plan.suite} measures time, and another grid is computing on this machine: wait for it"
        ) from None


def _otherwise(store: Store, plan: Plan, execution: Execution) -> int:
    """How many of the runs that are done were computed in another way than is asked for now."""
    asked = [getattr(execution, way) for way in _WAYS]
    done = [run for spec in plan.specs if (run := store.run(spec.run_id)).path.exists() and run.is_done()]
    ways = ([(run.read("provenance") or {}).get(way) for way in _WAYS] for run in done)
    return sum(way != asked for way in ways)


def _prepare(store: Store, specs: Sequence[RunSpec], asked: Asked, console: Console) -> None:
    """Set aside what can't be trusted or is not wanted any more; what is asked for again becomes pending."""
    runs = [store.run(spec.run_id) for spec in specs]
    free = [run for run in runs if run.path.exists() and claims.holder(run) is None]
    faults = store.faults(run.run_id for run in free)
    for run in free:
        if (fault := faults.get(run.run_id)) is not None:
            aside = store.set_aside(run.run_id, fault)
            say(console, f"run {run.run_id} is corrupted ({fault}); it is in {aside} now and runs again")
            continue
        run.forget_cancel()
        if asked.force:
            store.set_aside(run.run_id, "run again by --force")
        elif (status := run.status()) == "cancelled" or (asked.retry_failed and status == "failed"):
            run.write("status", {**(run.read("status") or {}), "status": "pending", "deaths": 0})


def _launch(store: Store, specs: Sequence[RunSpec], execution: Execution) -> None:
    if execution.executor == "inline":
        run_inline(store, specs, execution)
        return
    from bench.launching.local_workers import LocalWorkers  # submitit, which one process alone does without

    run_workers(store, specs, LocalWorkers(store.root, specs, execution))


def _submission(plan: Plan, results: Path, profile: Profile, execution: Execution) -> Submission:
    """What submits the runs of ``plan``."""
    from bench.launching.slurm_submission import Submission  # submitit

    if plan.one_at_a_time:
        # times are compared within a machine that is one's own: one job, on one whole node
        profile = replace(profile, exclusive=True, runs_per_job=max(len(plan.specs), 1))
    seconds = partial(expected_seconds, on_gpu=execution.device.startswith("cuda"))
    return Submission(results, profile, execution, plan.suite, plan.scale, seconds)


def _submit(
    plan: Plan,
    store: Store,
    left: list[RunSpec],
    submission: Submission,
    detach: bool,
    progress: Progress,
    console: Console,
) -> bool:
    """Have jobs compute ``left``; whether they were left to themselves."""
    from bench.launching.slurm_launch import Launch

    launch = Launch(store, left, submission, partial(say, console))
    if (where := not_shared(store.root)) is not None:
        say(console, f"{store.root.resolve()} is on {where}: other nodes of a cluster will not see it")
    jobs = launch.submit()
    runs = sum(len(task.runs) for task in jobs)
    arrays = {task.job.partition("_")[0] for task in jobs}
    if jobs:
        say(
            console,
            f"submitted {counted(runs, 'run')} as {counted(len(jobs), 'job')} "
            f"({counted(len(arrays), 'array')}: {', '.join(sorted(arrays))})",
        )
    if launch.elsewhere:
        say(console, f"in jobs, or computed by others, already: {counted(launch.elsewhere, 'run')}")
    if detach:
        say(console, _how_to_follow(plan, store))
        return True
    with shown(progress, console):
        launch.see_through()
    return False


def _how_to_follow(plan: Plan, store: Store) -> str:
    rest = f"--suite {plan.suite} --results {store.root}"
    return f"python -m bench.status {rest} --watch follows them, python -m bench.cancel {rest} ends them"


def _workers(asked: int | None, execution: Execution, left: list[RunSpec], console: Console) -> int:
    """How many runs to compute at once."""
    if execution.executor == "inline":
        return 1
    from bench.launching.local_workers import places
    from bench.launching.memory_fit import fitting

    if asked is not None:
        return min(asked, len(left))
    wanted = min(places(execution), len(left))
    fit = fitting(left) if wanted > 1 else 1
    if fit < wanted:
        say(console, f"memory has room for {fit} runs at once, not for {wanted}; --workers overrules it")
    return min(wanted, fit)


def _weight(spec: RunSpec) -> float:
    """What a run takes next to others of its grid: the steps of all its stages."""
    return preflight.steps(spec)
