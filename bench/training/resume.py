"""How a stopped run goes on: where a training stands, what a checkpoint holds of it, and how to go on.

Everything that decides the next step is in a checkpoint: a run that is stopped after any step and
resumed gives, on the CPU, the bits of one that was not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.experiment.problem import Problem
from bench.training.optimisers import make_optimiser
from bench.training.recorder import Recorder
from methods.core.streams import Streams
from methods.layers import execution

#: Version of the checkpoint format; checkpoints of another version are ignored.
FORMAT = 2


@dataclass
class Counters:
    """What has been spent so far, over all stages and resumptions. Repeated epochs count once.

    timed_seconds are those of timed_steps: all but the first of each process.
    """

    flops: float = 0.0
    epochs: int = 0
    steps: int = 0
    images: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    timed_steps: int = 0
    timed_seconds: float = 0.0
    events: dict[str, int] = field(default_factory=dict)


@dataclass
class Epoch:
    """An epoch that has begun: the minibatches that are done, and what they came to.

    streams: states from which its order and augmentation are drawn. total: of the loss, over ``images``
    examples, float64. seconds: of training.
    """

    streams: dict[str, torch.Tensor]
    total: torch.Tensor
    minibatches: int = 0
    images: int = 0
    seconds: float = 0.0


@dataclass
class State:
    """Where a training stands: everything that decides its next step, and what it has found so far.

    entered: whether the stage has begun; until then there is no optimiser.
    results: what each finished stage scored. wall_seconds: spent up to the checkpoint gone on from.
    """

    module: nn.Module
    streams: Streams
    optimiser: torch.optim.Optimizer = field(init=False)
    stage_index: int = 0
    epoch: int = 0
    step: int = 0
    entered: bool = False
    open_epoch: Epoch | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    rewind_points: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    results: list[dict[str, Any]] = field(default_factory=list)
    wall_seconds: float = 0.0

    def to_checkpoint(self, wall_seconds: float, recorder: Recorder) -> dict[str, Any]:
        """What a checkpoint holds: tensors, numbers and strings, nested."""
        return {
            "format": FORMAT,
            "device": self.streams.device.type,
            "by_kernels": execution.by_kernels(self.module),
            "stage_index": self.stage_index,
            "epoch": self.epoch,
            "step": self.step,
            "open_epoch": None if self.open_epoch is None else vars(self.open_epoch),
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict() if self.entered else None,
            "streams": self.streams.state_dict(),
            "memory": self.memory,
            "rewind_points": self.rewind_points,
            "counters": vars(self.counters),
            "wall_seconds": wall_seconds,
            "results": self.results,
            "tables": recorder.state_dict(),
        }


def begin(problem: Problem, checkpoints: Iterable[dict[str, Any]], recorder: Recorder) -> State:
    """Build the module, and go on from the first of ``checkpoints`` that can be continued here, if any.

    The recorder goes on with the rows of that checkpoint, or starts without rows.
    """
    state = _at_first(problem)
    stored = next((found for found in checkpoints if _can_be_continued(found, problem)), None)
    if stored is not None:
        state.module.load_state_dict(stored["module"])
        problem.choose_execution(state.module)  # what was pruned when it was stored was built dense
        if stored["by_kernels"] != execution.by_kernels(state.module):
            # its random numbers can't be continued in another way of computing: all anew
            stored, state = None, _at_first(problem)
    recorder.start(stored["tables"] if stored else None)
    if stored is not None:
        _restore(state, stored, problem)
    return state


def _at_first(problem: Problem) -> State:
    streams = Streams(problem.spec.seed, problem.device)
    streams.take_global()
    return State(problem.build(streams), streams)


def _can_be_continued(stored: dict[str, Any], problem: Problem) -> bool:
    """Whether it has today's format and is of this kind of device, whose random numbers it continues."""
    return stored.get("format") == FORMAT and stored["device"] == problem.device.type


def _restore(state: State, stored: dict[str, Any], problem: Problem) -> None:
    """Put ``state``, whose module is loaded already, where ``stored`` stands."""
    state.stage_index, state.epoch, state.step = stored["stage_index"], stored["epoch"], stored["step"]
    if stored["open_epoch"] is not None:
        state.open_epoch = Epoch(**stored["open_epoch"])
    if stored["optimiser"] is not None:
        state.entered = True
        state.optimiser = make_optimiser(problem, state.module)
        state.optimiser.load_state_dict(stored["optimiser"])
    state.streams.load_state_dict(stored["streams"])
    state.memory, state.rewind_points = stored["memory"], stored["rewind_points"]
    state.counters = Counters(**stored["counters"])
    state.results, state.wall_seconds = stored["results"], stored["wall_seconds"]
