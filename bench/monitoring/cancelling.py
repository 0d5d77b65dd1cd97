"""End runs: whoever computes them is asked to stop, and jobs that have nothing else to do are cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bench.monitoring import retries, slurm_commands, slurm_queue
from bench.monitoring.slurm_queue import Sight
from bench.results import claims
from bench.results.files import printable
from bench.results.run_folder import CANCELLED
from bench.results.store import Store

#: How long processes have to stop by themselves, and how often it is looked whether they have.
_PATIENCE_SECONDS, _POLL_SECONDS = 10.0, 0.2


def cancel(store: Store, run_ids: Iterable[str], say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Cancel ``run_ids``, which are not settled.

    Parameters
    ----------
    say : told in a line where SLURM cannot be asked

    Returns
    -------
    The runs that are cancelled, and those whose process has not stopped yet.
    """
    left = list(run_ids)
    for run_id in left:
        store.run(run_id).ask_cancel()
    sight = _look(store, say)
    _cancel_jobs(store, sight, left)
    deadline, forced = time.monotonic() + _PATIENCE_SECONDS, False
    done: list[str] = []
    while left:
        for run_id in left:
            retries.blame(store, run_id, "cancelled", CANCELLED, "", over=sight.ended)
        settled = {run_id for run_id in left if store.run(run_id).is_settled()}
        for run_id in settled:
            store.run(run_id).forget_cancel()
        done += [run_id for run_id in left if run_id in settled]
        left = [run_id for run_id in left if run_id not in settled]
        if time.monotonic() > deadline:
            if forced or not (sight := _look(store, say)).live:
                break
            # a run in a long step (an evaluation, say) does not look whether it should stop: its job ends it
            _cancel_jobs(store, sight, left, at_work=True)
            deadline, forced = time.monotonic() + _PATIENCE_SECONDS, True
        if left:
            sight = _look(store, say) if forced else sight
            time.sleep(_POLL_SECONDS)
    return done, left


def who_computes(store: Store, run_id: str) -> str:
    """The process that holds a run, in words."""
    found = claims.holder(store.run(run_id))
    return f"process {found.pid} on {printable(found.host)}" if found else "its process"


def _look(store: Store, say: Callable[[str], None]) -> Sight:
    """What SLURM says; nothing where it can't be asked."""
    try:
        return slurm_queue.look(store.root)
    except slurm_commands.SlurmError as error:
        say(f"jobs of SLURM can't be cancelled: {error}")
        return Sight()


def _cancel_jobs(store: Store, sight: Sight, run_ids: Iterable[str], at_work: bool = False) -> None:
    """Cancel the jobs that have nothing else to do: those that wait, and if asked for those ``at_work``."""
    asked = set(run_ids)
    jobs_now = {task.job: (task, state) for task, state in sight.live.values()}
    slurm_commands.cancel(
        job
        for job, (task, state) in jobs_now.items()
        if (state.waits or at_work)
        and asked.intersection(task.runs)
        and all(run_id in asked or store.run(run_id).is_settled() for run_id in task.runs)
    )
