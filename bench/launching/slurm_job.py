"""The life of a job: it computes its runs in turn, and is prepared for its end at any moment.

Progress is in the runs' folders, so a job needs nothing but its list. Shortly before its time limit it
is told by SIGUSR2, of all else (preemption, requeue, cancellation) by SIGTERM: the run is checkpointed,
and the job sees to it that it comes back, unless SLURM has already decided that.

This module must load without torch, as ``bench.launching.worker``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.launching.worker import Note, Order, Stopping, say, walk
from bench.monitoring import retries, slurm_commands
from bench.results import claims
from bench.results.claims import current_job

if TYPE_CHECKING:
    from bench.experiment.spec import RunSpec
    from bench.results.store import Store

TIME_LIMIT = "the time limit of its job is near"
TOLD_TO_END = "its job was told to end"
#: What SLURM gets to say of a job that it signals, and to end one when that can't be told.
_SETTLING_SECONDS, _PATIENCE_SECONDS = 1.0, 300.0


def work(order: Order) -> None:
    """Compute the runs of ``order``, over as many lives of this job as it takes."""
    # Ctrl-C at an srun of one's own reaches jobs too; whoever means them cancels them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    claims.work_for_job()
    stopping = Stopping()
    stopping.on(signal.SIGTERM, TOLD_TO_END)
    stopping.on(signal.SIGUSR2, TIME_LIMIT)
    note = Note(order.note)
    from bench.experiment.execution import resolve_device
    from bench.results.store import Store

    store, specs = Store(order.results), order.specs()
    execution = replace(order.execution, device=resolve_device(order.execution.device))
    at = _Position(store, note)
    with note.telling_faults():
        left, before = _left(store, specs), -1
        # a run that it had passed may have been asked for again meanwhile, or been given free
        while left and len(left) != before and not stopping():
            walk(store, specs, execution, stopping, at)
            before, left = len(left), _left(store, specs)
        if stopping() == TIME_LIMIT:
            at.require_progress()
        left = _left(store, specs)
    if stopping() and left:
        say(f"{stopping()}: runs left: {len(left)}")
        _come_back(stopping())
    else:
        note(None, ended=True)


def _left(store: Store, specs: Sequence[RunSpec]) -> list[RunSpec]:
    return [spec for spec in specs if not store.run(spec.run_id).is_settled()]


def _come_back(reason: str) -> None:
    """Have SLURM start this job again; what it has decided itself (a cancellation, a requeue) stays so."""
    job = current_job() or ""
    try:
        if reason == TOLD_TO_END:
            # in the grace time before a preemption a job still runs, and one that leaves is not brought back
            time.sleep(_SETTLING_SECONDS)
            if slurm_commands.states([job])[job].name == "COMPLETING":
                return
        slurm_commands.requeue(job)
    except slurm_commands.SlurmError as error:
        # what is not brought back is missing, and whoever launches next submits it
        say(f"not requeued: {error}")
        if reason == TOLD_TO_END:
            time.sleep(_PATIENCE_SECONDS)


class _Position:
    """Follows which run a job is at, and how far the run was when the job came to it."""

    def __init__(self, store: Store, note: Note) -> None:
        self._store, self._note = store, note
        self._run_id: str | None = None
        self._before = (-1, -1)

    def __call__(self, run_id: str | None) -> None:
        if run_id is not None:
            self._run_id, self._before = run_id, self._now(run_id)
        self._note(run_id)

    def require_progress(self) -> None:
        """A run that a whole time limit did not bring further would not be brought further by the next."""
        if self._run_id is not None and self._now(self._run_id) <= self._before:
            retries.blame(
                self._store, self._run_id, "timeout",
                f"the time limit of its job {current_job()} ended before its first checkpoint", "none",
            )  # fmt: skip

    def _now(self, run_id: str) -> tuple[int, int]:
        said = retries.document(self._store, run_id)
        stage, step = (said.get(key) for key in ("stage_index", "step"))
        return (stage, step) if type(stage) is int and type(step) is int else (-1, -1)
