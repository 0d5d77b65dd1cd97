"""Memory and time of first layers of many features: SSVI, of fixed and of chosen dimension, beside dense VI.

    python tests/performance/wide_layers.py [--features 7129 20000 100000] [--hidden 256] [--limit 2.0]

Each case is a whole run on the planted problem, in a process of its own: the network is built and trained for
a number of steps, and the model is scored and stored. ``--limit`` is the memory in GB that the process may
take beyond what it has when torch is imported; a run that needs more is shown as one that does not fit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _options import parsed

METHODS: dict[str, dict[str, Any]] = {
    "ssvi": {"method": "ssvi", "sparsity": 0.99, "keep_dense": ["classifier"]},
    "ssvi, adaptive": {
        "method": "ssvi",
        "sparsity": 0.99,
        "keep_dense": ["classifier"],
        "dimension": "adaptive",
    },
    "dense_vi": {"method": "dense_vi"},
}


def private_bytes() -> int:
    """Return the size of the private memory of this process, which RLIMIT_DATA limits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData"))


def one(config: dict[str, Any], limit: float) -> None:
    """Compute one run in this process, and print its measured costs as JSON; null if it does not fit."""
    from bench.experiment.execution import Execution
    from bench.experiment.settings import nest
    from bench.experiment.spec import parse_spec
    from bench.results.store import Store
    from bench.runner.execute import execute

    spec = parse_spec(nest(config))
    if limit and sys.platform == "linux":
        most = private_bytes() + int(limit * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, create=True)
        try:
            done = execute(spec, store, Execution()) == "done"
        except MemoryError:
            done = False
        run = store.run(spec.run_id)
        if not done and "memory" not in (reason := str((run.read("status") or {}).get("reason", "memory"))):
            raise SystemExit(reason)
        print(json.dumps(run.read("costs") if done else None))


def main() -> None:
    """Print a row for each method and number of features."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, nargs="+", default=[7129, 20_000, 100_000])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--limit", type=float, default=0.0, help="GB a run may take; 0 for no limit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parsed(parser, features=[500], hidden=16, steps=60)
    if arguments.one:
        one(json.loads(arguments.one), arguments.limit)
        return
    print("| features | method | active weights | ms a step | peak memory, MB | stored, MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for features in arguments.features:
        for name, chosen in METHODS.items():
            config = {
                "dataset": "planted",
                "dataset.features": features,
                "dataset.train": 64,
                "dataset.val": 10,
                "dataset.test": 64,
                "network": "mlp",
                "network.hidden": [arguments.hidden],
                "epochs": max(arguments.steps // 2, 1),
                "batch_size": 32,
                **chosen,
            }
            command = [sys.executable, __file__, "--one", json.dumps(config), "--limit", str(arguments.limit)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode > 0:
                raise SystemExit(done.stderr)
            # a process that is killed for its memory prints nothing
            costs = json.loads((done.stdout.splitlines() or ["null"])[-1])
            if costs is None:
                print(f"| {features:,} | {name} | does not fit | | | |", flush=True)
                continue
            milliseconds = 1000 * costs["seconds_per_step"]
            print(
                f"| {features:,} | {name} | {costs['params_active']:,} | {milliseconds:.1f} | "
                f"{costs['peak_memory_bytes'] / 1e6:,.0f} | {costs['checkpoint_bytes'] / 1e6:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
