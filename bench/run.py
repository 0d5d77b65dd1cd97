"""One run: ``python -m bench.run --set method=ssvi --set sparsity=0.95``, and what workers call.

Needs neither submitit nor a suite. The run's folder holds everything that is known of it.
"""

from __future__ import annotations

import io
import os
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from bench import blueprint, checkpoint, cli, preview
from bench.evaluation import Diverged, evaluate_stage
from bench.execution import Execution
from bench.problem import Problem, make_problem
from bench.provenance import PeakMemory, now, provenance
from bench.spec import RunSpec, nest, parse_spec
from bench.store import RunFolder, Store
from bench.training import CHECKPOINT, Stopped, Trainer
from methods import costs
from methods.base import METHODS, Stage
from methods.errors import UserError
from methods.streams import Streams

PREDICTIONS, MODEL = "predictions.npz", "model.pt"


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
    started, memory = time.perf_counter(), PeakMemory()
    problem = make_problem(spec, execution.device)
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
    module = trainer.run()
    if not arrays:  # stopped after the last evaluation and before its arrays were written
        stage_done(module, trainer.stages[-1])
    _write_arrays(folder, arrays)
    packed = problem.method.pack(module)
    checkpoint.save(folder.path / MODEL, packed)
    results = trainer.results
    folder.write(
        "metrics", {table: [row for r in results for row in r[table]] for table in ("metrics", "calibration")}
    )
    folder.write("costs", _costs(problem, module, packed, trainer, memory.bytes))
    status.set("done", **trainer.position(trainer.stages[-1]))
    (folder.path / CHECKPOINT).unlink(missing_ok=True)


def _costs(
    problem: Problem,
    module: nn.Module,
    packed: dict[str, torch.Tensor],
    trainer: Trainer,
    peak: int | None,
) -> dict[str, Any]:
    """The ``costs.json`` of a run; ``bench/columns.yaml`` defines each figure."""
    method, spent, wall = problem.method, trainer.counters, trainer.wall_seconds
    streams = Streams(problem.spec.seed, problem.device)
    plain = problem.network(streams)
    deterministic_bytes, deterministic_step = _packed_bytes(costs.pack(plain)), costs.flops(plain, "step")
    dense_vi = METHODS.get("dense_vi")()
    dense = dense_vi.build(plain, streams, problem.task)
    costs.trace(dense, problem.task.input_shape)
    counts = method.counts(module)
    images = problem.task.examples * problem.budget.epochs
    return {
        "params_total": counts.kernel + counts.other,
        "params_active": counts.active + counts.other,
        "density": counts.density,
        "train_flops": spent.flops,
        "dense_vi_train_flops": images * dense_vi.flops(dense, "step"),
        "deterministic_train_flops": images * deterministic_step,
        "inference_flops": method.flops(module, "inference"),
        "dense_inference_flops": dense_vi.flops(dense, "inference"),
        "checkpoint_bytes": _packed_bytes(packed),
        "dense_vi_bytes": _packed_bytes(dense_vi.pack(dense)),
        "deterministic_bytes": deterministic_bytes,
        "train_seconds": spent.train_seconds,
        "evaluation_seconds": spent.evaluation_seconds,
        "overhead_seconds": wall - spent.train_seconds - spent.evaluation_seconds,
        "wall_seconds": wall,
        "images_per_second": spent.images / spent.train_seconds,
        "peak_memory_bytes": peak,
        "epochs_total": spent.epochs,
        "steps_total": spent.steps,
        "events": spent.events,
    }


def _packed_bytes(packed: dict[str, torch.Tensor]) -> int:
    # in memory: in a file, the name of the file counts too
    buffer = io.BytesIO()
    torch.save(packed, buffer)
    return buffer.tell()


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
    parser.add_argument("--threads", type=cli.positive, default=1, help="torch threads (default 1)")
    parser.add_argument("--force", action="store_true", help="run again when it is done already")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would be trained and its cost, and train nothing",
    )
    arguments = parser.parse_args(argv)
    chosen = {"dataset": "digits", "network": "mlp", "method": "ssvi", "seed": arguments.seed}
    spec = parse_spec(nest(chosen | cli.overrides(arguments), "--set"), "--set")
    blueprint.check(spec)
    if arguments.dry_run:
        print(preview.preview(spec))
        return 0
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
        with claims.held(claim):
            outcome = execute(spec, store, Execution(threads=arguments.threads))
        if outcome != "done":
            print(f"{spec.run_id} {outcome}: {(folder.read('status') or {}).get('error')}")
            return 1
    print_scores(folder)
    return 0


def print_scores(folder: RunFolder) -> None:
    """The metrics of a finished run, a line a predictor and split."""
    rows = (folder.read("metrics") or {})["metrics"]
    print(f"run {folder.run_id} in {folder.path}")
    for key in dict.fromkeys((r["stage"], r["predictor"], r["split"]) for r in rows):
        mine = [r for r in rows if (r["stage"], r["predictor"], r["split"]) == key]
        print(
            "  " + " ".join(f"{part:<8}" for part in key), *(f"{r['metric']}={r['value']:.4f}" for r in mine)
        )


if __name__ == "__main__":
    cli.entry(main)
