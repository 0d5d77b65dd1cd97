"""What share of a run goes into recording its subspace: slots and ages, pairs of criteria, free energy.

    python tests/performance/recording_share.py [--rounds 3] [--epochs 20]

The default MLP on the digits, which is small: in larger networks a step costs more, and the
share falls. Figures are medians over rounds, each with another seed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _options import parsed

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods import ssvi
from methods.families import moving
from methods.subspace import free_energy, lifetimes

SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """``function``, which appends its seconds to ``spent``."""

    def wrapped(*args: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args)
        finally:
            spent.append(time.perf_counter() - started)

    return wrapped


def main() -> None:
    """Print the share at each sparsity."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parsed(parser, rounds=1, epochs=2)
    spent: dict[str, list[float]] = {"layers": [], "criteria_pairs": [], "free_energy": []}
    moving.record_change = timed(moving.record_change, spent["layers"])
    lifetimes.pass_by = timed(lifetimes.pass_by, spent["layers"])
    lifetimes.record_final = timed(lifetimes.record_final, spent["layers"])
    ssvi.record_criteria = timed(ssvi.record_criteria, spent["criteria_pairs"])
    free_energy.of_minibatch = timed(free_energy.of_minibatch, spent["free_energy"])
    shares: dict[tuple[float, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, create=True)
        for seed in range(arguments.rounds + 1):  # the first warms up
            for sparsity in SPARSITIES:
                config = {"dataset": "digits", "network": "mlp", "method": "ssvi", "sparsity": sparsity}
                spec = parse_spec(nest(config | {"epochs": arguments.epochs, "seed": seed}))
                for seconds in spent.values():
                    seconds.clear()
                started = time.perf_counter()
                execute(spec, store, Execution())
                wall = time.perf_counter() - started
                if not all(spent.values()):
                    raise SystemExit(f"nothing was recorded of {[t for t, s in spent.items() if not s]}")
                for table, seconds in spent.items():
                    if seed:
                        shares.setdefault((sparsity, table), []).append(100 * sum(seconds) / wall)
    for sparsity in SPARSITIES:
        each = {table: statistics.median(shares[sparsity, table]) for table in spent}
        parts = ", ".join(f"{table} {share:.1f} %" for table, share in each.items())
        print(f"sparsity {sparsity}: {sum(each.values()):.1f} % of the run ({parts})")


if __name__ == "__main__":
    main()
