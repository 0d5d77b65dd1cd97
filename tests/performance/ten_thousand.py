"""What the commands take that look at a whole grid, on results folders of thousands of finished runs.

    python tests/performance/ten_thousand.py [--runs 1000 3000 10000]

One cell of ``criteria_ablation`` is trained at the scale ``demo``; its files, with other digits in the
figures of each, become as many run folders as are asked for, under the ids of a suite with many seeds. Each
command then runs in a process of its own. Printed are its seconds of wall time, in brackets those of
processors (which other work on the machine hardly changes), and its peak memory in MiB, for each number of
runs; and how many times the processor time of the first number the last takes: a cost that grows linearly
grows as the number of runs does. What a command takes to start is its ``--help``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from _options import parsed

from bench.experiment.execution import Execution
from bench.planning.plan import Plan
from bench.planning.suite import load
from bench.results.files import read_json, write_json
from bench.results.store import Store
from bench.runner.execute import execute

SUITE = """
question: What does a large grid cost?
scales:
  demo:
    seeds: 0-{last}
    base: {{dataset: digits, network: mlp, network.hidden: [256, 256], epochs: 20, batch_size: 64}}
    grids:
      - recipe: default
        method: ssvi
        criterion: [abs_mean, snr, mean_abs, mean_exp, snr_exp]
        sparsity: [0.9, 0.98]
"""
CONFIGURATIONS = 10
#: A module run as a command; the last line on stderr has its seconds of processors, and its peak of memory in
#: KiB. (What the system tells the parent of it counts what the parent had when it started it.)
WRAPPED = """
import atexit, re, runpy, sys, time

def tell():
    with open("/proc/self/status") as file:
        print(time.process_time(), re.search(r"VmHWM:\\s+(\\d+)", file.read())[1], file=sys.stderr)

atexit.register(tell)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
#: The last digits of long figures, which differ from run to run.
_TAILS = re.compile(rb"(?<=\.\d{6})\d{6,}")


@dataclass(frozen=True)
class Taken:
    """What one command took: seconds by the clock, and of processors. memory: MiB at the most."""

    seconds: float
    processor: float
    memory: float


class Template:
    """The files of a finished run, of which others are made."""

    def __init__(self, folder: Path) -> None:
        self.status = read_json(folder / "status.json")
        kept = [
            p for p in sorted(folder.iterdir()) if p.name not in ("status.json", "spec.json", "claim.json")
        ]
        texts = {path.name: path.read_bytes() for path in kept if path.suffix in (".json", ".jsonl")}
        self.texts = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
        self.tails = {
            name: np.array([i for m in _TAILS.finditer(text) for i in range(*m.span())], int)
            for name, text in texts.items()
        }
        # what no command opens only has its size
        self.sizes = {path.name: path.stat().st_size for path in kept if path.name not in texts}

    def write(self, folder: Path, spec: dict[str, Any], generator: np.random.Generator) -> None:
        """Make ``folder`` that of a finished run of ``spec``."""
        folder.mkdir(parents=True, exist_ok=True)
        contents = {"spec.json": json.dumps(spec).encode() + b"\n"}
        for name, text in self.texts.items():
            other = text.copy()
            other[self.tails[name]] = generator.integers(ord("0"), ord("9"), len(self.tails[name]), np.uint8)
            contents[name] = other.tobytes()
        for name, size in self.sizes.items():
            with (folder / name).open("wb") as file:
                file.truncate(size)
        for name, data in contents.items():
            (folder / name).write_bytes(data)
        files = {name: [len(data), _digest(data)] for name, data in contents.items()}
        files |= {name: [size, _digest(bytes(size))] for name, size in self.sizes.items()}
        write_json(folder / "status.json", {**self.status, "status": "done", "files": files})


def trained(root: Path) -> Template:
    """The files of one cell of ``criteria_ablation``, which is trained in ``root``."""
    plan = load("criteria_ablation").expand("demo", where=["sparsity=0.9", "criterion=abs_mean"], seeds="0")
    store = Store(root, create=True)
    assert execute(plan.specs[0], store, Execution()) == "done"
    return Template(store.run(plan.specs[0].run_id).path)


class Grid:
    """A results folder in which every run of a suite of ``runs`` cells is done."""

    def __init__(self, root: Path, runs: int, template: Template) -> None:
        root.mkdir()
        self.suite = root / "many.yaml"
        self.suite.write_text(SUITE.format(last=max(1, runs // CONFIGURATIONS) - 1))
        self.store = Store(root / "results", create=True)
        self.plan: Plan = load(str(self.suite)).expand("demo")
        self.template, self.generator = template, np.random.default_rng(runs)
        self.change(len(self.plan.specs))
        self.store.merge_plan(self.plan.to_dict("python tests/performance/ten_thousand.py"))

    def change(self, runs: int) -> None:
        """Write so many runs anew, spread over the grid."""
        for spec in self.plan.specs[:: max(1, len(self.plan.specs) // runs)][:runs]:
            head = {"schema": 1, "run_id": spec.run_id, "config_id": spec.config_id}
            folder = self.store.run(spec.run_id).path
            self.template.write(folder, {**head, "config": spec.to_dict()}, self.generator)

    def measured(self) -> dict[str, Taken]:
        """What each command takes here, by what it does."""
        root, suite = str(self.store.root), self.suite.stem
        collect = ("bench.collect", "--suite", suite, "--results", root)
        found = {
            "grid: start": taken("bench.grid", "--help"),
            "grid --dry-run": taken("bench.grid", "--suite", str(self.suite), "--results", root, "--dry-run"),
            "status": taken("bench.status", "--suite", suite, "--results", root),
            "collect: start": taken("bench.collect", "--help"),
            "collect from nothing": taken(*collect),
            "collect, nothing changed": taken(*collect),
        }
        for runs in (1, 100):
            self.change(runs)
            found[f"collect, {runs} changed"] = taken(*collect)
        return found


def taken(module: str, *arguments: str) -> Taken:
    """Run a command in a process of its own, which must succeed."""
    started = time.perf_counter()
    line = [sys.executable, "-c", WRAPPED, module, *arguments]
    done = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - started
    *said, figures = done.stderr.splitlines() or [""]
    if done.returncode or said:
        raise SystemExit(f"{module} {' '.join(arguments)}: exit status {done.returncode}: {done.stderr}")
    processor, peak = figures.split()
    return Taken(seconds, float(processor), int(peak) / 1024)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def main() -> None:
    """Make the folders, run the commands, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 3000, 10_000])
    arguments = parsed(parser, runs=[10])
    sizes = arguments.runs
    found: list[dict[str, Taken]] = []
    with tempfile.TemporaryDirectory() as folder:
        template = trained(Path(folder) / "model")
        for runs in sizes:
            found.append(Grid(Path(folder) / str(runs), runs, template).measured())
    head = "".join(f"{f'{runs:,} runs':>29}" for runs in sizes)
    print(f"{'':26}{head}{sizes[-1] / sizes[0]:>6.1f} x")
    for what in found[0]:
        cells = "".join(
            f"{f[what].seconds:>7.2f} s {f'({f[what].processor:.2f})':>8} {f[what].memory:>6,.0f} MiB"
            for f in found
        )
        print(f"{what:<26}{cells}{found[-1][what].processor / found[0][what].processor:>6.1f} x")


if __name__ == "__main__":
    main()
