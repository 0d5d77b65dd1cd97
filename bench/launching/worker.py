"""Take runs from a list, claim each, compute it, until none is left to take.

This module must load without torch: a worker sets what the process may see (threads, CUDA
devices) before torch is imported.
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

from bench.experiment.execution import Execution
from bench.monitoring import launch_files
from bench.results import claims
from bench.results.files import WriteError, write_json
from bench.results.run_folder import RunFolder

if TYPE_CHECKING:
    from bench.experiment.spec import RunSpec
    from bench.results.store import Store

#: In a launch folder: its workers stop when this exists.
STOP = "stop"
_WATCH_SECONDS = 0.25


@dataclass(frozen=True)
class Order:
    """What a worker process is told: plain values only, as they travel in a pickle.

    configs: resolved configurations. folder: the launch's, where the worker says what it is at.
    launcher: the process to end with; None to go on without it. cuda: ``CUDA_VISIBLE_DEVICES``.
    """

    number: int
    results: str
    configs: tuple[dict[str, Any], ...]
    execution: Execution
    folder: str
    launcher: claims.Process | None = None
    cuda: str | None = None

    def given_up(self, run_id: str) -> Path:
        """The file that says, when it exists, that no worker is to begin the run any more."""
        return Path(self.folder) / f"given-up-{run_id}"

    @property
    def note(self) -> Path:
        """Where the worker says what it is at, see ``Note``."""
        return launch_files.note(Path(self.folder), self.number)

    def specs(self) -> list[RunSpec]:
        """The runs, in order."""
        from bench.experiment.spec import parse_spec

        return [parse_spec(config) for config in self.configs]


class Note:
    """What a worker says of itself, in a file that others read.

    ``{"pid", "run_id", "begun", "ended", "fault"}``. run_id: the run that it is at; begun: whether it came to
    any; ended: whether it is through with its list; fault: why it can't go on, which is no fault of a run.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, False
        self(None)

    def __call__(self, run_id: str | None, ended: bool = False, fault: str | None = None) -> None:
        """Say which run this process is at now, in its log too."""
        self._begun |= run_id is not None
        said = {"run_id": run_id, "begun": self._begun, "ended": ended, "fault": fault}
        write_json(self._path, {"pid": os.getpid(), **said})
        if run_id is not None:
            say(f"run {run_id}")

    @contextlib.contextmanager
    def telling_faults(self) -> Iterator[None]:
        """End the process where the results can't be written (a full disk, say), and say so."""
        try:
            yield
        except WriteError as error:
            print(error, flush=True)
            with contextlib.suppress(WriteError):
                self(None, fault=str(error))
            sys.exit(1)


def say(line: str) -> None:
    """Print a line into the worker's log, after the time."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


class Stopping:
    """Whether a worker was asked to stop, and why: false as long as it was not. For ``stop`` of a run."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.reason = ""

    def __call__(self) -> str:
        return self.reason if self.event.is_set() else ""

    def ask(self, reason: str) -> None:
        """Ask for it; the first reason stays."""
        if not self.event.is_set():
            self.reason = reason
            self.event.set()

    def on(self, number: signal.Signals, reason: str) -> None:
        """Ask for it when the signal comes."""
        signal.signal(number, lambda *_: self.ask(reason))


def work(order: Order) -> None:
    """The life of a worker process. It stops on SIGTERM, at the launch's stop file, and with its launcher."""
    stopping = Stopping()
    # Ctrl-C reaches the whole process group: it is the launcher's to handle
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
    """Compute every run of ``specs`` that is not settled and that nobody else has.

    ``stop``, once true, says why. ``at`` is told the run before it starts, and None when it is over.
    ``left_alone`` says which are not to be begun. A folder that can't be trusted is set aside first.
    """
    from bench.runner.attempt import LOST
    from bench.runner.execute import execute

    for spec in specs:
        if stop():
            return
        run = store.run(spec.run_id)
        if run.is_settled() or left_alone(spec.run_id) or (claim := _take(store, run)) is None:
            continue
        lost = threading.Event()
        with claims.held(claim, lost.set):
            if not run.is_settled():  # it may have been done between the first look and the claim
                at(spec.run_id)
                execute(spec, store, execution, partial(_stop, lost, LOST, stop))
        at(None)


def _stop(lost: threading.Event, why: object, stop: Callable[[], object]) -> object:
    """Whether a run is to be stopped: its claim was lost, which is ``why``, or ``stop`` says so."""
    return why if lost.is_set() else stop()


def _take(store: Store, run: RunFolder) -> claims.Claim | None:
    claim = claims.acquire(run)
    if claim is not None and (fault := store.check(run.run_id)) is not None:
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
