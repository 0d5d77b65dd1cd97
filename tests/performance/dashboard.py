"""How quickly the dashboard answers, on results of hundreds and of tens of thousands of runs.

    python tests/performance/dashboard.py [--runs 200 20000] [--pages overview runs] [--json FILE]

One cell of ``criteria_ablation`` is trained at the scale ``demo``; the rows of its tables, with other
figures, become those of as many runs as are asked for. A server of its own then shows each folder to a real
Chromium. Printed are, for each page: the seconds of the first visit (nothing of the page in memory of server
or browser), those of a visit later on (median of three), those from a new filter value until everything is
drawn anew (median and 95th percentile of ``--values``), and the kilobytes received for a value, at most.
A page is drawn when the script has ended and every chart has its picture. Exit status 1 means that a target
was missed, or that the server had loaded torch.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _options import parsed

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from bench.experiment.execution import Execution
from bench.planning.suite import load
from bench.reporting.collecting import collect, method_styles
from bench.results.store import Store
from bench.results.tables import parquet
from bench.results.tables.columns import TABLES
from bench.runner.execute import execute
from tests.dashboard_server import ROOT, chromium, executable, served

SUITE, SCALE = "many", "demo"
#: What a configuration is, beside its sparsity: method and criterion.
VARIANTS = (
    ("ssvi", "snr"), ("static_vi", None), ("ssvi", "abs_mean"), ("ssvi", "mean_abs"), ("ssvi", "mean_exp"),
    ("ssvi", "snr_exp"), ("rigl", None), ("snr_vi", None), ("magnitude_vi", None), ("lottery_ticket", None),
)  # fmt: skip
SPARSITIES = [round(0.05 * step, 2) for step in range(1, 20)] + [0.98]
#: What a failed run has not.
METRICS = ("accuracy", "nll", "brier", "ece", "ece_null", "wall_seconds", "compression_vs_dense_vi")
#: Columns of long tables that say where a figure stands.
_PLACES = ("lower", "upper", "coverage")
#: Visits of which the median is taken.
VISITS = 3
WARM_SECONDS, FILTER_SECONDS, RATIO, KILOBYTES = 2.5, 1.5, 1.5, 100.0
#: Runs whose rows are in memory at once while they are written.
_BATCH = 1000
_DRAWN = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
    && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(c => c.querySelector('.main-svg'))
    && !document.querySelector('[data-testid=stSkeleton]') && document.querySelector('h1, h2') !== null"""
_LINE = "() => document.querySelector('[data-testid=stMain] [data-testid=stCaptionContainer]')?.textContent"


@dataclass(frozen=True)
class Taken:
    """What a page took. first, warm, median, p95: seconds; kilobytes: the most for one filter value."""

    first: float
    warm: float
    median: float
    p95: float
    kilobytes: float


def template(root: Path) -> dict[str, pa.Table]:
    """The tables of one finished run, which is trained in ``root``."""
    plan = load("criteria_ablation").expand("demo", where=["sparsity=0.9", "criterion=snr"], seeds="0")
    store = Store(root, create=True)
    assert execute(plan.specs[0], store, Execution()) == "done"
    store.merge_plan(plan.to_dict("python tests/performance/dashboard.py"))
    collect(store, plan.suite)
    found = {}
    for name in TABLES:
        table = pq.read_table(root / plan.suite / f"{name}.parquet")
        of_run = pc.equal(table["run_id"].cast(pa.string()), plan.specs[0].run_id)
        found[name] = table.filter(of_run).unify_dictionaries().combine_chunks()
    return found


def folder(root: Path, runs: int, like: dict[str, pa.Table]) -> Store:
    """A results folder with tables of so many runs, made of those of one."""
    few = runs < 2000
    variants, sparsities = (VARIANTS[:2], SPARSITIES[::2]) if few else (VARIANTS, SPARSITIES)
    configurations = [(*variant, sparsity) for variant in variants for sparsity in sparsities]
    seeds = -(-runs // len(configurations))
    cells = [cell(*configuration, seed) for configuration in configurations for seed in range(seeds)][:runs]
    store = Store(root, create=True)
    reference = {"method": "ssvi", "criterion": "snr"}
    plan = {
        "schema": 1,
        "suite": SUITE,
        "scale": SCALE,
        "question": "What does a large grid cost to look at?",
    }
    command = "python tests/performance/dashboard.py"
    store.merge_plan({**plan, "reference": reference, "rank_by": None, "command": command, "cells": cells})
    store.write_styles(SUITE, method_styles())
    where, generator = root / SUITE, np.random.default_rng(runs)
    parquet.write_runs(where, runs_table(like["runs"], cells, generator))
    for name in TABLES[1:]:
        write_long(parquet.paths(where)[name], like[name], [c["run_id"] for c in cells], generator)
    return store


def cell(method: str, criterion: str | None, sparsity: float, seed: int) -> dict[str, Any]:
    """A cell of a plan."""
    words = f"{method} sparsity={sparsity:g}" + (f" criterion={criterion}" if criterion else "")
    labels = {"method": method, "criterion": criterion, "sparsity": sparsity, "seed": seed,
              "dataset": "digits", "network": "mlp"}  # fmt: skip
    return {
        "run_id": digest(f"{words} {seed}"), "config_id": digest(words), "label": words, "recipe": "default",
        "labels": {key: value for key, value in labels.items() if value is not None},
        "omitted": None, "alias_of": None, "tuned": False,
    }  # fmt: skip


def digest(text: str) -> str:
    """An id: 12 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def runs_table(like: pa.Table, cells: list[dict[str, Any]], generator: np.random.Generator) -> pa.Table:
    """The table ``runs``: every fiftieth run has failed, the others have figures near those of ``like``."""
    count = len(cells)
    sparsity = np.array([c["labels"]["sparsity"] for c in cells])
    failed = np.arange(count) % 50 == 49
    own: dict[str, list[Any]] = {
        "run_id": [c["run_id"] for c in cells], "config_id": [c["config_id"] for c in cells],
        "config_label": [c["label"] for c in cells], "suite": [SUITE] * count, "scale": [SCALE] * count,
        **{key: [c["labels"].get(key) for c in cells] for key in ("method", "criterion", "sparsity", "seed")},
        "status": np.where(failed, "failed", "done").tolist(),
        "error_kind": [("nan" if bad else None) for bad in failed],
        "error": [("loss is nan at step 7 of stage 'train'" if bad else None) for bad in failed],
        "accuracy": (0.98 - 0.1 * sparsity**4 + generator.normal(0, 0.004, count)).tolist(),
        "density": (1 - sparsity).tolist(), "compression_vs_dense_vi": (0.95 / (1 - sparsity)).tolist(),
        "config.seed": [c["labels"]["seed"] for c in cells], "config.method.sparsity": sparsity.tolist(),
    }  # fmt: skip
    columns = {}
    for field in like.schema:
        value = like[field.name][0].as_py()
        values = own.get(field.name)
        if values is None and pa.types.is_floating(field.type) and value is not None:
            values = (value * (1 + generator.normal(0, 0.03, count))).tolist()
        values = [value] * count if values is None else values
        if field.name in METRICS:
            values = [None if bad else known for bad, known in zip(failed, values, strict=True)]
        columns[field.name] = pa.array(values, field.type)
    return pa.table(columns, like.schema)


def write_long(path: Path, like: pa.Table, ids: list[str], generator: np.random.Generator) -> None:
    """A long table: the rows of ``like`` for each run, with other figures."""
    rows = like.num_rows
    with parquet.writer(path, like.schema) as sink:
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            table = like.take(pa.array(np.tile(np.arange(rows), len(batch))))
            columns = {field.name: table[field.name].combine_chunks() for field in like.schema}
            whose = pa.array(np.repeat(np.arange(len(batch), dtype=np.int32), rows))
            run_ids = pa.DictionaryArray.from_arrays(whose, pa.array(batch))
            columns["run_id"] = run_ids.cast(like.schema.field("run_id").type)
            for field in like.schema:
                # the ends of bins and coverages are the same for all runs
                if pa.types.is_floating(field.type) and field.name not in _PLACES:
                    factor = pa.array(1 + generator.normal(0, 0.01, rows * len(batch)))
                    columns[field.name] = pc.multiply(columns[field.name], factor)
            sink.write_table(pa.table(columns, like.schema))


class Browser:
    """A page of Chromium's, the bytes that it has received, and how long it takes."""

    def __init__(self, browser: Any, address: str) -> None:
        self.address = address
        self.page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
        self.received = 0
        network = self.page.context.new_cdp_session(self.page)
        network.send("Network.enable")
        network.on("Network.webSocketFrameReceived", self._frame)
        network.on("Network.dataReceived", self._data)

    def visit(self, page: str, default: str) -> float:
        """Seconds until a page that is opened anew is drawn."""
        started = time.perf_counter()
        self.page.goto(f"{self.address}/{'' if page == default else page}")
        self._drawn()
        return time.perf_counter() - started

    def filter(self, value: str) -> tuple[float, float]:
        """Seconds until everything is drawn for one more sparsity alone, and kilobytes received."""
        field = self.page.get_by_role("combobox", name="Sparsity")
        before, line = self.received, self.page.evaluate(_LINE)
        field.click()
        field.fill(value)
        option = self.page.get_by_role("option", name=value, exact=True)
        option.wait_for()
        started = time.perf_counter()
        option.click()
        self._changed(line)
        seconds, kilobytes = time.perf_counter() - started, (self.received - before) / 1000
        line = self.page.evaluate(_LINE)
        field.press("Backspace")
        self._changed(line)
        return seconds, kilobytes

    def _changed(self, line: str) -> None:
        self.page.wait_for_function(
            f"line => ({_LINE})() !== line && ({_DRAWN})()", arg=line, timeout=120_000, polling=20
        )

    def _drawn(self) -> None:
        failed = "() => document.querySelector('[data-testid=stException]') !== null"
        self.page.wait_for_function(f"() => ({_DRAWN})() || ({failed})()", timeout=300_000, polling=20)
        if self.page.evaluate(failed):
            raise SystemExit(f"{self.page.url}: the page has raised an error")

    def _frame(self, event: dict[str, Any]) -> None:
        payload = event["response"]["payloadData"]
        # a binary frame comes in base 64
        self.received += len(payload) * 3 // 4 if event["response"]["opcode"] == 2 else len(payload)

    def _data(self, event: dict[str, Any]) -> None:
        self.received += event["dataLength"]


def measured(
    store: Store, pages: list[str], default: str, engine: Any, count: int
) -> tuple[dict[str, Taken], bool]:
    """What each page takes, on a server of its own, and whether that has loaded torch."""
    values = [f"{value:g}" for value in SPARSITIES[::2]][:count]
    found = {}
    with served(store.root) as address:
        Browser(engine, address).visit(default, default)
        for page in pages:
            browser = Browser(engine, address)
            first = browser.visit(page, default)
            warm = statistics.median(browser.visit(page, default) for _ in range(VISITS))
            seconds, kilobytes = [], []
            if page != "definitions":
                for value in values:
                    redrawn, received = browser.filter(value)
                    seconds.append(redrawn)
                    kilobytes.append(received)
            found[page] = taken = Taken(
                first, warm, statistics.median(seconds or [0.0]), float(np.quantile(seconds or [0.0], 0.95)),
                max(kilobytes, default=0.0),
            )  # fmt: skip
            figures = "".join(f"{value:>8.2f}" for value in list(asdict(taken).values())[:4])
            print(f"{page:<14}{figures}{taken.kilobytes:>8.0f}", flush=True)
            browser.page.context.close()
        return found, _has_torch()


def _has_torch() -> bool:
    """Whether the server, a child of this process, has torch's libraries in memory."""
    servers = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one of the browser's that has just ended
            if "streamlit" in process.cmdline():
                servers.append(process)
    assert servers, "no server is there"
    return any("libtorch" in entry.path for p in servers for entry in p.memory_maps())


def missed(found: dict[int, dict[str, Taken]]) -> list[str]:
    """Targets that were missed, a line each."""
    lines = []
    for runs, pages in found.items():
        for page, taken in pages.items():
            for what, value, most in (
                ("warm page", taken.warm, WARM_SECONDS), ("filter, p95", taken.p95, FILTER_SECONDS),
                ("kB a value", taken.kilobytes, KILOBYTES),
            ):  # fmt: skip
                if value > most:
                    lines.append(f"{page}, {runs:,} runs: {what} {value:.2f}, target {most:g}")
    sizes = sorted(found)
    for small, large in itertools.pairwise(sizes):
        for page in found[small]:
            # 10 times the rows may take 1.5 times as long: so much for each factor of 10
            most = RATIO ** np.log10(large / small)
            for what in ("warm", "median"):
                before, after = getattr(found[small][page], what), getattr(found[large][page], what)
                if before and after / before > most:
                    lines.append(f"{page}: {what} {after / before:.2f} times, target {most:.2f}")
    return lines


def main() -> int:
    """Make the folders, look at the pages, print."""
    every = sorted(path.stem for path in (ROOT / "dashboard" / "views").glob("[a-z]*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[200, 20_000])
    parser.add_argument("--pages", nargs="+", choices=every, default=every)
    parser.add_argument("--json", metavar="FILE", help="write the figures to a file too")
    parser.add_argument("--values", type=int, default=10, help="filter values that are tried on each page")
    arguments = parsed(parser, runs=[20], pages=["overview", "definitions"], values=1)
    if executable() is None:
        raise SystemExit("no Chromium: tests/install_chromium.sh installs one, or name it in BENCH_CHROMIUM")
    found: dict[int, dict[str, Taken]] = {}
    with tempfile.TemporaryDirectory() as where, chromium() as engine:
        like = template(Path(where) / "model")
        for runs in arguments.runs:
            store = folder(Path(where) / str(runs), runs, like)
            print(f"\n{runs:,} runs\n{'page':<14}{'first':>8}{'warm':>8}{'filter':>8}{'p95':>8}{'kB':>8}")
            found[runs], torch = measured(store, arguments.pages, "overview", engine, arguments.values)
            print(f"torch {'is' if torch else 'is not'} loaded by the server", flush=True)
            if torch:
                return 1
    if arguments.json:
        text = {str(runs): {page: asdict(t) for page, t in pages.items()} for runs, pages in found.items()}
        Path(arguments.json).write_text(json.dumps(text, indent=1) + "\n")
    if arguments.smoke:  # which says nothing of the targets
        return 0
    lines = missed(found)
    print("\n" + ("\n".join(f"missed: {line}" for line in lines) or "all targets are met"))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
