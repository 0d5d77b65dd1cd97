"""Compute the costs of a run, the document ``costs.json``; ``bench/columns.yaml`` defines every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from bench.data.fingerprint import fingerprint
from bench.experiment.building import DTYPES, initialised
from bench.experiment.cached import once_per
from bench.experiment.problem import Problem
from bench.experiment.spec import RunSpec
from bench.runner.energy import EnergyMeter
from bench.runner.memory import PeakMemory
from bench.training import packed_model
from bench.training.trainer import Trainer
from methods.base import METHODS, Task
from methods.core.streams import Streams
from methods.layers import costs, execution


@dataclass(frozen=True)
class Reference:
    """Costs of a run's network without sparsity.

    They depend on its shape and the precision of training, but not on its weights, so nothing is trained.

    Parameters
    ----------
    deterministic_step, dense_vi_step
        FLOPs of a training step for one example: of the plain network, and of dense VI.
    deterministic_bytes, dense_vi_bytes
        Size of the stored model, likewise.
    inference
        FLOPs of a forward pass for one example.
    """

    deterministic_step: float
    deterministic_bytes: int
    dense_vi_step: float
    dense_vi_bytes: int
    inference: float


def reference(problem: Problem) -> Reference:
    """Return the costs of the run's network without sparsity."""
    return _reference(problem.spec, problem.task)


@once_per("network", "precision")
def _reference(spec: RunSpec, task: Task) -> Reference:
    streams = Streams(0)
    plain = initialised(spec, task, streams).to(DTYPES[spec.precision])
    step, size = costs.flops(plain, "step"), len(packed_model.to_bytes(costs.pack(plain)))
    dense_vi = METHODS.get("dense_vi")()
    dense = dense_vi.build(plain, streams, task)
    costs.trace(dense, task.input_shape)
    return Reference(
        deterministic_step=step,
        deterministic_bytes=size,
        dense_vi_step=dense_vi.flops(dense, "step"),
        dense_vi_bytes=len(packed_model.to_bytes(dense_vi.pack(dense))),
        inference=dense_vi.flops(dense, "inference"),
    )


def account(
    problem: Problem,
    module: nn.Module,
    stored_bytes: int,
    trainer: Trainer,
    memory: PeakMemory,
    energy: EnergyMeter,
) -> dict[str, Any]:
    """Return the costs of a run that has just been trained and stored.

    Parameters
    ----------
    problem
        The run's problem.
    module
        Its trained module.
    stored_bytes
        Size of the stored model.
    trainer
        Its trainer, with counters and times.
    memory, energy
        What was measured since the run began.
    """
    # measured values are read first, so that they do not include the work of computing the reference
    wall, joules, peak, device_peak = trainer.wall_seconds, energy.joules, memory.bytes, memory.device_bytes
    method, spent, dense = problem.method, trainer.state.counters, reference(problem)
    counts, period = method.counts(module), method.update_period()
    inference = method.flops(module, "inference")
    images, factor = problem.nominal_images, problem.budget.epochs / problem.spec.training.epochs
    return {
        "params_total": counts.kernel + counts.other,
        "params_active": counts.active + counts.other,
        "density": counts.density,
        "train_flops": spent.flops,
        "train_flops_rigl_ratio": period and costs.rigl_ratio(inference, dense.inference, period),
        "dense_vi_train_flops": images * dense.dense_vi_step,
        "deterministic_train_flops": images * dense.deterministic_step,
        "inference_flops": inference,
        "dense_inference_flops": dense.inference,
        "checkpoint_bytes": stored_bytes,
        "dense_vi_bytes": dense.dense_vi_bytes,
        "deterministic_bytes": dense.deterministic_bytes,
        "train_seconds": spent.train_seconds,
        "evaluation_seconds": spent.evaluation_seconds,
        "overhead_seconds": wall - spent.train_seconds - spent.evaluation_seconds,
        "wall_seconds": wall,
        "images_per_second": spent.images / spent.train_seconds,
        "seconds_per_step": spent.timed_seconds / spent.timed_steps if spent.timed_steps else None,
        "energy_joules": joules,
        "peak_memory_bytes": peak,
        "peak_device_memory_bytes": device_peak,
        "epochs_factor": factor,
        "epochs_capped": factor == problem.spec.training.budget_cap,
        "epochs_total": spent.epochs,
        "train_examples": len(problem.splits.train),
        "test_examples": len(problem.splits.test),
        "test_set": fingerprint(problem.splits.test),
        "steps_total": spent.steps,
        "events": spent.events,
        "execution": execution.summary(module),
        "layers_run": execution.report(module),
    }
