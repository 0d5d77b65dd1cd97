"""Take runs from a list, claim each, compute it, until none is left to take.

This module must load without torch: a worker sets what the process may see (threads, CUDA
devices) before torch is imported.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import claims
from bench.execution import Execution
from bench.files import write_json
from bench.folder import RunFolder

if TYPE_CHECKING:
    from bench.spec import RunSpec
    from bench.store import Store

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
        """Where the worker says what it is at: ``{"pid", "run_id", "ended"}``."""
        return Path(self.folder) / f"worker-{self.number}.json"


def work(order: Order) -> None:
    """The life of a worker process. It stops on SIGTERM, at the launch's stop file, and with its launcher."""
    stopping = threading.Event()
    # Ctrl-C reaches the whole process group: it is the launcher's to handle
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    if order.cuda is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = order.cuda
    threading.Thread(target=_watch, args=(order, stopping), daemon=True).start()

    def note(run_id: str | None, ended: bool = False) -> None:
        write_json(order.note, {"pid": os.getpid(), "run_id": run_id, "ended": ended})

    note(None)
    from bench.spec import parse_spec
    from bench.store import Store

    specs = [parse_spec(config) for config in order.configs]
    walk(
        Store(order.results), specs, order.execution, stopping.is_set, note,
        left_alone=lambda run_id: order.given_up(run_id).exists(),
    )  # fmt: skip
    note(None, ended=True)


def walk(
    store: Store,
    specs: Sequence[RunSpec],
    execution: Execution,
    stop: Callable[[], bool],
    at: Callable[[str | None], None] = lambda run_id: None,
    left_alone: Callable[[str], bool] = lambda run_id: False,
) -> None:
    """Compute every run of ``specs`` that is not settled and that nobody else has.

    ``at`` is told the run before it starts, and None when it is over. ``left_alone`` says which
    are not to be begun. A folder that can't be trusted is set aside first.
    """
    from bench.run import execute

    for spec in specs:
        if stop():
            return
        run = store.run(spec.run_id)
        if run.is_settled() or left_alone(spec.run_id) or (claim := _take(store, run)) is None:
            continue
        with claims.held(claim):
            if not run.is_settled():  # it may have been done between the first look and the claim
                at(spec.run_id)
                execute(spec, store, execution, stop)
        at(None)


def _take(store: Store, run: RunFolder) -> claims.Claim | None:
    claim = claims.acquire(run)
    if claim is not None and (fault := store.check(run.run_id)) is not None:
        store.set_aside(run.run_id, fault)  # and the claim with it
        claim = claims.acquire(run)
    return claim


def _watch(order: Order, stopping: threading.Event) -> None:
    stop_file = Path(order.folder) / STOP
    while not stopping.wait(_WATCH_SECONDS):
        if stop_file.exists() or (order.launcher is not None and order.launcher.lives() is False):
            stopping.set()
