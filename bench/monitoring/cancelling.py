"""Cancel runs: ask the processes that compute them to stop, and cancel SLURM jobs that have no other runs.

Of a finished run, its evaluation on sets beside the test part is cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable

from bench.monitoring import retries, slurm_commands, slurm_queue
from bench.monitoring.progress import Item
from bench.monitoring.slurm_queue import Sight
from bench.results import beside, claims
from bench.results.files import printable
from bench.results.run_folder import CANCELLED
from bench.results.store import Store

#: Time that processes have to stop by themselves, and time between two looks whether they have stopped.
_PATIENCE_SECONDS, _POLL_SECONDS = 10.0, 0.2


def is_left(store: Store, item: Item, over: Container[str] = ()) -> bool:
    """Tell whether something of a run is still to be computed: its training, or its evaluation on a set.

    ``over`` are SLURM jobs that have ended; their claims are void.
    """
    run = store.run(item.run_id)
    if (status := beside.finished(run)) is None:
        return not run.is_settled()
    # the sets of `bench.evaluate` are in no plan, but a process that evaluates on them holds the run
    return bool(beside.lacking(status, item.sets)) or claims.holder(run, over) is not None


def cancel(store: Store, asked: Iterable[Item], say: Callable[[str], None]) -> tuple[list[Item], list[Item]]:
    """Cancel runs, and wait until their processes have stopped, at most about 20 seconds.

    Parameters
    ----------
    store
        The results folder.
    asked
        The runs; of each, something is left to compute.
    say
        Called with one line if SLURM does not answer.

    Returns
    -------
    tuple of two lists
        The runs that are cancelled, and those whose process has not stopped yet.
    """
    left = list(asked)
    for item in left:
        store.run(item.run_id).ask_cancel()
    sight = _look(store, say)
    _cancel_jobs(store, sight, left)
    deadline, forced = time.monotonic() + _PATIENCE_SECONDS, False
    done: list[Item] = []
    while left:
        for item in left:
            _end(store, item, sight.ended)
        ended = [item for item in left if not is_left(store, item, sight.ended)]
        for item in ended:
            store.run(item.run_id).forget_cancel()
        done += ended
        left = [item for item in left if item not in ended]
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


def _end(store: Store, item: Item, over: Container[str]) -> None:
    """Note that a run was cancelled, unless a process is at it."""
    run = store.run(item.run_id)
    if beside.finished(run) is None:
        retries.blame(store, item.run_id, "cancelled", CANCELLED, "", over=over)
    elif (claim := claims.acquire(run, over)) is not None:
        try:
            beside.note_cancelled(run, item.sets)
        finally:
            claim.release()


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


def _cancel_jobs(store: Store, sight: Sight, items: Iterable[Item], at_work: bool = False) -> None:
    """Cancel waiting jobs of ``items`` that have no other runs; running ones too if ``at_work``."""
    asked = {item.run_id for item in items}
    jobs_now = {task.job: (task, state) for task, state in sight.live.values()}
    slurm_commands.cancel(
        job
        for job, (task, state) in jobs_now.items()
        if (state.waits or at_work)
        and asked.intersection(task.runs)
        and all(run_id in asked or store.run(run_id).is_settled() for run_id in task.runs)
    )
