"""Prepare a launch: check that a plan can be computed here, and set earlier runs aside where needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.launch_messages import evaluation_foreseen, submission_foreseen
from bench.experiment import beside, preflight
from bench.experiment.execution import on_this_machine
from bench.experiment.spec import RunSpec
from bench.launching.asked import Asked
from bench.launching.slurm_profile import Profile
from bench.monitoring import slurm_commands
from bench.planning.estimate import expected_seconds
from bench.planning.plan import Plan
from bench.results import claims
from bench.results.beside import finished, lacking, retried
from bench.results.run_folder import SETTLED
from bench.results.store import Store
from methods.core.errors import UserError

if TYPE_CHECKING:
    from bench.experiment.execution import Execution
    from bench.launching.slurm_submission import Submission


def ready(plan: Plan, asked: Asked) -> Asked:
    """Check that ``plan`` can be computed as asked, and return ``asked`` with its device resolved.

    What is suspicious in the data is said on stderr.

    Raises
    ------
    UserError
        If data, a device or kernels are missing.
    SlurmError
        If SLURM is missing or would reject the jobs.
    """
    if (missing := preflight.missing_data(plan.specs)) is not None:
        raise UserError(missing)
    preflight.tell_of_data(plan.specs)
    if asked.profile is not None:
        slurm_commands.check(asked.profile.sbatch())
        slurm_commands.require_srun()
    execution = on_this_machine(asked.execution)
    preflight.check_execution(plan.specs, execution.mode)
    return replace(asked, execution=execution)


def foreseen(plan: Plan, asked: Asked, results: Path) -> tuple[list[str], list[str]]:
    """Return lines for ``--dry-run``: what a launch would evaluate or submit, and what would stop it."""
    store = Store(results) if results.exists() else None
    sets = {spec.run_id: sets_lacking(store, spec) for spec in plan.specs}
    missing = preflight.missing_data(plan.specs)
    if missing is None:
        missing = beside.missing((spec, sets[spec.run_id]) for spec in plan.specs)
    obstacles = [] if missing is None else [f"cannot start: {missing}"]
    done = (spec for spec in plan.specs if store is not None and finished(store.run(spec.run_id)))
    lines = evaluation_foreseen(sets[spec.run_id] for spec in done)
    if asked.profile is None:
        return lines, obstacles
    there = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        obstacles.append(f"cannot start: cannot write {there}")
    found = plan.statuses(store)
    left = [spec for spec in plan.specs if found.get(spec.run_id) not in (*SETTLED, "queued", "running")]
    try:
        slurm_commands.check(asked.profile.sbatch())
        jobs = submission(plan, results, asked.profile, on_this_machine(asked.execution))
        return [*lines, submission_foreseen(len(left), *jobs.shape(left))], obstacles
    except slurm_commands.SlurmError as error:
        return lines, [*obstacles, f"cannot start: {error}"]


def sets_lacking(store: Store | None, spec: RunSpec) -> list[str]:
    """Return the keys of the sets beside the test part on which a run is still to be evaluated."""
    status = None if store is None else finished(store.run(spec.run_id))
    return lacking(status or {}, beside.wanted(spec))


def submission(plan: Plan, results: Path, profile: Profile, execution: Execution) -> Submission:
    """Return the object that submits the runs of ``plan`` to SLURM."""
    from bench.launching.slurm_submission import Submission  # imported here because it loads submitit

    if plan.one_at_a_time:
        # times are comparable only on one machine without other work: one job, on one whole node
        profile = replace(profile, exclusive=True, runs_per_job=max(len(plan.specs), 1))
    seconds = partial(expected_seconds, on_gpu=execution.device.startswith("cuda"))
    return Submission(results, profile, execution, plan.suite, plan.scale, seconds)


def make_way(
    store: Store, specs: Sequence[RunSpec], asked: Asked, corrupted: Callable[[str, str, Path], None]
) -> None:
    """Set aside corrupted runs, and all others with ``--force``; make runs that are asked for again pending.

    Parameters
    ----------
    store
        The results folder.
    specs
        The runs; those that a process computes now stay as they are.
    asked
        What the caller wants.
    corrupted
        Called for each corrupted run with its id, its fault, and the path to which it was moved.
    """
    runs = [store.run(spec.run_id) for spec in specs]
    free = [run for run in runs if run.path.exists() and claims.holder(run) is None]
    faults = store.faults(run.run_id for run in free)
    for run in free:
        if run.run_id in faults and (fault := store.mended(run.run_id)) is not None:
            corrupted(run.run_id, fault, store.set_aside(run.run_id, fault))
            continue
        run.forget_cancel()
        if asked.force:
            store.set_aside(run.run_id, "run again by --force")
        elif (status := run.status()) == "cancelled" or (asked.retry_failed and status == "failed"):
            run.write("status", {**(run.read("status") or {}), "status": "pending", "deaths": 0})
        elif status == "done":
            retried(run, cancelled_only=not asked.retry_failed)
