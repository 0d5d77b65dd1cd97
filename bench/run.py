"""One run: ``python -m bench.run --set method=ssvi --set sparsity=0.95``, and what workers call.

Needs neither submitit nor a suite. The run's folder holds everything that is known of it.
"""

from __future__ import annotations

import io
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import accounting, blueprint, checkpoint, cli, energy, preview, stored
from bench.attempt import CANCELLED, LOST, Over, OwnFolder, Status, Watch
from bench.evaluation import Diverged, evaluate_stage
from bench.execution import Execution, stopped_otherwise
from bench.files import StoreError, WriteError, remove_leftovers, write_bytes
from bench.memory import PeakMemory
from bench.problem import make_problem, set_arithmetic
from bench.provenance import provenance
from bench.results import LISTS
from bench.seal import seal
from bench.spec import RunSpec, nest, parse_spec
from bench.store import RunFolder, Store
from bench.training import Stopped, Trainer
from methods.base import Stage
from methods.errors import UserError

__all__ = ["LOST", "PREDICTIONS", "execute", "main", "print_scores"]

PREDICTIONS = "predictions.npz"


def execute(
    spec: RunSpec, store: Store, execution: Execution, stop: Callable[[], object] = lambda: False
) -> str:
    """Train and evaluate one run, or go on with it; everything found is in its folder.

    ``stop`` is asked before each minibatch: what is true ends the run there, with a checkpoint, and is the
    reason; ``LOST`` ends it without a word, as it is another process's now.

    Returns ``done``, ``failed`` (the reason is in the status; it concerns this run only), ``preempted`` (it
    was stopped) or ``cancelled`` (``bench.cancel`` asked for it). ``KeyboardInterrupt`` is recorded as
    ``preempted`` and raised again. Raises ``WriteError`` where the folder can't be written: that is no fault
    of the run, which goes on from its last checkpoint another time.
    """
    folder = OwnFolder(store.run(spec.run_id).path)
    try:
        return _attempt(spec, store, execution, stop, folder)
    except Over as over:  # whatever was about to be said: the run is somebody else's
        if over.outcome == "done":
            checkpoint.remove(folder.path)
        return over.outcome


def _attempt(
    spec: RunSpec, store: Store, execution: Execution, stop: Callable[[], object], folder: OwnFolder
) -> str:
    status = Status(folder)
    torch.set_num_threads(execution.threads)
    set_arithmetic(spec)
    folder.write(
        "spec", {"schema": 1, "run_id": spec.run_id, "config_id": spec.config_id, "config": spec.to_dict()}
    )
    folder.write("provenance", provenance(spec, execution, store))
    remove_leftovers(folder.path)
    try:
        status.set("running")
        _train_and_evaluate(spec, folder, execution, Watch(folder, stop), status)
        checkpoint.remove(folder.path)
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
        with suppress(StoreError):
            status.set("preempted", error=str(error), error_kind="preempted")
        raise
    except Exception as error:  # a failed run is a row of the table, never the end of a grid
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
    blueprint.budget(spec)  # what is built to be counted is no part of what is measured
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
    goes_on = checkpoint.any_in(folder.path)  # and nobody has kept what it consumed before
    counters = [] if goes_on else energy.counters(problem.device, execution.concurrency)
    with energy.EnergyMeter(counters) as meter:
        module = trainer.run()
        stage, results, change = trainer.stages[-1], trainer.results, None
        if not arrays:  # stopped after the last evaluation and before its arrays were written
            stage_done(module, stage)
        stored_bytes = stored.write(folder.path, problem, module)
        if spec.evaluation.stored is not None:  # what is reported is then what is stored
            began, trained = time.perf_counter(), results.pop()
            _, module = stored.read(folder.path, spec, execution)
            results.append(trained | stage_done(module, stage))
            change = _test_nll(results[-1]) - _test_nll(trained)
            trainer.counters.evaluation_seconds += time.perf_counter() - began
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        write_bytes(folder.path / PREDICTIONS, content.getvalue())
        costs = accounting.account(problem, module, stored_bytes, trainer, memory, meter)
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


def main(argv: list[str] | None = None) -> int:
    """Run one cell in this process and print what it scored."""
    from bench import claims  # here, as it needs psutil: `execute` alone does without

    parser = cli.parser("bench.run", __doc__)
    cli.add_results(parser)
    cli.add_set(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of every random stream (default 0)")
    cli.add_execution(parser)
    parser.add_argument("--force", action="store_true", help="run again when it is done already")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be trained and its cost, and train nothing",
    )
    arguments = parser.parse_args(argv)
    execution = cli.execution(arguments)
    chosen = {"dataset": "digits", "network": "mlp", "method": "ssvi", "seed": arguments.seed}
    spec = parse_spec(nest(chosen | cli.overrides(arguments), "--set"), "--set")
    blueprint.check(spec)
    blueprint.check_execution([spec], execution.mode)
    if arguments.dry_run:
        print(preview.preview(spec, execution))
        return 0
    if (reason := blueprint.missing_data([spec])) is not None:
        raise UserError(reason)
    store = Store(arguments.results, create=True)
    folder = store.run(spec.run_id)
    if (other := claims.holder(folder)) is not None:
        raise UserError(f"run {spec.run_id}: process {other.pid} on {other.host} is at it")
    if folder.path.exists() and (fault := store.check(spec.run_id)) is not None:
        print(f"what there was of {spec.run_id} is in {store.set_aside(spec.run_id, fault)} now: {fault}")
    elif arguments.force and folder.path.exists():
        store.set_aside(spec.run_id, "run again by --force")
    if folder.is_done():
        print(f"{spec.run_id} is done already; --force runs it again")
    else:
        claim = claims.acquire(folder)
        if claim is None:
            raise UserError(f"run {spec.run_id}: another process is at it")
        if stopped_otherwise(folder, execution.mode):
            print(f"{spec.run_id} was stopped under another --execution: what can't be continued starts anew")
        with claims.held(claim), _signals() as heard:
            outcome = execute(spec, store, execution, lambda: heard and f"stopped by {heard[0].name}")
        if outcome != "done":
            told = folder.read("status") or {}
            print(f"{spec.run_id} {outcome}: {told.get('error')}")
            if outcome != "failed":
                where = f"step {told.get('step')} of {told.get('steps')} of stage {told.get('stage')!r}"
                print(f"at {where}; the same command goes on from there")
            return 128 + heard[0] if heard else 1  # as a shell has it
    print_scores(folder)
    return 0


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """The list that Ctrl-C and SIGTERM are added to. Ctrl-C ends all at once where something came before."""
    heard: list[signal.Signals] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        heard.append(signal.Signals(number))
        if number == signal.SIGINT:
            os.write(2, b"stopping at the next step; Ctrl-C once more ends it at once\n")

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_scores(folder: RunFolder) -> None:
    """The metrics of a finished run, a line a predictor and split."""
    rows = (folder.read("metrics") or {})["metrics"]
    print(f"run {folder.run_id} in {folder.path}")
    scores: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        value = "–" if row["value"] is None else f"{row['value']:.4f}"  # such as the NLL of probability 0
        where = (row["stage"], row["predictor"], row["split"])
        scores.setdefault(where, []).append(f"{row['metric']}={value}")
    widths = [max(map(len, parts)) for parts in zip(*scores, strict=True)]
    for where, words in scores.items():
        print(" ", *(part.ljust(width) for part, width in zip(where, widths, strict=True)), *words)


if __name__ == "__main__":
    cli.entry(main)
