"""Disturb a grid at random, and compare its final results with those of an undisturbed grid.

    python tests/chaos.py [--kills 100] [--seed 0] [--runs 60]

Workers and launchers are killed and files are cut short, while the grid goes on; whatever was killed is
launched again. Prints what was done, and what was found in the end; the exit status is 1 where a run is
missing, doubled or wrong, or a table can't be read.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from bench.results.store import Store

SUITE = """
question: Does chaos leave the results as they are?
scales:
  demo:
    seeds: 0-LAST
    base: {dataset: digits, network: mlp, epochs: 12, batch_size: 64, samples: 1}
    grids:
      - {recipe: default, method: ssvi, sparsity: [0.9, 0.98], criterion: [snr, mean_abs]}
      - {recipe: default, method: dense_vi}
"""
NAME = "chaos"
CONFIGURATIONS = 5
#: Seconds between two disturbances, at least and at most.
PAUSE = (0.3, 3.0)
_PATIENCE_SECONDS = 300.0


@dataclass
class Outcome:
    """The disturbances by kind, and the final errors, one line each."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Grid:
    """A launcher and its workers; the launcher is started again whenever it has ended."""

    def __init__(self, suite: Path, results: Path) -> None:
        self.results = results
        self._command = [sys.executable, "-m", "bench.grid", "--suite", str(suite), "--results", str(results)]
        self._command += ["--workers", "2", "--checkpoint-seconds", "1"]
        self._process: subprocess.Popen[str] | None = None
        self.launches = 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Launch once without disturbance, and wait for the end."""
        return subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, timeout=_PATIENCE_SECONDS
        )

    def keep_going(self) -> None:
        """Start a launcher if none runs."""
        if self._process is None or self._process.poll() is not None:
            self.launches += 1
            log = (self.results.parent / f"launch-{self.launches}.log").open("w")
            self._process = subprocess.Popen(
                [*self._command, "--retry-failed"], stdout=log, stderr=subprocess.STDOUT, text=True
            )

    def kill_launcher(self) -> bool:
        """Kill the launcher by SIGKILL; return whether there was one."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.kill()
        self._process.wait()
        return True

    def kill_worker(self, chance: random.Random) -> bool:
        """Kill one of the processes below the launcher; return whether there was one."""
        below: list[psutil.Process] = []
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                below = psutil.Process(self._process.pid).children(recursive=True)
        if not below:
            return False
        with contextlib.suppress(psutil.Error):
            chance.choice(below).kill()
        return True

    def end(self) -> None:
        """End the launcher as Ctrl-C does."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill_launcher()


def cut_short(results: Path, chance: random.Random) -> str | None:
    """Cut short a random file of the results folder or of the launch files; return its name."""
    beside = results.with_name(f"{results.name}.jobs")
    files = [path for folder in (results, beside) for path in folder.rglob("*") if path.is_file()]
    if not files:
        return None
    path = chance.choice(sorted(files))
    with contextlib.suppress(OSError):  # it may be gone by now
        os.truncate(path, chance.randint(0, path.stat().st_size))
        return path.name
    return None


def disturb(grid: Grid, kills: int, chance: random.Random) -> Counter[str]:
    """Kill ``kills`` processes of ``grid`` or more, some of each kind, and cut files short in between."""
    done: Counter[str] = Counter()
    killed = ("workers killed", "launchers killed")
    while sum(done[kind] for kind in killed) < kills or not all(done[kind] for kind in killed):
        grid.keep_going()
        time.sleep(chance.uniform(*PAUSE))
        if chance.random() < 0.5 and cut_short(grid.results, chance):
            done["files cut short"] += 1
        if chance.random() < 0.3:
            done["launchers killed"] += grid.kill_launcher()
        else:
            done["workers killed"] += grid.kill_worker(chance)
    grid.end()
    done["launches"] = grid.launches
    return done


def judge(grid: Grid, expected: dict[str, pd.DataFrame]) -> list[str]:
    """Launch what is left, and compare with the tables of an undisturbed grid."""
    wrong = []
    for _ in range(3):  # a file that was cut after its run was looked at is found by the next launch
        last = grid.run("--retry-failed")
        if last.returncode == 0:
            break
    else:
        return [f"the grid does not end well: {last.stdout[-2000:]}{last.stderr[-2000:]}"]
    store = Store(grid.results)
    found = plain(store)
    for name, frame in expected.items():
        try:
            pd.testing.assert_frame_equal(found[name], frame, check_categorical=False)
        except AssertionError as error:
            wrong.append(f"table {name}: {' '.join(str(error).split())[:300]}")
    for run_id in store.run_ids():
        if (fault := store.check(run_id)) is not None:
            wrong.append(f"run {run_id}: {fault}")
        wrong += [f"run {run_id}: {path.name} is left" for path in store.run(run_id).path.glob("*claim*")]
    return wrong


def plain(store: Store) -> dict[str, pd.DataFrame]:
    """Return the tables, sorted, without measured values."""
    tables = store.read_tables(NAME)
    tables["runs"] = tables["runs"][
        ["run_id", "config_id", "status", "seed", "accuracy", "nll", "train_flops"]
    ]
    tables["history"] = tables["history"][tables["history"]["metric"] != "seconds"]
    return {
        name: frame.sort_values(list(frame.columns), kind="stable").reset_index(drop=True)
        for name, frame in tables.items()
        if name != "calibration"
    }


def chaos(folder: Path, kills: int, runs: int, seed: int) -> Outcome:
    """Compute a grid of ``runs`` runs twice in ``folder``, once with ``kills`` processes killed."""
    suite = folder / f"{NAME}.yaml"
    suite.write_text(SUITE.replace("LAST", str(max(-(-runs // CONFIGURATIONS), 1) - 1)))
    undisturbed = Grid(suite, folder / "undisturbed")
    first = undisturbed.run()
    if first.returncode:
        return Outcome(wrong=[f"without any disturbance: {first.stdout[-2000:]}{first.stderr[-2000:]}"])
    grid = Grid(suite, folder / "results")
    try:
        done = disturb(grid, kills, random.Random(seed))
    finally:
        grid.kill_launcher()
    return Outcome(done, judge(grid, plain(Store(undisturbed.results))))


def main() -> int:
    """Run the disturbances from the command line, and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        outcome = chaos(Path(folder), arguments.kills, arguments.runs, arguments.seed)
    print(", ".join(f"{count} {what}" for what, count in sorted(outcome.done.items())), end=" ")
    print(f"in {time.perf_counter() - started:.0f} s")
    print("\n".join(outcome.wrong) or "every run is there once, every table is that of the undisturbed grid")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
