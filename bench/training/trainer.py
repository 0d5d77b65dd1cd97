"""Train a run: the only training loop, with stages, epochs, steps, schedules and times of checkpoints.

``bench.training.resume`` restores a stopped run from a checkpoint.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.evaluation.evaluate import Diverged, input_scores, quick_scores
from bench.experiment.budget import planned_stages
from bench.experiment.problem import Problem, salt_of
from bench.experiment.settings import Training
from bench.results.run_folder import RunFolder
from bench.training import resume
from bench.training.checkpoints import Checkpoints
from bench.training.loss_watch import LossWatch
from bench.training.optimisers import make_optimiser, schedule_factor
from bench.training.recorder import Recorder
from bench.training.resume import Epoch, State
from methods.base import Batch, Context, Progress, Stage
from methods.core import global_generators, passes
from methods.core.data_loss import Targets, counting
from methods.core.errors import UserError
from methods.core.streams import Streams

#: Least time between two reports of the position of the training.
STATUS_SECONDS = 0.5
#: First steps of a process, which are not timed because they allocate memory, fill caches and choose kernels.
WARM_UP_STEPS = 10


class Stopped(Exception):
    """The run was asked to stop; it can continue from its checkpoint.

    Parameters
    ----------
    reason
        Why it was asked to stop.
    where
        Position of the training, as ``Trainer.position`` returns it.
    """

    def __init__(self, reason: object, where: dict[str, Any]) -> None:
        super().__init__(str(reason))
        self.reason, self.where = reason, where


@dataclass
class Stretch:
    """Training without interruption since ``began``, with ``timed_steps`` steps since ``timed_from``."""

    began: float
    timed_from: float
    timed_steps: int = 0


class Trainer:
    """Trainer of one run in its folder.

    Parameters
    ----------
    problem
        The run's problem.
    folder
        Its folder, for checkpoints, tables and the log.
    stage_done
        Called with the module and the stage after each stage; returns its scores as plain data. Checkpoints
        keep them, so that a finished stage is evaluated only once.
    stop
        Called before each minibatch; a true result stops the run and is the reason.
    checkpoint_seconds
        Time between checkpoints in seconds; see ``Checkpoints``.
    report
        Called with the position of the training, at most every ``STATUS_SECONDS``.
    started
        ``time.perf_counter()`` at the start of the run.
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
        self.state: State  # set by `run`
        self._targets = Targets()
        self._started, self._reported_at = started, 0.0
        self._score: dict[str, float] = {}
        self._steps_here, self._saved_steps = 0, 0

    @property
    def wall_seconds(self) -> float:
        """Seconds spent on this run, earlier processes included up to the checkpoint that was continued."""
        return self.state.wall_seconds + time.perf_counter() - self._started

    def run(self) -> nn.Module:
        """Train all stages, from the last checkpoint if there is one, and return the trained module.

        Raises
        ------
        Stopped
            If the run was asked to stop.
        Diverged
            If the loss or a parameter is not finite.
        WriteError
            If the folder can't be written.
        """
        self._targets = self.problem.targets()
        with global_generators.restored(self.problem.device):
            device, say = str(self.problem.device), self.folder.log
            self.state = resume.begin(self.problem, self.checkpoints.stored(device, say), self.recorder)
            self._saved_steps = self.state.counters.steps
            with counting(self._targets):
                return self._run()

    def _run(self) -> nn.Module:
        state = self.state
        while True:
            stage = self.stages[state.stage_index]
            if not state.entered:
                self._enter(stage)
            while state.open_epoch is not None or state.step < self.problem.steps(stage.epochs):
                self._epoch(stage)
            if len(state.results) == state.stage_index:
                self._leave(stage)
            if stage is self.stages[-1]:
                self.recorder.write()
                return state.module
            state.stage_index, state.epoch, state.step, state.entered = state.stage_index + 1, 0, 0, False
            self._save()

    # -- stages --------------------------------------------------------------------------

    def _enter(self, stage: Stage) -> None:
        state, method = self.state, self.problem.method
        if stage.start == "fresh" and state.stage_index > 0:
            salt = salt_of(self.stages[: state.stage_index + 1])
            state.module, state.network = self.problem.build_described(state.streams, salt)
        elif stage.start == "rewind":
            method.rewind(state.module, state.rewind_points[str(stage.rewind_to)], stage)
            self.problem.choose_execution(state.module)
        later = {str(s.rewind_to) for s in self.stages[state.stage_index + 1 :] if s.start == "rewind"}
        state.rewind_points = {epoch: point for epoch, point in state.rewind_points.items() if epoch in later}
        state.optimiser = make_optimiser(self.problem, state.module)
        self._call(method.enter_stage, stage)
        state.entered = True
        if state.stage_index == 0:
            self._keep_rewind_point()

    def _leave(self, stage: Stage) -> None:
        """Let the method finish a stage, and score the module."""
        self._call(self.problem.method.leave_stage, stage)
        state, started = self.state, time.perf_counter()
        state.results.append(self.stage_done(state.module, stage) | {"stages": [self._stage_row(stage)]})
        state.counters.evaluation_seconds += time.perf_counter() - started

    def _call(self, hook: Callable[[Context, Stage], None], stage: Stage) -> None:
        context = self._context(stage)
        hook(context, stage)
        if context.pruned:
            self.problem.choose_execution(self.state.module)

    def _stage_row(self, stage: Stage) -> dict[str, Any]:
        """Return a row of the table ``stages``: size and costs after all stages so far."""
        counts, spent = self.problem.method.counts(self.state.module), self.state.counters
        return {
            "stage": stage.name,
            "stage_index": self.state.stage_index,
            "density": counts.density,
            "params_active": counts.active + counts.other,
            "epochs_total": spent.epochs,
            "steps_total": spent.steps,
            "train_flops": spent.flops,
        }

    def _keep_rewind_point(self) -> None:
        """Keep a copy of the weights if a later stage rewinds to this epoch of the first stage."""
        if any(s.start == "rewind" and s.rewind_to == self.state.epoch for s in self.stages):
            weights = copy.deepcopy(dict(self.state.module.state_dict()))
            self.state.rewind_points[str(self.state.epoch)] = weights

    # -- steps ---------------------------------------------------------------------------

    def _epoch(self, stage: Stage) -> None:
        """Train an epoch, or the rest of an epoch that has begun."""
        state = self.state
        epoch, batches = self._open_epoch()
        factor = schedule_factor(self.recipe, state.epoch, stage.epochs)
        for group in state.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        state.module.train()
        context, watch = self._context(stage), LossWatch(self.problem.device)
        left = self.problem.steps(stage.epochs) - state.step
        last = min(self.problem.budget.steps_per_epoch, epoch.minibatches + left)
        stretch = self._stretch()
        while epoch.minibatches < last:
            reason = self.stop()
            if state.counters.steps != self._saved_steps and (reason or self.checkpoints.is_due):
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
            state.step += 1
            context.begin_step(batch, state.step)
            try:
                loss = self._step(context)
            except (RuntimeError, ValueError):  # if parameters are not finite, that is the cause to report
                self._require_finite(stage)
                raise
            epoch.total += loss * len(batch[1])
            epoch.images += len(batch[1])
            epoch.minibatches += 1
            if (wrong := watch.not_finite(loss, epoch.total)) is not None:
                when = "at" if loss.is_cpu else "by"  # on a GPU, the loss is checked a few steps later
                raise Diverged(f"loss is {wrong} {when} step {state.step} of stage {stage.name!r}")
        self._require_finite(stage)
        mean = float(epoch.total) / epoch.images
        if not math.isfinite(mean):
            raise Diverged(f"loss is {mean} in epoch {state.epoch} of stage {stage.name!r}")
        self._end_stretch(epoch, stretch)
        state.counters.epochs += 1
        state.open_epoch = None
        self._end_epoch(stage, mean, epoch.seconds)

    def _open_epoch(self) -> tuple[Epoch, Iterator[Batch]]:
        """Return the epoch that has begun, or the next one, and its remaining minibatches."""
        state = self.state
        if (epoch := state.open_epoch) is None:
            state.epoch += 1
            streams = {name: state.streams[name].get_state() for name in ("order", "augmentation")}
            total = torch.zeros((), dtype=torch.float64, device=self.problem.device)
            epoch = state.open_epoch = Epoch(streams, total)
        if epoch.minibatches == 0:
            return epoch, self.problem.training_batches(state.streams)
        # finished minibatches are drawn again, because later draws depend on them; then streams are restored
        now = state.streams.state_dict()
        state.streams.load_state_dict(epoch.streams)
        batches = self.problem.training_batches(state.streams)
        for _ in range(epoch.minibatches):
            next(batches)
        state.streams.load_state_dict(now)
        return epoch, batches

    def _stretch(self) -> Stretch:
        now = self._clock()
        return Stretch(now, now)

    def _end_stretch(self, epoch: Epoch, stretch: Stretch) -> None:
        """Add the time of a stretch of training, which ends now, to the counters and the epoch."""
        now = self._clock()
        if stretch.timed_steps:
            self.state.counters.timed_steps += stretch.timed_steps
            self.state.counters.timed_seconds += now - stretch.timed_from
        self.state.counters.train_seconds += now - stretch.began
        epoch.seconds += now - stretch.began

    def _clock(self) -> float:
        """Wait until the device is idle, and return the time in seconds."""
        if self.problem.device.type == "cuda":
            torch.cuda.synchronize(self.problem.device)
        return time.perf_counter()

    def _step(self, context: Context) -> torch.Tensor:
        state, method = self.state, self.problem.method
        method.before_step(context)
        if context.pruned:
            self.problem.choose_execution(state.module)
        with context.arithmetic(), passes.dense_gradients(context.gradient_consumer) as gradients:
            loss = method.loss(state.module, context.batch, context.progress)
        if not (self._targets.used or self._targets.plain):
            raise UserError(
                f"method {method.name} has a loss of its own, to which class_weights and label_smoothing do "
                "not apply; leave them out"
            )
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if gradients is not None:
            gradients.finish()
        if not context.skip_step:
            if self.recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(state.module.parameters(), self.recipe.clip_norm)
            state.optimiser.step()
        events = ["step", *context.events]
        examples = len(context.batch[1])
        state.counters.flops += examples * sum(method.flops(state.module, event) for event in events)
        for event in events:
            state.counters.events[event] = state.counters.events.get(event, 0) + 1
        state.counters.steps += 1
        state.counters.images += examples
        method.after_step(context)
        if context.pruned:
            self.problem.choose_execution(state.module)
        return loss.detach()

    def _require_finite(self, stage: Stage) -> None:
        if not torch.stack(
            [parameter.isfinite().all() for parameter in self.state.module.parameters()]
        ).all():
            raise Diverged(f"parameters are not finite after step {self.state.step} of stage {stage.name!r}")

    def _end_epoch(self, stage: Stage, loss: float, seconds: float) -> None:
        started = time.perf_counter()
        state, method = self.state, self.problem.method
        val = self.problem.splits.val
        self._score = quick_scores(self.problem, state.module, val) if val is not None else {}
        train = {"loss": loss, "lr": state.optimiser.param_groups[0]["lr"], "seconds": seconds}
        train |= method.monitor(state.module, self._context(stage).progress)
        train |= input_scores(self.problem, state.module)
        here = {"stage": stage.name, "epoch": state.epoch, "step": state.step}
        for split, values in (("train", train), ("val", self._score)):
            for metric, value in values.items():
                self.recorder.add("history", {**here, "split": split, "metric": metric, "value": value})
        self.recorder.offer()
        if state.stage_index == 0:
            self._keep_rewind_point()
        state.counters.evaluation_seconds += time.perf_counter() - started
        if self.checkpoints.is_due:
            self._save()
        if time.monotonic() - self._reported_at >= STATUS_SECONDS:
            self.report(self.position(stage))
            self._reported_at = time.monotonic()

    def position(self, stage: Stage) -> dict[str, Any]:
        """Return the position of the training for the run's status; ``epoch`` counts complete epochs."""
        state = self.state
        return {
            "stage": stage.name,
            "stage_index": state.stage_index,
            "stages": len(self.stages),
            "epoch": state.epoch - (state.open_epoch is not None),
            "epochs": stage.epochs,
            "step": state.step,
            "steps": self.problem.steps(stage.epochs),
            **({"val_accuracy": self._score["accuracy"]} if self._score else {}),
        }

    def _context(self, stage: Stage) -> Context:
        state = self.state
        progress = Progress(
            stage=stage.name,
            epoch=max(state.epoch, 1),
            epochs=stage.epochs,
            step=state.step,
            steps=stage.epochs * self.problem.budget.steps_per_epoch,
            examples=self.problem.task.examples,
            noise=state.streams["noise"],
        )
        return Context(
            module=state.module,
            optimiser=state.optimiser,
            streams=state.streams,
            task=self.problem.task,
            progress=progress,
            memory=state.memory,
            record=self.recorder.add,
            arithmetic=self.problem.autocast,
            watch=self.recipe.max_steps is None,
            network=self._network,
        )

    def _network(self) -> nn.Module:
        """Build the plain network of the module in training again, with its initial weights."""
        seed, salt = self.problem.spec.seed, salt_of(self.stages[: self.state.stage_index + 1])
        return self.problem.network(Streams(seed), salt)

    def _save(self) -> None:
        checkpoint = self.state.to_checkpoint(self.wall_seconds, self.recorder)
        self.recorder.write()
        self.folder.made()
        self.checkpoints.save(checkpoint)
        self._saved_steps = self.state.counters.steps
