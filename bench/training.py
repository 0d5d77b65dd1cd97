"""The one training loop: stages, steps, schedules, checkpoints at epoch ends, resumption.

Everything that decides the next step is in ``state``: a run that is stopped after any
epoch and resumed gives, on the CPU, the bits of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import nn

from bench import checkpoint
from bench.budget import planned_stages
from bench.evaluation import Diverged, quick_scores
from bench.problem import Problem
from bench.spec import Training
from bench.store import RunFolder
from methods import execution, passes
from methods.base import Context, Progress, Stage
from methods.streams import Streams

CHECKPOINT = "checkpoint.pt"
TABLES = ("history", "layers", "criteria_pairs")
STATUS_SECONDS = 0.5
#: Steps of a process on a run that are not timed: allocations, caches, choices of kernels.
WARM_UP_STEPS = 10


class Stopped(Exception):
    """The run was asked to stop; it continues from its last checkpoint another time."""


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


class Trainer:
    """Trains one run in its folder.

    stage_done: called with the module and the stage after each stage, returns what it found as
    plain data (kept in checkpoints, so that a finished stage is evaluated once). stop: asked once
    a minibatch. report: told where training stands. started: ``time.perf_counter()`` at the run's start.
    """

    def __init__(
        self,
        problem: Problem,
        folder: RunFolder,
        *,
        stage_done: Callable[[nn.Module, Stage], dict[str, Any]],
        stop: Callable[[], bool],
        checkpoint_seconds: float,
        report: Callable[[dict[str, Any]], None],
        started: float,
    ) -> None:
        self.problem, self.folder = problem, folder
        self.stage_done, self.stop, self.report = stage_done, stop, report
        self.checkpoint_seconds = checkpoint_seconds
        self.recipe: Training = problem.spec.training
        self.stages = planned_stages(problem.method, problem.budget)
        self.streams = Streams(problem.spec.seed, problem.device)
        self.counters = Counters()
        self.results: list[dict[str, Any]] = []
        self.memory: dict[str, Any] = {}
        self.rewind_points: dict[str, dict[str, torch.Tensor]] = {}
        self.stage_index, self.epoch, self.step = 0, 0, 0
        self.rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
        self.module: nn.Module
        self.optimiser: torch.optim.Optimizer
        self._started, self._wall_before = started, 0.0
        self._saved_at = time.monotonic()
        self._reported_at = 0.0
        self._score: dict[str, float] = {}
        self._steps_here = 0

    @property
    def wall_seconds(self) -> float:
        """Seconds spent on this run, earlier slices included as far as their last checkpoint."""
        return self._wall_before + time.perf_counter() - self._started

    def run(self) -> nn.Module:
        """Train all stages, from the last checkpoint where there is one; returns the trained module.

        Raises ``Stopped`` when asked to stop and ``Diverged`` on a loss that is not finite.
        """
        devices = [self.problem.device] if self.problem.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            self.streams.take_global()
            return self._run()

    def _run(self) -> nn.Module:
        self._begin()
        while True:
            stage = self.stages[self.stage_index]
            if self.epoch == 0:
                self._enter(stage)
            while self.step < self.problem.steps(stage.epochs):
                self._epoch(stage)
            if len(self.results) == self.stage_index:
                self._leave(stage)
            if stage is self.stages[-1]:
                return self.module
            self.stage_index, self.epoch, self.step = self.stage_index + 1, 0, 0
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
        started = self._clock()
        self.epoch += 1
        factor = schedule_factor(self.recipe, self.epoch, stage.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.module.train()
        context = self._context(stage)
        total = torch.zeros((), dtype=torch.float64, device=self.problem.device)
        images, timed_from, timed_steps = self.counters.images, started, 0
        left = self.problem.steps(stage.epochs) - self.step
        for batch in islice(self.problem.training_batches(self.streams), left):
            if self.stop():
                raise Stopped
            if self._steps_here == WARM_UP_STEPS:
                timed_from = self._clock()
            timed_steps += self._steps_here >= WARM_UP_STEPS
            self._steps_here += 1
            self.step += 1
            context.begin_step(batch, self.step)
            try:
                loss = self._step(context)
            except (RuntimeError, ValueError):  # what stumbles over NaN is no error of the code
                self._require_finite(stage)
                raise
            total += loss * len(batch[1])
            # elsewhere a look at the loss would have the device wait for the host in each step
            if loss.is_cpu and not math.isfinite(loss):
                raise Diverged(f"loss is {float(loss)} at step {self.step} of stage {stage.name!r}")
        self._require_finite(stage)
        mean = float(total) / (self.counters.images - images)
        if not math.isfinite(mean):
            raise Diverged(f"loss is {mean} in epoch {self.epoch} of stage {stage.name!r}")
        now = self._clock()
        if timed_steps:
            self.counters.timed_steps += timed_steps
            self.counters.timed_seconds += now - timed_from
        self.counters.train_seconds += now - started
        self.counters.epochs += 1
        self._end_epoch(stage, mean, now - started)

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
                self.rows["history"].append({**here, "split": split, "metric": metric, "value": value})
        for table, rows in self.rows.items():
            if rows:
                self.folder.append_rows(table, rows)
                rows.clear()
        if self.stage_index == 0:
            self._keep_rewind_point()
        self.counters.evaluation_seconds += time.perf_counter() - started
        if time.monotonic() - self._saved_at >= self.checkpoint_seconds:
            self._save()
        if time.monotonic() - self._reported_at >= STATUS_SECONDS:
            self.report(self.position(stage))
            self._reported_at = time.monotonic()

    def position(self, stage: Stage) -> dict[str, Any]:
        """Where the run stands, for its status."""
        return {
            "stage": stage.name,
            "stage_index": self.stage_index,
            "stages": len(self.stages),
            "epoch": self.epoch,
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
            record=lambda table, row: self.rows[table].append(row),
            arithmetic=self.problem.autocast,
            watch=self.recipe.max_steps is None,
        )

    # -- checkpoints ---------------------------------------------------------------------

    def _save(self) -> None:
        between_stages = self.epoch == 0
        state = {
            "device": self.problem.device.type,
            "by_kernels": execution.by_kernels(self.module),
            "stage_index": self.stage_index,
            "epoch": self.epoch,
            "step": self.step,
            "module": self.module.state_dict(),
            "optimiser": None if between_stages else self.optimiser.state_dict(),
            "streams": self.streams.state_dict(),
            "memory": self.memory,
            "rewind_points": self.rewind_points,
            "counters": vars(self.counters),
            "wall_seconds": self.wall_seconds,
            "results": self.results,
            "rows": {table: self.folder.count_rows(table) for table in TABLES},
        }
        checkpoint.save(self.folder.path / CHECKPOINT, state)
        self._saved_at = time.monotonic()

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
        for table in TABLES:
            self.folder.truncate_rows(table, state["rows"][table] if state else 0)
        if state is not None:
            self._continue(state)

    def _continue(self, state: dict[str, Any]) -> None:
        self.stage_index, self.epoch, self.step = state["stage_index"], state["epoch"], state["step"]
        if state["optimiser"] is not None:
            self.optimiser = make_optimiser(self.problem, self.module)
            self.optimiser.load_state_dict(state["optimiser"])
        self.streams.load_state_dict(state["streams"])
        self.memory, self.rewind_points = state["memory"], state["rewind_points"]
        self.counters = Counters(**state["counters"])
        self._wall_before = state["wall_seconds"]
        self.results = state["results"]

    def _stored_state(self) -> dict[str, Any] | None:
        """The last checkpoint; None where there is none, where a power cut damaged it or its rows, and where
        it is of another kind of device, whose random numbers can't be continued here.
        """
        path = self.folder.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            state = checkpoint.load(path, str(self.problem.device))
        except checkpoint.UNREADABLE as error:
            with (self.folder.path / "run.log").open("a") as log:
                line = f"{CHECKPOINT} cannot be read, the run starts anew: {checkpoint.why(error)}\n"
                log.write(f"\n{line}" if log.tell() else line)
            return None
        if state.get("device", self.problem.device.type) != self.problem.device.type:
            return None
        lost = any(self.folder.count_rows(table) < state["rows"][table] for table in TABLES)
        return None if lost else state


def make_optimiser(problem: Problem, module: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser: scales in a group of their own, with their learning rate and no decay."""
    recipe = problem.spec.training
    scales = problem.method.scale_parameters(module)
    known = {id(p) for p in scales}
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in module.parameters() if id(p) not in known],
            "lr": recipe.lr,
            "weight_decay": recipe.weight_decay,
        }
    ]
    if scales:
        lr = recipe.lr if recipe.lr_scale is None else recipe.lr_scale
        groups.append({"params": scales, "lr": lr, "weight_decay": 0.0})
    for group in groups:
        group["initial_lr"] = group["lr"]
    # fused: one call for all parameters, which for small layers takes a fraction of the time
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, fused=True)
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=recipe.momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser](groups, fused=True)


def schedule_factor(recipe: Training, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in ``epoch`` of 1..``epochs``; a cosine nears 0 in the last."""
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
