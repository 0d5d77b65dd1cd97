"""Cancel runs: ask the processes that compute them to stop, and cancel SLURM jobs that have no other runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bench.monitoring import retries, slurm_commands, slurm_queue
from bench.monitoring.slurm_queue import Sight
from bench.results import claims
from bench.results.files import printable
from bench.results.run_folder import CANCELLED
from bench.results.store import Store

#: Time that processes have to stop by themselves, and time between two looks whether they have stopped.
_PATIENCE_SECONDS, _POLL_SECONDS = 10.0, 0.2


def cancel(store: Store, run_ids: Iterable[str], say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """Cancel runs, and wait until their processes have stopped, at most about 20 seconds.

    Parameters
    ----------
    store
        The results folder.
    run_ids
        Ids of the runs, none of them settled.
    say
        Called with one line if SLURM does not answer.

    Returns
    -------
    tuple of two lists
        Ids of the runs that are cancelled, and of those whose process has not stopped yet.
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
            # a run in a long step, such as an evaluation, does not notice the request: end its job instead
            _cancel_jobs(store, sight, left, at_work=True)
            deadline, forced = time.monotonic() + _PATIENCE_SECONDS, True
        if left:
            sight = _look(store, say) if forced else sight
            time.sleep(_POLL_SECONDS)
    return done, left


def who_computes(store: Store, run_id: str) -> str:
    """Return words for the process that computes a run: its id and host if they are known."""
    found = claims.holder(store.run(run_id))
    return f"process {found.pid} on {printable(found.host)}" if found else "its process"


def _look(store: Store, say: Callable[[str], None]) -> Sight:
    """Return the jobs that SLURM knows; none if SLURM does not answer."""
    try:
        return slurm_queue.look(store.root)
    except slurm_commands.SlurmError as error:
        say(f"SLURM jobs can't be cancelled: {error}")
        return Sight()


def _cancel_jobs(store: Store, sight: Sight, run_ids: Iterable[str], at_work: bool = False) -> None:
    """Cancel waiting jobs of ``run_ids`` that have no other runs; running ones too if ``at_work``."""
    asked = set(run_ids)
    jobs_now = {task.job: (task, state) for task, state in sight.live.values()}
    slurm_commands.cancel(
        job
        for job, (task, state) in jobs_now.items()
        if (state.waits or at_work)
        and asked.intersection(task.runs)
        and all(run_id in asked or store.run(run_id).is_settled() for run_id in task.runs)
    )
