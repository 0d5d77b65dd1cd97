"""What a run costs beside its training and evaluation, on many runs that have next to nothing of either.

    python tests/performance/launch_overhead.py [--runs 1000] [--workers 2]

Each run takes one step of a network with one hidden unit. Measured are the launch (start of the
workers, claims, run folders), and the same launch again when all is done.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _options import parsed

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import RunSpec, parse_spec
from bench.launching.local_workers import LocalWorkers
from bench.launching.pool import run_workers
from bench.results.store import Store

TRIVIAL = {
    "dataset": "digits",
    "network": "mlp",
    "network.hidden": [1],
    "method": "dense_vi",
    "epochs": 1,
    "batch_size": 2000,
    "samples": 1,
}


def trivial(seed: int) -> RunSpec:
    """A run of one step."""
    return parse_spec(nest(TRIVIAL | {"seed": seed}))


def seconds_of(action: Callable[[], object]) -> float:
    """How long ``action`` takes, in seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def main() -> None:
    """Launch twice, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parsed(parser, runs=4)
    specs = [trivial(seed) for seed in range(arguments.runs)]
    execution = Execution(executor="local", concurrency=arguments.workers)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results", create=True)

        def launch() -> None:
            run_workers(store, specs, LocalWorkers(store.root, specs, execution))

        first, second = seconds_of(launch), seconds_of(launch)
        costs = [store.run(spec.run_id).read("costs") for spec in specs]
        busy = sum(cost["train_seconds"] + cost["evaluation_seconds"] for cost in costs if cost)
        inside = sum(cost["overhead_seconds"] for cost in costs if cost)
    total = first * arguments.workers
    print(f"{len(specs)} runs, {arguments.workers} workers: {first:.1f} s")
    print(f"  worker milliseconds a run:      {1000 * total / len(specs):.1f}")
    print(f"    training and evaluation       {1000 * busy / len(specs):.1f}")
    print(f"    rest of the run               {1000 * inside / len(specs):.1f}")
    print(f"    launching                     {1000 * (total - busy - inside) / len(specs):.1f}")
    print(f"  again, with all of them done: {second:.1f} s")


if __name__ == "__main__":
    main()
