"""Every benchmark of ``tests/performance`` still gets to its end, and prints its figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dashboard_server import ROOT, required

SCRIPTS = {path.stem: path for path in sorted((ROOT / "tests" / "performance").glob("[a-z]*.py"))}
#: What each prints around a figure; a script that is not named here prints its own of ``FIGURE``.
FIGURES = {
    "dashboard": r"overview +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d +\d+\n",
    "data_path": r"ours, 1 thread / DataLoader, 1 workers: \d+\.\d ",
    "kernels": r"## Layers\n(.|\n)*\| \d+\.\d ms \|(.|\n)*## Trained to the end\n",
    "launch_overhead": r"worker milliseconds a run: +\d+\.\d\n",
    "layer_costs": r"ssvi / masked dense tensors: \d+\.\d\d ",
    "point_layers": r"\| Conv .*\| \d+\.\d\d",
    "recording_share": r"sparsity 0\.98: \d+\.\d % of the run",
    "wide_layers": r"\| 500 \| dense_vi \| 8,\d+ \| \d+\.\d \|",
    "ten_thousand": r"collect, 100 changed +\d+\.\d\d s",
}
FIGURE = r"\d"
#: Has a test of its own below, which asks for more.
MORE = "execution_options"


def marks(name: str) -> list[pytest.MarkDecorator]:
    """What has a browser beside it needs one."""
    return [pytest.mark.browser if name == "dashboard" else pytest.mark.slow]


def smoke(name: str, folder: Path, *arguments: object) -> str:
    """What a script prints in its short form, which must succeed."""
    command = [sys.executable, SCRIPTS[name], "--smoke", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in SCRIPTS if name != MORE])
def test_a_benchmark_gets_to_its_end_and_prints_its_figures(name, tmp_path):
    if name == "dashboard":
        required()
    (folder := tmp_path / "here").mkdir()
    shown = smoke(name, folder)
    assert re.search(FIGURES.get(name, FIGURE), shown), shown
    assert not any(folder.iterdir()), "a short form leaves no file"


@pytest.mark.slow
def test_the_benchmark_of_execution_options_gets_to_its_end_and_measures_each_of_them(tmp_path):
    """On a GPU it is one call of minutes; here a small network on random images, without compilation."""
    shown = smoke(MORE, tmp_path, "--out", out := tmp_path / "options.json")
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 2 * 2 * 4 and all(row["seconds_per_step"] > 0 for row in rows)
    plain, dense, sparse, sparser = (row["flops_per_step"] for row in rows[:4])
    assert dense == 2 * plain
    assert dense > sparse > sparser
    assert shown.count("test accuracy [") == 2 and "random images" in shown


@pytest.mark.slow
def test_figures_of_a_short_form_are_not_kept_among_those_of_the_kernels(tmp_path):
    """They would replace measured ones in the page of the documentation."""
    command = [sys.executable, SCRIPTS["kernels"], "--smoke", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "those of --smoke mean nothing" in done.stderr
    assert not any(tmp_path.iterdir())
