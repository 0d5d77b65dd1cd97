"""Compute one run: train, evaluate, and store its results in its folder.

A run that is done already is only evaluated on the sets beside its test part that it lacks.
"""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.evaluation.evaluate import Diverged, evaluate_stage
from bench.experiment import preflight
from bench.experiment.compilation import limits_restored
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.spec import RunSpec
from bench.results.files import StoreError, WriteError, remove_leftovers, write_bytes
from bench.results.integrity import seal
from bench.results.predictions import PREDICTIONS
from bench.results.run_folder import CANCELLED, RunFolder
from bench.results.store import Store
from bench.results.tables.metrics_reader import LISTS
from bench.runner import beside, energy
from bench.runner.attempt import Over, OwnFolder, Status, Watch
from bench.runner.costs import account
from bench.runner.memory import PeakMemory
from bench.runner.provenance import provenance
from bench.training import checkpoints, packed_model
from bench.training.trainer import Stopped, Trainer
from methods.base import Stage
from methods.core import global_generators, torch_flags
from methods.core.errors import UserError


def execute(
    spec: RunSpec, store: Store, execution: Execution, stop: Callable[[], object] = lambda: False
) -> str:
    """Train and evaluate one run, or continue it from its checkpoint; all results are written to its folder.

    A run that is done is not trained again, but evaluated on the sets that it lacks.

    Parameters
    ----------
    spec
        The run.
    store
        Results folder.
    execution
        How to compute it.
    stop
        Called before each minibatch, in training and in the evaluation on sets beside the test part. If it
        returns something true, the run stops with a checkpoint, for that reason. If it returns ``LOST``, the
        run stops without writing: another process has taken it over.

    Returns
    -------
    str
        ``done``; ``failed``, for a reason that concerns this run only and is in its status; ``preempted``, if
        it was stopped (if that was in the evaluation beside the test part, its status is ``done``); or
        ``cancelled``, if ``bench.cancel`` asked for it.

    Raises
    ------
    KeyboardInterrupt
        After it was recorded as ``preempted``.
    WriteError
        If the folder can't be written. This is not an error of the run: it can be continued later from its
        last checkpoint. If the folder was deleted or moved meanwhile, the error is ``Gone``.
    """
    folder = OwnFolder(store.run(spec.run_id).path)
    limits = limits_restored() if execution.compile else nullcontext()  # loading the compiler takes seconds
    generators = global_generators.restored(execution.device)
    try:
        with torch_flags.arithmetic(spec.precision), generators, limits:
            torch.set_num_threads(execution.threads)
            if not folder.is_done() and (outcome := _attempt(spec, store, execution, stop, folder)) != "done":
                return outcome
            return beside.evaluate(spec, folder, execution, stop)
    except Over as over:  # nothing may be written: another process has the run
        if over.outcome == "done":
            checkpoints.remove(folder.path)
        return over.outcome


def _attempt(
    spec: RunSpec, store: Store, execution: Execution, stop: Callable[[], object], folder: OwnFolder
) -> str:
    status = Status(folder)
    folder.write(
        "spec", {"schema": 1, "run_id": spec.run_id, "config_id": spec.config_id, "config": spec.record()}
    )
    folder.write("provenance", provenance(spec, execution, store))
    remove_leftovers(folder.path)
    try:
        status.set("running")
        _train_and_evaluate(spec, folder, execution, Watch(folder, stop), status)
        checkpoints.remove(folder.path)
        folder.forget_cancel()
        remove_leftovers(folder.path)
    except Over:
        raise
    except Stopped as stopped:
        if stopped.reason == CANCELLED:
            status.set("cancelled", error=CANCELLED, **stopped.where)
            folder.forget_cancel()
        else:
            status.set("preempted", error=str(stopped), error_kind="preempted", **stopped.where)
    except KeyboardInterrupt:
        with suppress(StoreError, Over):
            status.set("preempted", error="interrupted", error_kind="preempted")
        raise
    except WriteError as error:
        folder.require_there()  # where it is gone, this is why nothing can be written
        with suppress(StoreError):
            status.set("preempted", error=str(error), error_kind="preempted")
        raise
    except Exception as error:  # a failed run becomes a row of the table; it never ends a grid
        kind = "nan" if isinstance(error, Diverged) else "oom" if _out_of_memory(error) else "exception"
        told = isinstance(error, UserError | Diverged)
        with suppress(StoreError):
            attempt, more = status.fields["attempt"], "" if told else f"\n{traceback.format_exc()}"
            folder.log(f"attempt {attempt} failed: {_one_line(error)}{more}")
        status.set("failed", error=_one_line(error), error_kind=kind)
    return str(status.fields["status"])


def _train_and_evaluate(
    spec: RunSpec, folder: RunFolder, execution: Execution, stop: Callable[[], object], status: Status
) -> None:
    preflight.budget(spec)  # builds a network to count FLOPs: before time and memory are measured
    started, memory = time.perf_counter(), PeakMemory(torch.device(execution.device))
    problem = make_problem(spec, execution)
    arrays: dict[str, np.ndarray] = {}

    def stage_done(module: nn.Module, stage: Stage) -> dict[str, Any]:
        rows, found = evaluate_stage(problem, module, stage)
        arrays.clear()
        arrays.update(found)
        return rows

    trainer = Trainer(
        problem, folder, stage_done=stage_done, stop=stop,
        checkpoint_seconds=execution.checkpoint_seconds, started=started,
        report=lambda where: status.set("running", **where),
    )  # fmt: skip
    goes_on = checkpoints.any_in(folder.path)  # the energy used before the checkpoint is not known
    counters = [] if goes_on else energy.counters(problem.device, execution.concurrency)
    with energy.EnergyMeter(counters) as meter:
        module = trainer.run()
        stage, results, change = trainer.stages[-1], trainer.state.results, None
        if not arrays:  # an earlier attempt stopped after the last evaluation, before its arrays were written
            stage_done(module, stage)
        stored_bytes = packed_model.write(folder.path, problem, module)
        folder.write(packed_model.NETWORK, trainer.state.network)
        if spec.evaluation.stored is not None:  # the metrics must be those of the stored model
            began, trained = time.perf_counter(), results.pop()
            _, module = packed_model.read(folder.path, spec, execution)
            results.append(trained | stage_done(module, stage))
            change = _test_nll(results[-1]) - _test_nll(trained)
            trainer.state.counters.evaluation_seconds += time.perf_counter() - began
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        write_bytes(folder.path / PREDICTIONS, content.getvalue())
        costs = account(problem, module, stored_bytes, trainer, memory, meter)
    folder.write("costs", costs | {"stored_nll_change": change})
    folder.write("metrics", {table: [row for r in results for row in r[table]] for table in LISTS})
    seal(
        folder,
        trainer.recorder.write_all,
        lambda files: status.set("done", files=files, **trainer.position(stage)),
    )


def _test_nll(results: dict[str, Any]) -> float:
    here = {"predictor": "samples", "split": "test", "metric": "nll"}
    return next(float(row["value"]) for row in results["metrics"] if here.items() <= row.items())


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(
        error
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError | Diverged) else f"{type(error).__name__}: {text}"
