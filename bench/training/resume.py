"""Resume a stopped run: the state of a training, its form in a checkpoint, and how it is restored.

A checkpoint holds everything that decides the next step. On the CPU, a run that is stopped after any step and
resumed has the same bits as one that was not stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.experiment.budget import planned_stages
from bench.experiment.problem import Problem, salt_of
from bench.networks import fingerprint
from bench.training import safe_load
from bench.training.optimisers import make_optimiser
from bench.training.recorder import Recorder
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.layers import execution

#: Version of the checkpoint format; checkpoints of another version are ignored.
FORMAT = 2


@dataclass
class Counters:
    """What a run has spent so far, over all stages and resumptions; repeated epochs count once.

    Parameters
    ----------
    flops
        Training FLOPs.
    epochs, steps, images
        Numbers of epochs, optimiser steps and training examples.
    train_seconds, evaluation_seconds
        Durations of training and evaluation.
    timed_steps, timed_seconds
        Steps without the first ones of each process, and their duration.
    events
        Event of the method to the number of times it happened.
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
    """An epoch that has begun.

    Parameters
    ----------
    streams
        Stream to its state at the start of the epoch, from which order and augmentation are drawn.
    total
        Sum of the loss over ``images`` examples, float64.
    minibatches, images
        Numbers of minibatches and examples done.
    seconds
        Duration of their training.
    """

    streams: dict[str, torch.Tensor]
    total: torch.Tensor
    minibatches: int = 0
    images: int = 0
    seconds: float = 0.0


@dataclass
class State:
    """The state of a training: everything that decides its next step, and its results so far.

    Parameters
    ----------
    module
        The module in training.
    streams
        Random streams of the run.
    network
        Fingerprint of the network from which the module was built.
    stage_index, epoch, step
        The current stage from 0 on, and the epoch and step in it from 1 on; 0 before the first.
    entered
        Whether the stage has begun; ``optimiser`` exists only from then on.
    open_epoch
        The epoch that has begun and is not complete, if there is one.
    memory
        What the method keeps between steps.
    rewind_points
        Epoch to the weights to which a later stage rewinds.
    counters
        What has been spent.
    results
        Scores of each finished stage.
    wall_seconds
        Time spent up to the checkpoint from which this process continues.
    """

    module: nn.Module
    streams: Streams
    network: dict[str, list[Any]] = field(default_factory=dict)
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
        """Return the content of a checkpoint: tensors, numbers and strings in nested containers."""
        return {
            "format": FORMAT,
            "device": self.streams.device.type,
            "by_kernels": execution.by_kernels(self.module),
            "stage_index": self.stage_index,
            "epoch": self.epoch,
            "step": self.step,
            "open_epoch": None if self.open_epoch is None else vars(self.open_epoch),
            "module": self.module.state_dict(),
            "network": self.network,
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
    """Build the module, and restore the first checkpoint that can be continued here, if there is one.

    Parameters
    ----------
    problem
        The run's problem.
    checkpoints
        Contents of its checkpoints, the newest first.
    recorder
        Recorder of its tables; it starts with the rows of the checkpoint, or without rows.
    """
    stored = next((found for found in checkpoints if _can_be_continued(found, problem)), None)
    state = _built(problem, _salt(stored, problem))
    _require_storable(problem, state.module)
    if stored is not None:
        _require_same_network(stored, state, problem)
        state.module.load_state_dict(stored["module"])
        problem.choose_execution(state.module)  # the module was built dense, but the stored one may be pruned
        if stored["by_kernels"] != execution.by_kernels(state.module):
            # kernels and dense layers use random numbers differently, so the training starts anew
            stored, state = None, _built(problem, "")
    recorder.start(stored["tables"] if stored else None)
    if stored is not None:
        _restore(state, stored, problem)
    return state


def _require_storable(problem: Problem, module: nn.Module) -> None:
    """Raise ``UserError`` if a part's extra state could not be read from checkpoints or the stored model."""
    for name, part in module.named_modules():
        cls = type(part)
        if cls.get_extra_state is nn.Module.get_extra_state:
            continue
        reason = safe_load.why_not_storable(part.get_extra_state())
        if cls.set_extra_state is nn.Module.set_extra_state:
            reason = "there is no set_extra_state"
        if reason is not None:
            raise UserError(
                f"network {problem.spec.network[0]}: the extra state of {name or 'the network'} "
                f"({cls.__name__}) cannot be stored: {reason}; what can are tensors, numbers, text, bytes, "
                "and lists, tuples, sets and dicts of them"
            )


def _built(problem: Problem, salt: str) -> State:
    streams = Streams(problem.spec.seed, problem.device)
    streams.take_global()
    module, network = problem.build_described(streams, salt)
    return State(module, streams, network)


def _salt(stored: dict[str, Any] | None, problem: Problem) -> str:
    """Return the salt of the network whose module a checkpoint holds; empty if there is no checkpoint."""
    if stored is None:
        return ""
    begun = stored["stage_index"] + (stored["optimiser"] is not None)
    return salt_of(planned_stages(problem.method, problem.budget)[:begun])


def _require_same_network(stored: dict[str, Any], state: State, problem: Problem) -> None:
    """Raise ``UserError`` if the network built now is not the one that the checkpoint was trained with."""
    # checkpoints of earlier versions of this package have no fingerprint
    if (told := fingerprint.difference(stored.get("network") or state.network, state.network)) is not None:
        raise UserError(f"network {problem.spec.network[0]}: {fingerprint.CHANGED}: {told}")


def _can_be_continued(stored: dict[str, Any], problem: Problem) -> bool:
    """Tell whether a checkpoint has the current format and this device type, whose random numbers it uses."""
    return stored.get("format") == FORMAT and stored["device"] == problem.device.type


def _restore(state: State, stored: dict[str, Any], problem: Problem) -> None:
    """Set all of ``state`` but its module, which is loaded already, to the checkpoint ``stored``."""
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
