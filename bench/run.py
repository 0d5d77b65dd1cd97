"""One run: ``python -m bench.run --set method=ssvi --set sparsity=0.95``, and what workers call.

Needs neither submitit nor a suite. The run's folder holds everything that is known of it.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import accounting, blueprint, cli, energy, preview, stored
from bench.evaluation import Diverged, evaluate_stage
from bench.execution import Execution, stopped_otherwise
from bench.facts import LISTS
from bench.memory import PeakMemory
from bench.problem import make_problem, set_arithmetic
from bench.provenance import now, provenance
from bench.spec import RunSpec, nest, parse_spec
from bench.store import RunFolder, Store
from bench.training import CHECKPOINT, Stopped, Trainer
from methods.base import Stage
from methods.errors import UserError

PREDICTIONS = "predictions.npz"


def execute(
    spec: RunSpec, store: Store, execution: Execution, stop: Callable[[], bool] = lambda: False
) -> str:
    """Train and evaluate one run, or go on with it; everything found is in its folder.

    Returns ``done``, ``failed`` (the reason is in the status; it concerns this run only) or
    ``preempted`` (``stop()``, asked once a minibatch, was true). ``KeyboardInterrupt`` is
    recorded as ``preempted`` and raised again.
    """
    folder = store.run(spec.run_id)
    status = _Status(folder)
    torch.set_num_threads(execution.threads)
    set_arithmetic(spec)
    folder.write(
        "spec", {"schema": 1, "run_id": spec.run_id, "config_id": spec.config_id, "config": spec.to_dict()}
    )
    folder.write("provenance", provenance(execution))
    try:
        status.set("running", error=None, error_kind=None)
        _train_and_evaluate(spec, folder, execution, stop, status)
    except Stopped:
        status.set("preempted")
    except KeyboardInterrupt:
        status.set("preempted")
        raise
    except Exception as error:  # a failed run is a row of the table, never the end of a grid
        kind = "nan" if isinstance(error, Diverged) else "oom" if _out_of_memory(error) else "exception"
        with (folder.path / "run.log").open("a") as log:
            log.write(str(error) if isinstance(error, UserError | Diverged) else traceback.format_exc())
        status.set("failed", error=_one_line(error), error_kind=kind)
    return status.fields["status"]


def _train_and_evaluate(
    spec: RunSpec, folder: RunFolder, execution: Execution, stop: Callable[[], bool], status: _Status
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
    goes_on = (folder.path / CHECKPOINT).exists()  # and nobody has kept what it consumed before
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
        _write_arrays(folder, arrays)
        costs = accounting.account(problem, module, stored_bytes, trainer, memory, meter)
    folder.write("costs", costs | {"stored_nll_change": change})
    folder.write("metrics", {table: [row for r in results for row in r[table]] for table in LISTS})
    status.set("done", **trainer.position(stage))
    (folder.path / CHECKPOINT).unlink(missing_ok=True)


def _test_nll(results: dict[str, Any]) -> float:
    here = {"predictor": "samples", "split": "test", "metric": "nll"}
    return next(float(row["value"]) for row in results["metrics"] if here.items() <= row.items())


def _write_arrays(folder: RunFolder, arrays: dict[str, np.ndarray]) -> None:
    temporary = folder.path / f".{PREDICTIONS}.{os.getpid()}"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, folder.path / PREDICTIONS)


class _Status:
    """The run's status file: what was said before stays, what is said now is added."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        earlier = folder.read("status") or {}
        self.fields: dict[str, Any] = {
            **earlier,
            "attempt": int(earlier.get("attempt") or 0) + 1,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": earlier.get("started_at") or now(),
        }

    def set(self, status: str, **fields: Any) -> None:
        self.fields |= {"status": status, "updated_at": now(), **fields}
        self.folder.write("status", self.fields)


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
        with claims.held(claim):
            outcome = execute(spec, store, execution)
        if outcome != "done":
            print(f"{spec.run_id} {outcome}: {(folder.read('status') or {}).get('error')}")
            return 1
    print_scores(folder)
    return 0


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
