"""Real worker processes that start in no time: forks of a server that has torch and the toys loaded.

They do what those of ``bench.launching.local_workers`` do, whose every start is that of a new interpreter.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.experiment.execution import Execution
from bench.experiment.spec import parse_spec
from bench.launching.worker import STOP, Order, work
from bench.results.claims import Process
from bench.results.files import StoreError, read_json
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import METHODS, Batch, Method, Progress
from methods.core.options import option
from tests import toys

context = multiprocessing.get_context("forkserver")
# pytest is the main module, which every child loads again
context.set_forkserver_preload(["pytest", "torch._dynamo", "bench.runner.execute", "tests.workers"])


@METHODS.register
class Dying(Method):
    """Ends its process by SIGKILL in the third step, as often as it is told to."""

    @dataclass(frozen=True)
    class DyingOptions:
        deaths: int = option(1, "how often", within="[0, inf)")
        tally: str = option("", "file that counts them, a byte each")

    name = "toy_dying"
    style = toys.STYLE
    Options = DyingOptions

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        if progress.step == 3:
            tally = Path(self.options.tally)
            died = tally.stat().st_size if tally.exists() else 0
            if died < self.options.deaths:
                tally.write_bytes(b"x" * (died + 1))
                os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(module, batch, progress)


def compute(configuration, root, how, hold=None):
    """What a process does that computes a run without asking whether another one does.

    hold: it holds still before or after (``hold[1]``) the file number ``hold[0]`` that it puts in its place.
    """
    replace, count = os.replace, itertools.count(1)

    def counted(source, target):
        number = next(count)
        if hold == (number, "before"):
            os.kill(os.getpid(), signal.SIGSTOP)
        try:
            replace(source, target)
        finally:
            if hold == (number, "after"):
                os.kill(os.getpid(), signal.SIGSTOP)

    os.replace = counted
    execute(parse_spec(configuration), Store(root), how)


class ForkedWorkers:
    """At most ``limit`` of them over ``specs``. task: what they do, with an ``Order``."""

    def __init__(self, results, specs, limit, task=work, launcher=None):
        self.limit, self.task = limit, task
        self.order = Order(
            number=0,
            results=str(results),
            configs=tuple(spec.to_dict() for spec in specs),
            execution=Execution("local", concurrency=limit, checkpoint_seconds=0.0),
            folder=str(results) + ".jobs",
            launcher=launcher or Process.current(),
        )
        Path(self.order.folder).mkdir()
        self.started, self.most_at_once, self.closed = [], 0, False

    def start(self):
        order = Order(**{**vars(self.order), "number": len(self.started) + 1})
        self.started.append(ForkedWorker(order, self.task))
        self.most_at_once = max(self.most_at_once, sum(worker.lives() for worker in self.started))
        return self.started[-1]

    def give_up(self, run_id):
        self.order.given_up(run_id).touch()

    def close(self):
        self.closed = True


class ForkedWorker:
    def __init__(self, order, task):
        self.order = order
        self.process = context.Process(target=task, args=(order,), daemon=True)
        self.process.start()

    def lives(self):
        return self.process.is_alive()

    def run_id(self):
        return self._note().get("run_id")

    def ended(self):
        return bool(self._note().get("ended"))

    def fault(self):
        return self._note().get("fault")

    def last_words(self):
        return "farewell"

    def stop(self):
        Path(self.order.folder, STOP).touch()
        self.process.terminate()

    def kill(self):
        self.process.kill()

    def _note(self):
        with contextlib.suppress(StoreError):
            return read_json(self.order.note)
        return {}
