"""Stop a run between its stages and in the middle of each, and resume it each time."""

from __future__ import annotations

from dataclasses import dataclass

from bench.checking.verdicts import Failed, Skipped, reason
from bench.experiment.execution import Execution
from bench.experiment.problem import Problem
from bench.results.run_folder import RunFolder
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints, safe_load


@dataclass(frozen=True)
class Stop:
    """A place at which a run is stopped.

    Parameters
    ----------
    minibatch
        Minibatch of the whole run, counted from 0, before which it stops.
    stage
        Name of the stage.
    amid
        Whether that is in the middle of the stage; otherwise it is before the first minibatch of the stage.
    """

    minibatch: int
    stage: str
    amid: bool


@dataclass(frozen=True)
class Interrupted:
    """A finished run, and where it was stopped on the way."""

    folder: RunFolder
    stops: list[Stop]

    @property
    def words(self) -> str:
        """The number and places of the stops, in words."""
        amid = [stop.stage for stop in self.stops if stop.amid]
        between = len(self.stops) - len(amid)
        where = [f"in the middle of {_list(amid)}"] if amid else []
        where += [f"between stages {_times(between)}"] if between else []
        return f"stopped {_times(len(self.stops))} ({', '.join(where)}) and resumed"


def interrupt(problem: Problem, store: Store) -> Interrupted:
    """Train ``problem`` in ``store``, with all its interruptions.

    Raises
    ------
    Failed
        If a checkpoint can't be read, or the run does not resume from it.
    Skipped
        If the run has only one step.
    """
    if not (stops := _stops(problem)):
        raise Skipped("its only step has no other before it")
    folder, saved = store.run(problem.spec.run_id), 0
    for stop in stops:
        _go_on(problem, store, saved, stop.minibatch)
        _require_checkpoint(folder, stop.minibatch)
        saved = stop.minibatch
    _go_on(problem, store, saved, None)
    return Interrupted(folder, stops)


def _stops(problem: Problem) -> list[Stop]:
    stops, before, epoch = [], 0, problem.budget.steps_per_epoch
    for stage in problem.method.stages(problem.budget):
        steps = problem.steps(stage.epochs)
        stops.append(Stop(before, stage.name, amid=False))
        amid = steps // 2 + (steps // 2 % epoch == 0)  # not between epochs, if an epoch has several steps
        if amid < steps:
            stops.append(Stop(before + amid, stage.name, amid=True))
        before += steps
    return stops[1:]  # a stop before the first minibatch interrupts nothing


class _Minibatches:
    """Counts minibatches, being called once before each, and stops the run before number ``limit``."""

    def __init__(self, limit: int | None) -> None:
        self.trained, self._limit = 0, limit

    def __call__(self) -> bool:
        if self.trained == self._limit:
            return True
        self.trained += 1
        return False


def _go_on(problem: Problem, store: Store, saved: int, until: int | None) -> None:
    """Resume from the checkpoint of minibatch ``saved``; stop before minibatch ``until``, or at the end."""
    last = sum(problem.steps(stage.epochs) for stage in problem.method.stages(problem.budget))
    asked = _Minibatches(None if until is None else until - saved)
    outcome = execute(problem.spec, store, Execution(checkpoint_seconds=0.0), stop=asked)
    here = f"from minibatch {saved} to {last if until is None else until} of {last}"
    if outcome == "failed":
        raise Failed(f"{here}: {reason(store.run(problem.spec.run_id), type(problem.method))}")
    if outcome != ("done" if until is None else "preempted"):
        raise Failed(f"{here}: the run is {outcome} after {asked.trained} minibatches")
    if until is None and asked.trained != last - saved:
        raise Failed(
            f"{here}: {asked.trained} minibatches were trained: the run did not resume from its checkpoint"
        )


def _require_checkpoint(folder: RunFolder, stop: int) -> None:
    """Raise ``Failed`` unless the checkpoint is that of minibatch ``stop``, where the run was stopped."""
    try:
        saved = checkpoints.load(folder.path / checkpoints.CHECKPOINT)["counters"]["steps"]
    except FileNotFoundError:
        raise Failed(f"stopped before minibatch {stop}: there is no checkpoint") from None
    except safe_load.Damaged as error:
        raise Failed(
            f"the checkpoint can't be read, so that a run would start anew: {error}; "
            "context.memory may hold tensors, numbers and strings, in lists and dicts"
        ) from None
    if saved != stop:
        raise Failed(
            f"stopped before minibatch {stop}, the checkpoint is of minibatch {saved}: "
            "the run did not resume from the earlier checkpoint"
        )


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _list(stages: list[str]) -> str:
    return f"stage {stages[0]!r}" if len(stages) == 1 else f"each of {len(stages)} stages"
