"""Compute the runs of a SLURM job one after the other, prepared for the job's end at any moment.

Progress is kept in the runs' folders, so a job needs nothing but its list. SLURM sends SIGUSR2 shortly before
the time limit, and SIGTERM for every other reason (preemption, requeue, cancellation). The job then
checkpoints its run and makes sure that it is started again, unless SLURM has already decided that.

This module must load without torch, like ``bench.launching.worker``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.cli.entry import print_anything
from bench.launching.worker import Note, Order, Stopping, say, walk
from bench.monitoring import retries, slurm_commands
from bench.results import claims
from bench.results.beside import evaluated, lacking, note_failure
from bench.results.claims import current_job

if TYPE_CHECKING:
    from bench.experiment.spec import RunSpec
    from bench.results.store import Store

TIME_LIMIT = "the time limit of its job is near"
TOLD_TO_END = "its job was told to end"
#: Seconds to wait before asking SLURM about a job that it signalled; and for SLURM to end the job, if it
#: does not answer.
_SETTLING_SECONDS, _PATIENCE_SECONDS = 1.0, 300.0


def work(order: Order) -> None:
    """Compute the runs of ``order``; the job may be requeued several times until all are done."""
    print_anything()
    # Ctrl-C in a terminal that runs srun reaches the job too; jobs are ended by cancelling them instead
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    claims.work_for_job()
    stopping = Stopping()
    stopping.on(signal.SIGTERM, TOLD_TO_END)
    stopping.on(signal.SIGUSR2, TIME_LIMIT)
    note = Note(order.note)
    from bench.experiment.execution import resolve_device
    from bench.results.store import Store

    with note.telling_faults():
        store, specs = Store(order.results), order.specs()
        execution = replace(order.execution, device=resolve_device(order.execution.device))
        at = _Position(store, note, specs)
        left, before = _left(store, specs), -1
        # a run that was skipped may have been released, or be wanted again, in the meantime
        while left and len(left) != before and not stopping():
            walk(store, specs, execution, stopping, at)
            before, left = len(left), _left(store, specs)
        if stopping() == TIME_LIMIT:
            at.require_progress()
        left = _left(store, specs)
        if not (stopping() and left):
            note(None, ended=True)
            return
    say(f"{stopping()}: runs left: {len(left)}")
    _come_back(stopping())


def _left(store: Store, specs: Sequence[RunSpec]) -> list[RunSpec]:
    from bench.experiment.beside import is_over

    return [spec for spec in specs if not is_over(store.run(spec.run_id), spec)]


def _come_back(reason: str) -> None:
    """Ask SLURM to start this job again, unless SLURM has cancelled or requeued it."""
    job = current_job() or ""
    try:
        if reason == TOLD_TO_END:
            # before a preemption the job gets some time in which it still counts as running; if it ended by
            # itself then, SLURM would not start it again
            time.sleep(_SETTLING_SECONDS)
            if slurm_commands.states([job])[job].name == "COMPLETING":
                return
        slurm_commands.requeue(job)
    except slurm_commands.SlurmError as error:
        # the next launch submits these runs again
        say(f"not requeued: {error}")
        if reason == TOLD_TO_END:
            time.sleep(_PATIENCE_SECONDS)


class _Position:
    """Follows which run a job computes, and how far the run was when the job began with it."""

    def __init__(self, store: Store, note: Note, specs: Sequence[RunSpec]) -> None:
        self._store, self._note = store, note
        self._specs = {spec.run_id: spec for spec in specs}
        self._run_id: str | None = None
        self._before = (-1, -1, 0)

    def __call__(self, run_id: str | None) -> None:
        if run_id is not None:
            self._run_id, self._before = run_id, self._now(run_id)
        self._note(run_id)

    def require_progress(self) -> None:
        """Blame the run if the job reached its time limit without any progress: it would never finish.

        If it was evaluating a finished run, the set is blamed that it has not finished.
        """
        from bench.experiment.beside import wanted

        if self._run_id is not None and self._now(self._run_id) <= self._before:
            run, words = self._store.run(self._run_id), f"the time limit of its job {current_job()} ended"
            for key in lacking(
                retries.document(self._store, self._run_id), wanted(self._specs[self._run_id])
            )[:1]:
                note_failure(run, key, f"{words} before this set was finished")
            retries.blame(
                self._store, self._run_id, "timeout",
                f"{words} before its first checkpoint", "none",
            )  # fmt: skip

    def _now(self, run_id: str) -> tuple[int, int, int]:
        """Return stage and step of the run's training, and the number of sets that it was evaluated on."""
        said = retries.document(self._store, run_id)
        stage, step = (said.get(key) for key in ("stage_index", "step"))
        sets = len(evaluated(said))
        return (stage, step, sets) if type(stage) is int and type(step) is int else (-1, -1, sets)
