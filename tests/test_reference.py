"""The committed reference results: whole, readable, and what their page says."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from bench.statistics import summarise
from bench.store import Store

FOLDER = Path(__file__).resolve().parent.parent / "results" / "reference"


def test_the_tables_are_those_of_the_run_folders():
    store = Store(FOLDER)
    for suite in store.suites():
        committed = store.read_tables(suite)
        for name, table in store.tables(suite).items():
            pd.testing.assert_frame_equal(table, committed[name], check_categorical=False, obj=name)


def test_every_figure_of_the_page_is_in_the_tables():
    """Accuracy, NLL and ECE of each configuration, as mean ± half width."""
    store = Store(FOLDER)
    runs = pd.concat([store.read_tables(suite)["runs"] for suite in store.suites()])
    done = runs[runs["status"] == "done"]
    assert len(done) == len(list((FOLDER / "runs").iterdir())) > 60
    page = (FOLDER / "README.md").read_text()
    for row in summarise(done).to_dict("records"):
        shown = [
            f"{factor * row[f'{metric}_mean']:.{digits}f} ± {factor * row[f'{metric}_half_width']:.{digits}f}"
            for metric, factor, digits in (("accuracy", 100, 2), ("nll", 1, 3), ("ece", 100, 2))
        ]
        assert f"| {' | '.join(shown)} |" in page, row["config_label"]


def test_no_path_of_a_machine_is_in_them():
    for path in FOLDER.rglob("*.json*"):
        assert not re.search(r'"/\w', path.read_text()), path
