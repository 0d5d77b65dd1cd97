"""Bring a grid to its end on SLURM: submit missing runs and handle ended jobs until every run is settled.

All state is in files, so the launcher may end at any time, and the next one continues.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.experiment.beside import is_over
from bench.experiment.spec import RunSpec
from bench.launching.slurm_submission import Submission
from bench.monitoring import slurm_commands, slurm_queue, slurm_records
from bench.monitoring.slurm_commands import SlurmError
from bench.monitoring.slurm_queue import Sight
from bench.monitoring.slurm_records import Task
from bench.results import claims
from bench.results.store import Store
from methods.core.errors import UserError

#: Seconds between two looks at the queue: at first, and at most, since the time grows while nothing changes.
_FIRST_POLL, _LONGEST_POLL = 1.0, 15.0
#: Jobs that end without having done anything, after which no more are submitted.
_MOST_FUTILE = 3
#: Types of file systems in the memory of one machine, and folders that each machine has of its own.
_OWN = ("tmpfs", "ramfs", "devtmpfs")
_FOR_A_WHILE = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


class Launch:
    """The launch of ``specs`` as SLURM jobs.

    Parameters
    ----------
    store
        Results folder.
    specs
        Runs to compute.
    submission
        Submits jobs.
    say
        Prints a line for the user.
    """

    def __init__(
        self, store: Store, specs: Sequence[RunSpec], submission: Submission, say: Callable[[str], None]
    ) -> None:
        self.store, self.submission, self.say = store, submission, say
        self.left = list(specs)
        self._asked = {spec.run_id: spec for spec in specs}
        #: Number of runs that were in jobs, or claimed by others, at the last look.
        self.elsewhere = 0
        self._futile = 0
        self._said: set[str] = set()
        self._sight = Sight()

    def submit(self) -> list[Task]:
        """Handle jobs that ended, and submit the runs that are not settled, in no job and claimed by nobody.

        Returns
        -------
        list
            The new jobs.

        Raises
        ------
        SlurmError
            If SLURM does not answer, or refuses.
        UserError
            If jobs can't start or can't write.
        """
        with slurm_records.submitting(self.store.root):
            sight = self._sight = slurm_queue.look(self.store.root)
            for fault in sight.faults:
                self._say_once(fault)
            futile = slurm_queue.settle(self.store, sight)
            before, self.left = len(self.left), [s for s in self.left if not self._is_over(s.run_id)]
            self._require_use(futile, len(self.left) < before)
            missing = [
                spec
                for spec in self.left
                if spec.run_id not in sight.live
                and claims.holder(self.store.run(spec.run_id), sight.ended) is None
            ]
            new = self.submission.submit(missing) if missing else []
            self.elsewhere = len(self.left) - len(missing)
            if self.submission.refusal:
                self._say_once(f"SLURM takes no more jobs for now: {self.submission.refusal}")
        return new

    def see_through(self) -> None:
        """Wait until every run is settled, no matter who computes it, and until jobs without work have ended.

        Call it after ``submit``, which raises the errors that exist from the start.
        """
        wait = _FIRST_POLL
        while True:
            before, new = len(self.left), []
            try:
                new = self.submit()
                if not self.left and not self._ending():
                    slurm_records.tidy_over(self.store.root)
                    break
            except SlurmError as error:
                # for example, SLURM restarts or its queue is full; jobs that exist go on
                self._say_once(f"SLURM: {error}; will try again")
            moved = (new or len(self.left) < before) and not self.submission.refusal and not self._futile
            wait = _FIRST_POLL if moved else min(1.5 * wait, _LONGEST_POLL)
            time.sleep(wait)

    def _ending(self) -> bool:
        """Return whether a job with some of the runs has no work left; one that still waits is cancelled."""
        live = {
            task.job: (task, state)
            for run_id, (task, state) in self._sight.live.items()
            if run_id in self._asked
        }
        idle = [(task, state) for task, state in live.values() if all(map(self._is_over, task.runs))]
        slurm_commands.cancel(task.job for task, state in idle if state.waits)
        return bool(idle)

    def _is_over(self, run_id: str) -> bool:
        run, spec = self.store.run(run_id), self._asked.get(run_id)
        return run.is_settled() if spec is None else is_over(run, spec)

    def _require_use(self, futile: Sequence[Task], settled: bool) -> None:
        """Raise ``UserError`` if one job after the other ends without doing anything.

        If other jobs do make progress, a single node may be broken; then only a message is printed.
        """
        own = [task for task in futile if task.launch == self.submission.launch]
        if settled:
            self._futile = 0
        self._futile += len(own)
        if not own:
            return
        began = any(task.read_note().get("begun") for task, _ in self._sight.live.values())
        if self._futile >= _MOST_FUTILE and (own[-1].read_note().get("fault") or not began):
            raise UserError(f"jobs end without computing anything: {slurm_queue.in_vain(own[-1])}")
        self._say_once(slurm_queue.in_vain(own[-1]))

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self.say(line)


def not_shared(folder: Path) -> str | None:
    """Describe why ``folder`` is on this machine only, where jobs can't see it; None if it may be shared."""
    path = folder.resolve()
    with contextlib.suppress(OSError):
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        # if several file systems are mounted at one place, the last one is visible
        found = {Path(mount[1]): mount[2] for mount in mounts if len(mount) > 2}
        kind = next((found[parent] for parent in (path, *path.parents) if parent in found), "")
        if kind in _OWN:
            return f"a {kind} of this machine"
    return next((f"{place} of this machine" for place in _FOR_A_WHILE if path.is_relative_to(place)), None)
