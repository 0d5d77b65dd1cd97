"""Prepare a launch: is everything here that a plan needs, and which earlier runs have to make way."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.launch_messages import submission_foreseen
from bench.experiment import preflight
from bench.experiment.execution import on_this_machine
from bench.experiment.spec import RunSpec
from bench.launching.asked import Asked
from bench.launching.slurm_profile import Profile
from bench.monitoring import slurm_commands
from bench.planning.estimate import expected_seconds
from bench.planning.plan import Plan
from bench.results import claims
from bench.results.run_folder import SETTLED
from bench.results.store import Store
from methods.core.errors import UserError

if TYPE_CHECKING:
    from bench.experiment.execution import Execution
    from bench.launching.slurm_submission import Submission


def ready(plan: Plan, asked: Asked) -> Asked:
    """``asked`` with its device resolved, where everything is here that ``plan`` needs.

    Raises ``UserError`` for data, a device or kernels that are missing; ``SlurmError`` where SLURM is missing
    or would not take such jobs.
    """
    if (missing := preflight.missing_data(plan.specs)) is not None:
        raise UserError(missing)
    if asked.profile is not None:
        slurm_commands.check(asked.profile.sbatch())
    execution = on_this_machine(asked.execution)
    preflight.check_execution(plan.specs, execution.mode)
    return replace(asked, execution=execution)


def foreseen(plan: Plan, asked: Asked, results: Path) -> list[str]:
    """What a launch would meet, in lines for ``--dry-run``: missing data, and what SLURM would be given."""
    missing = preflight.missing_data(plan.specs)
    lines = [] if missing is None else [f"not here: {missing}"]
    if asked.profile is None:
        return lines
    there = next(path for path in (results.absolute(), *results.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        lines.append(f"not as it is: cannot write {there}")
    found = plan.statuses(Store(results) if results.exists() else None)
    left = [spec for spec in plan.specs if found.get(spec.run_id) not in (*SETTLED, "queued", "running")]
    try:
        slurm_commands.check(asked.profile.sbatch())
        jobs = submission(plan, results, asked.profile, on_this_machine(asked.execution))
        return [*lines, submission_foreseen(len(left), *jobs.shape(left))]
    except slurm_commands.SlurmError as error:
        return [*lines, f"not as it is: {error}"]


def submission(plan: Plan, results: Path, profile: Profile, execution: Execution) -> Submission:
    """What submits the runs of ``plan`` to SLURM."""
    from bench.launching.slurm_submission import Submission  # submitit

    if plan.one_at_a_time:
        # times are compared within a machine that is one's own: one job, on one whole node
        profile = replace(profile, exclusive=True, runs_per_job=max(len(plan.specs), 1))
    seconds = partial(expected_seconds, on_gpu=execution.device.startswith("cuda"))
    return Submission(results, profile, execution, plan.suite, plan.scale, seconds)


def make_way(
    store: Store, specs: Sequence[RunSpec], asked: Asked, corrupted: Callable[[str, str, Path], None]
) -> None:
    """Set aside what can't be trusted or is not wanted any more; what is asked for again becomes pending.

    corrupted: told of each run that can't be trusted, what is wrong with it, and where it is now.
    """
    runs = [store.run(spec.run_id) for spec in specs]
    free = [run for run in runs if run.path.exists() and claims.holder(run) is None]
    faults = store.faults(run.run_id for run in free)
    for run in free:
        if (fault := faults.get(run.run_id)) is not None:
            corrupted(run.run_id, fault, store.set_aside(run.run_id, fault))
            continue
        run.forget_cancel()
        if asked.force:
            store.set_aside(run.run_id, "run again by --force")
        elif (status := run.status()) == "cancelled" or (asked.retry_failed and status == "failed"):
            run.write("status", {**(run.read("status") or {}), "status": "pending", "deaths": 0})
