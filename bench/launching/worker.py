"""Compute runs from a list: claim a run, compute it, and repeat until none is left.

This module must load without torch: a worker sets threads and CUDA devices in its environment before torch
is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.entry import print_anything
from bench.experiment.execution import Execution
from bench.monitoring import launch_files
from bench.results import claims
from bench.results.files import StoreError, write_json
from bench.results.run_folder import RunFolder

if TYPE_CHECKING:
    from bench.experiment.spec import RunSpec
    from bench.results.store import Store

#: File in a launch folder; its workers stop when it exists.
STOP = "stop"
_WATCH_SECONDS = 0.25


@dataclass(frozen=True)
class Order:
    """What a worker process is told; plain values only, as it is sent as a pickle.

    Parameters
    ----------
    number
        Number of the worker in its launch.
    results
        Path of the results folder.
    configs
        Resolved configurations of the runs.
    execution
        How to compute them.
    folder
        Path of the launch folder, where the worker writes its note.
    launcher
        Process with which the worker ends; None to go on without it.
    cuda
        Value of ``CUDA_VISIBLE_DEVICES``; None leaves it as it is.
    """

    number: int
    results: str
    configs: tuple[dict[str, Any], ...]
    execution: Execution
    folder: str
    launcher: claims.Process | None = None
    cuda: str | None = None

    def given_up(self, run_id: str) -> Path:
        """Return the path of the file that, if it exists, tells workers not to begin the run."""
        return Path(self.folder) / f"given-up-{run_id}"

    @property
    def note(self) -> Path:
        """Path of the worker's note (see ``Note``)."""
        return launch_files.note(Path(self.folder), self.number)

    def specs(self) -> list[RunSpec]:
        """Return the runs, in order. The launcher has warned of plug-ins that are left out."""
        from bench.experiment.spec import parse_spec
        from methods.core.registry import keep_quiet

        keep_quiet()
        return [parse_spec(config) for config in self.configs]


class Note:
    """A worker's report on itself, in a file that the launcher reads.

    The file is ``{"pid", "run_id", "begun", "ended", "fault"}``. run_id: the run that it computes; begun:
    whether it has begun any run; ended: whether it has finished its list; fault: why it can't go on, if that
    is not the fault of a run.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, False

    def __call__(self, run_id: str | None, ended: bool = False, fault: str | None = None) -> None:
        """Record which run this process computes now, also in its log."""
        self._begun |= run_id is not None
        said = {"run_id": run_id, "begun": self._begun, "ended": ended, "fault": fault}
        write_json(self._path, {"pid": os.getpid(), **said})
        if run_id is not None:
            say(f"run {run_id}")

    @contextlib.contextmanager
    def telling_faults(self) -> Iterator[None]:
        """Write the first note; end the process and record the reason if the results folder fails.

        For example, the disk is full, or the folder was deleted.
        """
        try:
            self(None)
            yield
        except StoreError as error:
            print(error, flush=True)
            with contextlib.suppress(StoreError):
                self(None, fault=str(error))
            sys.exit(1)


def say(line: str) -> None:
    """Print a line with the time to the worker's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


class Stopping:
    """Whether a worker was asked to stop, and why. Calling it returns the reason, or an empty text."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason = ""

    def __call__(self) -> str:
        return self.reason if self.event.is_set() else ""

    def ask(self, reason: str) -> None:
        """Ask the worker to stop; only the first reason is kept."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()

    def on(self, number: signal.Signals, reason: str) -> None:
        """Ask the worker to stop when the signal arrives."""
        signal.signal(number, lambda *_: self.ask(reason))


def work(order: Order) -> None:
    """Run a worker process. It stops on SIGTERM, when the stop file exists, and when its launcher ends."""
    print_anything()
    stopping = Stopping()
    # Ctrl-C reaches the whole process group, but the launcher handles it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping.on(signal.SIGTERM, "stopped by its launcher")
    if order.cuda is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.cuda
    threading.Thread(target=_watch, args=(order, stopping), daemon=True).start()
    note = Note(order.note)
    from bench.results.store import Store

    with note.telling_faults():
        walk(
            Store(order.results), order.specs(), order.execution, stopping, note,
            left_alone=lambda run_id: order.given_up(run_id).exists(),
        )  # fmt: skip
        note(None, ended=True)


def walk(
    store: Store,
    specs: Sequence[RunSpec],
    execution: Execution,
    stop: Callable[[], object],
    at: Callable[[str | None], None] = lambda run_id: None,
    left_alone: Callable[[str], bool] = lambda run_id: False,
) -> None:
    """Compute every run of ``specs`` of which something is left and that nobody else computes.

    A run folder that is damaged is set aside first.

    Parameters
    ----------
    store
        Results folder.
    specs
        Runs to compute, in order.
    execution
        How to compute them.
    stop
        Returns the reason to stop, or something false.
    at
        Called with the id of each run before it starts, and with None when it is over.
    left_alone
        Returns whether a run must not be begun.
    """
    from bench.experiment.beside import is_over
    from bench.runner.attempt import LOST
    from bench.runner.execute import execute

    for spec in specs:
        if stop():
            return
        run = store.run(spec.run_id)
        if is_over(run, spec) or left_alone(spec.run_id) or (claim := _take(store, run)) is None:
            continue
        lost = threading.Event()
        with claims.held(claim, lost.set):
            if not is_over(run, spec):  # another process may have done it before this one claimed it
                at(spec.run_id)
                execute(spec, store, execution, partial(_stop, lost, LOST, stop))
        at(None)


def _stop(lost: threading.Event, why: object, stop: Callable[[], object]) -> object:
    """Return the reason to stop a run: ``why`` if its claim was lost, else what ``stop`` says."""
    return why if lost.is_set() else stop()


def _take(store: Store, run: RunFolder) -> claims.Claim | None:
    claim = claims.acquire(run)
    if claim is not None and (fault := store.mended(run.run_id)) is not None:
        store.set_aside(run.run_id, fault)  # and the claim with it
        claim = claims.acquire(run)
    return claim


def _watch(order: Order, stopping: Stopping) -> None:
    stop_file = Path(order.folder) / STOP
    while not stopping.event.wait(_WATCH_SECONDS):
        if stop_file.exists():
            stopping.ask("stopped by its launcher")
        elif order.launcher is not None and order.launcher.lives() is False:
            stopping.ask("its launcher ended")
