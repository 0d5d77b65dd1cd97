"""Start worker processes on this machine, through submitit.

submitit's local executor does not limit the number of processes, hides CUDA devices, and can't tell how a
job ended. So the caller limits the number, each worker is told its device, and each writes a note that says
which run it computes.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import submitit
import torch

from bench.experiment.execution import Execution
from bench.experiment.spec import RunSpec
from bench.launching.process import blocked, thread_limits
from bench.launching.worker import STOP, Order, work
from bench.monitoring import launch_files
from bench.results.claims import Process
from bench.results.files import StoreError

_NO_TIMEOUT_MINUTES = 60 * 24 * 365 * 10


class LocalWorkers:
    """At most ``execution.concurrency`` worker processes that share one list of runs.

    Logs and notes are in ``RESULTS.jobs/<launch>``, a folder that is removed if no worker died.
    """

    def __init__(self, results: Path, specs: Sequence[RunSpec], execution: Execution) -> None:
        self.limit = execution.concurrency or 1
        self.folder = launch_files.new(results)
        self._orders = _Orders(results, specs, execution, self.folder)
        self._started: list[LocalWorker] = []
        self._executor = submitit.LocalExecutor(launch_files.logs(self.folder))
        self._executor.update_parameters(timeout_min=_NO_TIMEOUT_MINUTES, stderr_to_stdout=True)

    def start(self) -> LocalWorker:
        """Start a worker with the whole list."""
        order = self._orders.next([worker.cuda for worker in self._started if worker.lives()])
        # Ctrl-C reaches the whole process group, but only this process handles it, so others must not get it
        with _environment(thread_limits(order.execution.threads)), blocked(signal.SIGINT):
            try:
                job = self._executor.submit(work, order)
            except OSError as error:  # a full disk, or a folder that was deleted
                raise StoreError(f"cannot write {self.folder}: {error.strerror or error}") from None
        worker = LocalWorker(int(job.job_id), order, Path(job.paths.stdout))
        worker.keep(job)
        self._started.append(worker)
        return worker

    def give_up(self, run_id: str) -> None:
        """Create a file that tells all workers not to begin the run."""
        try:
            self._orders.given_up(run_id).touch()
        except OSError as error:
            raise StoreError(f"cannot write {self.folder}: {error.strerror or error}") from None

    def close(self) -> None:
        """Remove the launch folder, unless a worker died."""
        if all(worker.ended() for worker in self._started):
            launch_files.tidy(self.folder)


class LocalWorker:
    """A controller process of submitit's, and the worker below it."""

    def __init__(self, controller: int, order: Order, log: Path) -> None:
        self._note, self._log, self.cuda = order.note, log, order.cuda
        self._job: Any = None
        self._controller = psutil.Process(controller)
        self._killed: list[psutil.Process] = []

    def keep(self, job: Any) -> None:
        """Keep submitit's job object, which reaps the process."""
        self._job = job

    def lives(self) -> bool:
        """Return whether the controller runs, or a process below it that was killed has not gone yet."""
        return not self._job.done() or any(_runs(process) for process in self._killed)

    def run_id(self) -> str | None:
        """Return the run that its note names."""
        return self._read().get("run_id")

    def ended(self) -> bool:
        """Return whether its note says that it has ended."""
        return bool(self._read().get("ended"))

    def fault(self) -> str | None:
        """Return the fault that its note names."""
        return self._read().get("fault")

    def last_words(self) -> str:
        """Return the last line of its log that is not empty, and the path of the log."""
        with contextlib.suppress(OSError):
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return f"{lines[-1].strip()[:300]} (log: {self._log})"
        return f"none (log: {self._log})"

    def stop(self) -> None:
        """Send SIGTERM to the worker, and create a stop file in case the signal came too early."""
        with contextlib.suppress(OSError):
            (self._note.parent / STOP).touch()
        for process in self._below():
            with contextlib.suppress(psutil.Error):
                process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to all its processes."""
        self._killed = self._below()
        for process in [*self._killed, self._controller]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _below(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return self._controller.children(recursive=True)
        return []

    def _read(self) -> dict[str, Any]:
        return launch_files.read_note(self._note)


class _Orders:
    """Makes the order of each worker: the same list, its number, and its CUDA device."""

    def __init__(self, results: Path, specs: Sequence[RunSpec], execution: Execution, folder: Path) -> None:
        self._configs = tuple(spec.to_dict() for spec in specs)
        # each worker sees only its own device, so the number of the device is removed
        here = replace(execution, device=execution.device.partition(":")[0])
        self._results, self._execution, self._folder = str(results.resolve()), here, str(folder)
        self._launcher = Process.current()
        self._devices = _cuda_devices(execution.device)
        self._count = 0

    def given_up(self, run_id: str) -> Path:
        """Return the path of the file that tells all workers of the launch not to begin the run."""
        return self._order(0, None).given_up(run_id)

    def next(self, in_use: Sequence[str | None] = ()) -> Order:
        """Return the order of one more worker, with the device that occurs least often in ``in_use``."""
        self._count += 1
        return self._order(self._count, min(self._devices, key=in_use.count, default=None))

    def _order(self, number: int, device: str | None) -> Order:
        return Order(
            number=number,
            results=self._results,
            configs=self._configs,
            execution=self._execution,
            folder=self._folder,
            launcher=self._launcher,
            cuda=device,
        )


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def places(execution: Execution) -> int:
    """Return how many runs fit on this machine at once: one for each CUDA device, else by cores."""
    return len(_cuda_devices(execution.device)) or max(1, usable_cores() // execution.threads)


def _cuda_devices(device: str) -> list[str]:
    """Return the values of ``CUDA_VISIBLE_DEVICES`` for the workers; none if runs stay on the CPU.

    A worker sees one device, which has number 0 there.
    """
    if device == "cpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        devices = [str(number) for number in range(torch.cuda.device_count())]
    else:
        devices = [name.strip() for name in visible.split(",") if name.strip()]
    _, _, number = device.partition(":")
    return [devices[int(number)]] if number else devices


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
