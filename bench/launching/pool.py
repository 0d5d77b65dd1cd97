"""Compute runs in this process, or by a few worker processes that are replaced when they die.

``Workers`` hides what a worker process is. This module decides how many there are, what happens to a run
whose worker died, and how everything is stopped.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from bench.experiment.beside import is_over
from bench.experiment.execution import Execution
from bench.experiment.spec import RunSpec
from bench.launching.worker import walk
from bench.monitoring import retries
from bench.results import claims, run_folder
from bench.results.files import StoreError
from bench.results.store import Store
from methods.core.errors import UserError

_POLL_SECONDS = 0.1
#: Seconds that workers have to stop by themselves after Ctrl-C, and to disappear after they were killed.
_GRACE_SECONDS, _DEATH_SECONDS = 0.5, 1.0
_MOST_DEATHS_AT_START = 3


class Worker(Protocol):
    """A worker process that was started."""

    def lives(self) -> bool:
        """Return whether it runs, or will run."""

    def run_id(self) -> str | None:
        """Return the run that it computes, or computed when it died; None if there is none."""

    def ended(self) -> bool:
        """Return whether it reported that it has finished its list."""

    def fault(self) -> str | None:
        """Return why it could not go on, if that is not the fault of a run, for example a full disk."""

    def last_words(self) -> str:
        """Return the last line of its log."""

    def stop(self) -> None:
        """Ask it to stop soon."""

    def kill(self) -> None:
        """Kill it and all its processes, without waiting for their end."""


class Workers(Protocol):
    """A way of starting worker processes, at most ``limit`` at once."""

    limit: int

    def start(self) -> Worker:
        """Start a worker with the whole list of runs."""

    def give_up(self, run_id: str) -> None:
        """Make sure that no worker begins the run any more."""

    def close(self) -> None:
        """Clean up; called when no worker is left."""


def run_inline(store: Store, specs: Sequence[RunSpec], execution: Execution) -> None:
    """Compute ``specs`` one after the other in this process; ``KeyboardInterrupt`` stops even within a run.

    It returns when nothing of any run is left to compute, including those that other launchers compute.
    """
    here = replace(execution, executor="inline", concurrency=1)
    while True:
        walk(store, specs, here, lambda: False)
        if all(is_over(store.run(spec.run_id), spec) for spec in specs):
            return
        time.sleep(_POLL_SECONDS)


def run_workers(store: Store, specs: Sequence[RunSpec], workers: Workers) -> None:
    """Compute ``specs`` by at most ``workers.limit`` processes, and wait until all have ended.

    A worker that dies is replaced; the run that it computed is tried once more, then it fails as ``killed``
    (see ``bench.monitoring.retries``). Runs that other launchers compute are waited for. On an exception,
    including ``KeyboardInterrupt``, the workers are stopped within about a second.

    Raises
    ------
    StoreError
        If a worker can't go on, for example because the disk is full.
    UserError
        If workers die again and again before they start a run.
    """
    launch = _Launch(store, specs, workers)
    try:
        while launch.go_on():
            time.sleep(_POLL_SECONDS)
    finally:
        launch.stop()
        workers.close()


class _Launch:
    def __init__(self, store: Store, specs: Sequence[RunSpec], workers: Workers) -> None:
        self.store, self.workers = store, workers
        self.left = {spec.run_id: spec for spec in specs}
        self.active: list[Worker] = []
        self.ended: list[Worker] = []
        self.deaths: Counter[str] = Counter()
        #: Finished runs whose evaluation ended worker after worker; nothing is noted in their folders.
        self.given_up: set[str] = set()
        self.dead_at_start = 0
        self.left_at_death = -1
        self.memory_kills = memory_kills()

    def go_on(self) -> bool:
        """Replace workers that ended or died; return whether anything is left to wait for."""
        for worker in [w for w in self.active if w.ended() or not w.lives()]:
            self.active.remove(worker)
            if worker.ended():
                self.ended.append(worker)
            else:
                self._died(worker)
        # while all workers are busy, there is nothing to decide
        if len(self.active) < self.workers.limit:
            self.left = {
                run_id: spec
                for run_id, spec in self.left.items()
                if run_id not in self.given_up and not is_over(self.store.run(run_id), spec)
            }
            free = sum(claims.holder(self.store.run(run_id)) is None for run_id in self.left)
            # a worker that is starting up will claim a run, but has not done so yet
            starting = sum(worker.run_id() is None for worker in self.active)
            for _ in range(min(self.workers.limit - len(self.active), free - starting)):
                self.active.append(self.workers.start())
        return bool(self.left or self.active)

    def stop(self) -> None:
        """Stop the workers; kill those that take too long or compute no run."""
        for worker in self.active:
            if worker.run_id() is None:
                worker.kill()
            else:
                worker.stop()
        _wait(_GRACE_SECONDS, lambda: all(w.ended() or not w.lives() for w in self.active))
        # a worker that reported its end only has to shut down its interpreter, which takes a second
        everyone = [*self.active, *self.ended]
        for worker in everyone:
            if worker.lives():
                worker.kill()
        _wait(_DEATH_SECONDS, lambda: not any(worker.lives() for worker in everyone))
        for worker in self.active:
            if (run_id := worker.run_id()) is not None:
                self._mark_preempted(run_id)

    def _died(self, worker: Worker) -> None:
        if fault := worker.fault():
            raise StoreError(fault)
        run_id = worker.run_id()
        if run_id is None:
            # count deaths in a row, between which no run was settled
            self.dead_at_start = self.dead_at_start + 1 if len(self.left) == self.left_at_death else 1
            self.left_at_death = len(self.left)
            if self.dead_at_start >= _MOST_DEATHS_AT_START:
                raise UserError(f"workers die before they start a run: {worker.last_words()}")
        else:
            # counted here and not in the status, which is left alone if another worker has the run already
            self.deaths[run_id] += 1
            count = self.deaths[run_id]
            kind = "oom" if self._ran_out_of_memory() else "killed"
            if retries.status_after(kind, count) == "failed":
                self.workers.give_up(run_id)
                if self.store.run(run_id).is_done():
                    self.given_up.add(run_id)
            retries.blame(self.store, run_id, kind, "its worker process died", worker.last_words(), count)

    def _ran_out_of_memory(self) -> bool:
        """Return whether the system has killed a process for lack of memory since the last call."""
        before, self.memory_kills = self.memory_kills, memory_kills()
        return self.memory_kills > before

    def _mark_preempted(self, run_id: str) -> None:
        """Mark a run as preempted, because its worker was killed and could not do so."""
        status = retries.document(self.store, run_id)
        if status.get("status") == "running" and claims.holder(self.store.run(run_id)) is None:
            now = {"status": "preempted", "error": "ended by its launcher", "error_kind": "preempted"}
            self.store.run(run_id).write("status", {**status, **now, "updated_at": run_folder.timestamp()})


def _wait(seconds: float, over: Callable[[], bool]) -> None:
    """Wait until ``over``, but no longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    while not over() and time.monotonic() < deadline:
        time.sleep(0.02)


def memory_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory; 0 if it does not count them."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
