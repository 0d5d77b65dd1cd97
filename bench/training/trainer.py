"""The one training loop: stages, steps, schedules, checkpoints, resumption.

Everything that decides the next step is in a checkpoint: a run that is stopped after any
step and resumed gives, on the CPU, the bits of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from bench.evaluation.evaluate import Diverged, quick_scores
from bench.experiment.budget import planned_stages
from bench.experiment.problem import Problem
from bench.experiment.settings import Training
from bench.results.run_folder import RunFolder
from bench.training.checkpoints import Checkpoints
from bench.training.loss_watch import LossWatch
from bench.training.optimisers import make_optimiser, schedule_factor
from bench.training.recorder import Recorder
from methods.base import Batch, Context, Progress, Stage
from methods.core import passes
from methods.core.streams import Streams
from methods.layers import execution

#: Of what a checkpoint holds; one of another format is none.
FORMAT = 2
STATUS_SECONDS = 0.5
#: Steps of a process on a run that are not timed: allocations, caches, choices of kernels.
WARM_UP_STEPS = 10


class Stopped(Exception):
    """The run was asked to stop, and continues from its checkpoint another time.

    reason: what it was asked with. where: where it stands, for its status.
    """

    def __init__(self, reason: object, where: dict[str, Any]) -> None:
        super().__init__(str(reason))
        self.reason, self.where = reason, where


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
class Stretch:
    """Training that nothing interrupts, from ``began`` on; ``timed_steps`` are those since ``timed_from``."""

    began: float
    timed_from: float
    timed_steps: int = 0


class Trainer:
    """Trains one run in its folder.

    stage_done: called with the module and the stage after each stage, returns what it found as
    plain data (kept in checkpoints, so that a finished stage is evaluated once). stop: asked before
    each minibatch; what is true stops the run, and is the reason. report: told where training stands.
    started: ``time.perf_counter()`` at the run's start.
    """

    def __init__(
        self,
        problem: Problem,
        folder: RunFolder,
        *,
        stage_done: Callable[[nn.Module, Stage], dict[str, Any]],
        stop: Callable[[], object],
        checkpoint_seconds: float,
        report: Callable[[dict[str, Any]], None],
        started: float,
    ) -> None:
        self.problem, self.folder = problem, folder
        self.stage_done, self.stop, self.report = stage_done, stop, report
        self.checkpoints = Checkpoints(folder.path, checkpoint_seconds)
        self.recorder = Recorder(folder)
        self.recipe: Training = problem.spec.training
        self.stages = planned_stages(problem.method, problem.budget)
        self.streams = Streams(problem.spec.seed, problem.device)
        self.counters = Counters()
        self.results: list[dict[str, Any]] = []
        self.memory: dict[str, Any] = {}
        self.rewind_points: dict[str, dict[str, torch.Tensor]] = {}
        self.stage_index, self.epoch, self.step = 0, 0, 0
        self.entered = False
        self.open_epoch: Epoch | None = None
        self.module: nn.Module
        self.optimiser: torch.optim.Optimizer
        self._started, self._wall_before = started, 0.0
        self._reported_at = 0.0
        self._score: dict[str, float] = {}
        self._steps_here, self._saved_steps = 0, 0

    @property
    def wall_seconds(self) -> float:
        """Seconds spent on this run, earlier slices included as far as their last checkpoint."""
        return self._wall_before + time.perf_counter() - self._started

    def run(self) -> nn.Module:
        """Train all stages, from the last checkpoint where there is one; returns the trained module.

        Raises ``Stopped`` when asked to stop, ``Diverged`` on a loss that is not finite, and ``WriteError``
        where the folder can't be written.
        """
        devices = [self.problem.device] if self.problem.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            self.streams.take_global()
            return self._run()

    def _run(self) -> nn.Module:
        self._begin()
        while True:
            stage = self.stages[self.stage_index]
            if not self.entered:
                self._enter(stage)
            while self.open_epoch is not None or self.step < self.problem.steps(stage.epochs):
                self._epoch(stage)
            if len(self.results) == self.stage_index:
                self._leave(stage)
            if stage is self.stages[-1]:
                self.recorder.write()
                return self.module
            self.stage_index, self.epoch, self.step, self.entered = self.stage_index + 1, 0, 0, False
            self._save()

    # -- stages --------------------------------------------------------------------------

    def _enter(self, stage: Stage) -> None:
        if stage.start == "fresh" and self.stage_index > 0:
            self.module = self.problem.build(self.streams, salt=f"/{stage.name}")
        elif stage.start == "rewind":
            self.problem.method.rewind(self.module, self.rewind_points[str(stage.rewind_to)], stage)
            self.problem.choose_execution(self.module)
        later = {str(s.rewind_to) for s in self.stages[self.stage_index + 1 :] if s.start == "rewind"}
        self.rewind_points = {epoch: point for epoch, point in self.rewind_points.items() if epoch in later}
        self.optimiser = make_optimiser(self.problem, self.module)
        self._call(self.problem.method.enter_stage, stage)
        self.entered = True
        if self.stage_index == 0:
            self._keep_rewind_point()

    def _leave(self, stage: Stage) -> None:
        """Have the method finish a stage, and score what it left."""
        self._call(self.problem.method.leave_stage, stage)
        started = time.perf_counter()
        self.results.append(self.stage_done(self.module, stage) | {"stages": [self._stage_row(stage)]})
        self.counters.evaluation_seconds += time.perf_counter() - started

    def _call(self, hook: Callable[[Context, Stage], None], stage: Stage) -> None:
        context = self._context(stage)
        hook(context, stage)
        if context.pruned:
            self.problem.choose_execution(self.module)

    def _stage_row(self, stage: Stage) -> dict[str, Any]:
        """What all stages so far have come to, for the table ``stages``."""
        counts, spent = self.problem.method.counts(self.module), self.counters
        return {
            "stage": stage.name,
            "stage_index": self.stage_index,
            "density": counts.density,
            "params_active": counts.active + counts.other,
            "epochs_total": spent.epochs,
            "steps_total": spent.steps,
            "train_flops": spent.flops,
        }

    def _keep_rewind_point(self) -> None:
        """Remember the weights if a later stage rewinds to this epoch of the first stage."""
        if any(s.start == "rewind" and s.rewind_to == self.epoch for s in self.stages):
            state = {name: value.clone() for name, value in self.module.state_dict().items()}
            self.rewind_points[str(self.epoch)] = state

    # -- steps ---------------------------------------------------------------------------

    def _epoch(self, stage: Stage) -> None:
        """Train an epoch, or the rest of one that has begun."""
        epoch, batches = self._open_epoch()
        factor = schedule_factor(self.recipe, self.epoch, stage.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.module.train()
        context, watch = self._context(stage), LossWatch(self.problem.device)
        left = self.problem.steps(stage.epochs) - self.step
        last = min(self.problem.budget.steps_per_epoch, epoch.minibatches + left)
        stretch = self._stretch()
        while epoch.minibatches < last:
            reason = self.stop()
            if self.counters.steps != self._saved_steps and (reason or self.checkpoints.is_due):
                self._end_stretch(epoch, stretch)
                self._save()
                stretch = self._stretch()
            if reason:
                raise Stopped(reason, self.position(stage))
            batch = next(batches)
            if self._steps_here == WARM_UP_STEPS:
                stretch.timed_from = self._clock()
            stretch.timed_steps += self._steps_here >= WARM_UP_STEPS
            self._steps_here += 1
            self.step += 1
            context.begin_step(batch, self.step)
            try:
                loss = self._step(context)
            except (RuntimeError, ValueError):  # what stumbles over NaN is no error of the code
                self._require_finite(stage)
                raise
            epoch.total += loss * len(batch[1])
            epoch.images += len(batch[1])
            epoch.minibatches += 1
            if (wrong := watch.not_finite(loss, epoch.total)) is not None:
                when = "at" if loss.is_cpu else "by"  # it is told of a little later elsewhere
                raise Diverged(f"loss is {wrong} {when} step {self.step} of stage {stage.name!r}")
        self._require_finite(stage)
        mean = float(epoch.total) / epoch.images
        if not math.isfinite(mean):
            raise Diverged(f"loss is {mean} in epoch {self.epoch} of stage {stage.name!r}")
        self._end_stretch(epoch, stretch)
        self.counters.epochs += 1
        self.open_epoch = None
        self._end_epoch(stage, mean, epoch.seconds)

    def _open_epoch(self) -> tuple[Epoch, Iterator[Batch]]:
        """The epoch that has begun, or the next one, and its minibatches that are left."""
        if (epoch := self.open_epoch) is None:
            self.epoch += 1
            streams = {name: self.streams[name].get_state() for name in ("order", "augmentation")}
            total = torch.zeros((), dtype=torch.float64, device=self.problem.device)
            epoch = self.open_epoch = Epoch(streams, total)
        if epoch.minibatches == 0:
            return epoch, self.problem.training_batches(self.streams)
        # those that were done are drawn again, as the others depend on them; the streams stay where they are
        now = self.streams.state_dict()
        self.streams.load_state_dict(epoch.streams)
        batches = self.problem.training_batches(self.streams)
        for _ in range(epoch.minibatches):
            next(batches)
        self.streams.load_state_dict(now)
        return epoch, batches

    def _stretch(self) -> Stretch:
        now = self._clock()
        return Stretch(now, now)

    def _end_stretch(self, epoch: Epoch, stretch: Stretch) -> None:
        """Count the time of training up to now."""
        now = self._clock()
        if stretch.timed_steps:
            self.counters.timed_steps += stretch.timed_steps
            self.counters.timed_seconds += now - stretch.timed_from
        self.counters.train_seconds += now - stretch.began
        epoch.seconds += now - stretch.began

    def _clock(self) -> float:
        """Seconds, when all that the device was given is done."""
        if self.problem.device.type == "cuda":
            torch.cuda.synchronize(self.problem.device)
        return time.perf_counter()

    def _step(self, context: Context) -> torch.Tensor:
        method = self.problem.method
        method.before_step(context)
        with context.arithmetic(), passes.dense_gradients(context.gradient_consumer) as gradients:
            loss = method.loss(self.module, context.batch, context.progress)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if gradients is not None:
            gradients.finish()
        if not context.skip_step:
            if self.recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
            self.optimiser.step()
        events = ["step", *context.events]
        examples = len(context.batch[1])
        self.counters.flops += examples * sum(method.flops(self.module, event) for event in events)
        for event in events:
            self.counters.events[event] = self.counters.events.get(event, 0) + 1
        self.counters.steps += 1
        self.counters.images += examples
        method.after_step(context)
        if context.pruned:
            self.problem.choose_execution(self.module)
        return loss.detach()

    def _require_finite(self, stage: Stage) -> None:
        if not torch.stack([parameter.isfinite().all() for parameter in self.module.parameters()]).all():
            raise Diverged(f"parameters are not finite after step {self.step} of stage {stage.name!r}")

    def _end_epoch(self, stage: Stage, loss: float, seconds: float) -> None:
        started = time.perf_counter()
        method = self.problem.method
        val = self.problem.splits.val
        self._score = quick_scores(self.problem, self.module, val) if val is not None else {}
        train = {"loss": loss, "lr": self.optimiser.param_groups[0]["lr"], "seconds": seconds}
        train |= method.monitor(self.module, self._context(stage).progress)
        here = {"stage": stage.name, "epoch": self.epoch, "step": self.step}
        for split, values in (("train", train), ("val", self._score)):
            for metric, value in values.items():
                self.recorder.add("history", {**here, "split": split, "metric": metric, "value": value})
        self.recorder.offer()
        if self.stage_index == 0:
            self._keep_rewind_point()
        self.counters.evaluation_seconds += time.perf_counter() - started
        if self.checkpoints.is_due:
            self._save()
        if time.monotonic() - self._reported_at >= STATUS_SECONDS:
            self.report(self.position(stage))
            self._reported_at = time.monotonic()

    def position(self, stage: Stage) -> dict[str, Any]:
        """Where the run stands, for its status; ``epoch`` counts those that are complete."""
        return {
            "stage": stage.name,
            "stage_index": self.stage_index,
            "stages": len(self.stages),
            "epoch": self.epoch - (self.open_epoch is not None),
            "epochs": stage.epochs,
            "step": self.step,
            "steps": self.problem.steps(stage.epochs),
            **({"val_accuracy": self._score["accuracy"]} if self._score else {}),
        }

    def _context(self, stage: Stage) -> Context:
        progress = Progress(
            stage=stage.name,
            epoch=max(self.epoch, 1),
            epochs=stage.epochs,
            step=self.step,
            steps=stage.epochs * self.problem.budget.steps_per_epoch,
            examples=self.problem.task.examples,
            noise=self.streams["noise"],
        )
        return Context(
            module=self.module,
            optimiser=self.optimiser,
            streams=self.streams,
            task=self.problem.task,
            progress=progress,
            memory=self.memory,
            record=self.recorder.add,
            arithmetic=self.problem.autocast,
            watch=self.recipe.max_steps is None,
        )

    # -- checkpoints ---------------------------------------------------------------------

    def _save(self) -> None:
        state = {
            "format": FORMAT,
            "device": self.problem.device.type,
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
            "wall_seconds": self.wall_seconds,
            "results": self.results,
            "tables": self.recorder.state_dict(),
        }
        self.recorder.write()
        self.folder.made()
        self.checkpoints.save(state)
        self._saved_steps = self.counters.steps

    def _begin(self) -> None:
        """Build the module, and go on from the last checkpoint where there is one."""
        self.module = self.problem.build(self.streams)
        state = self._stored_state()
        if state is not None:
            self.module.load_state_dict(state["module"])
            self.problem.choose_execution(self.module)  # what was pruned when it was stored was built dense
            if state["by_kernels"] != execution.by_kernels(self.module):
                # its random numbers can't be continued in another way of computing: all anew
                state, self.streams = None, Streams(self.problem.spec.seed, self.problem.device)
                self.streams.take_global()
                self.module = self.problem.build(self.streams)
        self.recorder.start(state["tables"] if state else None)
        if state is not None:
            self._continue(state)

    def _continue(self, state: dict[str, Any]) -> None:
        self.stage_index, self.epoch, self.step = state["stage_index"], state["epoch"], state["step"]
        if state["open_epoch"] is not None:
            self.open_epoch = Epoch(**state["open_epoch"])
        if state["optimiser"] is not None:
            self.entered = True
            self.optimiser = make_optimiser(self.problem, self.module)
            self.optimiser.load_state_dict(state["optimiser"])
        self.streams.load_state_dict(state["streams"])
        self.memory, self.rewind_points = state["memory"], state["rewind_points"]
        self.counters = Counters(**state["counters"])
        self._wall_before, self._saved_steps = state["wall_seconds"], self.counters.steps
        self.results = state["results"]

    def _stored_state(self) -> dict[str, Any] | None:
        """The last sound checkpoint; None where there is none, and where it is of another kind of device,
        whose random numbers can't be continued here.
        """
        for state in self.checkpoints.stored(str(self.problem.device), self.folder.log):
            if state.get("format") == FORMAT and state["device"] == self.problem.device.type:
                return state
        return None
