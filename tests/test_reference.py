"""The committed reference results: readable, of this version, small, and what the pages about them say."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from bench.figures import axes
from bench.results import styles
from bench.results.store import Store
from bench.statistics.seeds import paired, summarise
from tests import claims

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "results" / "reference"
#: Suites whose comparisons need the most seeds, and those that ask one open question each.
HEADLINE = ("baselines", "criteria_ablation", "ood", "posterior", "sparsity_sweep")
QUESTIONS = (
    *("adaptive", "architectures", "high_dimensional", "hyperparameters", "initialisation", "kl_schedule"),
    "subspace_evolution",
)
#: Of what every page may give figures: shown as in the dashboard.
SCORES = ("accuracy", "nll", "brier", "ece")
#: Of these, each configuration's own mean.
GAINS = ("posterior_gain_nll", "posterior_gain_ece")


@pytest.fixture(scope="module")
def store():
    return Store(FOLDER)


def test_every_table_is_one_that_this_version_reads(store):
    """Fails when a column is added or changes: ``make reference`` computes and publishes them again."""
    assert store.published
    assert store.suites() == sorted(HEADLINE + QUESTIONS)
    for suite in store.suites():
        runs = store.read_tables(suite)["runs"]
        assert (runs["status"] == "done").all() and len(runs) > 60
        assert store.read_styles(suite).keys() >= set(runs["method"])
        assert store.read_styles(suite, styles.CRITERIA).keys() >= set(runs["criterion"].dropna())
        assert {plan["scale"] for plan in store.plans(suite)} == set(runs["scale"])


def test_headline_cells_have_ten_seeds_and_questions_their_own(store):
    for suite in QUESTIONS:
        seeds = store.read_tables(suite, ["runs"])["runs"].groupby("config_label")["seed"].nunique()
        assert seeds.min() == seeds.max() == {"adaptive": 10, "high_dimensional": 3}.get(suite, 5)
    for suite in HEADLINE:
        runs = store.read_tables(suite, ["runs"])["runs"]
        seeds = runs[runs["scale"] == "demo"].groupby("config_label")["seed"].nunique()
        assert seeds.min() >= 3 and (seeds == 10).sum() >= 12


def test_they_are_small_and_say_where_they_come_from(store):
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size < 12e6
    for suite in store.suites():
        runs = store.read_tables(suite, ["runs"])["runs"]
        assert runs[["git_sha", "torch_version", "started_at", "device"]].notna().all(axis=None)
        assert not runs.loc[runs["scale"] == "demo", "git_sha"].str.contains("+", regex=False).any()
        assert store.commands(suite, "demo")


def test_no_path_of_a_machine_is_in_them():
    for path in FOLDER.rglob("*.json*"):
        assert not re.search(r"""["'\s=]/\w""", path.read_text()), path


# -- what the pages about them say ---------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(store):
    """Every mean and paired difference with its half width, as text in the digits of views."""
    found = set()
    for suite in store.suites():
        runs = store.read_tables(suite, ["runs"])["runs"]
        for metric in SCORES + GAINS:
            axis = axes()[metric]
            rows = [(row[f"{metric}_mean"], row[f"{metric}_half_width"]) for row in _summaries(runs, metric)]
            if metric in SCORES:
                rows += [(row["difference"], row["half_width"]) for row in _differences(runs, metric)]
            for mean, half in rows:
                value, width = (f"{abs(number) * axis.factor:.{axis.digits}f}" for number in (mean, half))
                found.add(f"{value} ± {width}")
    return found


def _summaries(runs, metric):
    return summarise(runs, metrics=[metric]).to_dict("records")


#: What a comparison of a metric needs of the table ``runs``.
COMPARED = ["scale", "dataset", "network", "config_id", "seed", "run_id", "status"]
SPLIT = ["test_set", "train_examples", "test_examples"]


def _differences(runs, metric):
    """Of every two configurations of a test set, as the page Significance has them.

    In one call: the runs of a configuration are repeated under another id for each that it is compared with.
    """
    for _, part in runs.groupby(["scale", "dataset", "network"], observed=True):
        part = part[[*COMPARED, *SPLIT, metric]].astype({"config_id": str, "run_id": str})
        pairs = pd.DataFrame(combinations(part["config_id"].unique(), 2), columns=["config_id", "other"])
        pairs["pair"] = pairs["config_id"] + " " + pairs["other"]
        mine = part.merge(pairs, on="config_id")
        mine = mine.assign(config_id=mine["pair"], run_id=mine["run_id"] + " " + mine["other"])
        both = pd.concat([part, mine[part.columns]], ignore_index=True)
        others = dict(zip(pairs["pair"], pairs["other"], strict=True))
        yield from paired(both, metric, others).to_dict("records")


def test_every_figure_of_the_page_is_in_the_tables(figures):
    text = (FOLDER / "README.md").read_text()
    said = re.findall(r"(\d+\.\d+ ± \d+\.\d+)", text)
    assert len(said) > 10
    assert sorted(set(said) - figures) == []


def test_the_findings_are_what_the_tables_say():
    """Fails when tables or words of the report change: ``make findings`` writes them again."""
    text = claims.PAGE.read_text()
    assert text.count("<!-- end of the table -->") == 4 and text.count("<!-- end of the part -->") == 8
    assert claims.written(text) == text


def test_no_figure_of_the_findings_is_typed():
    """Whole numbers are only those of a heading, a level of confidence, and names."""
    typed = claims.unwritten(claims.PAGE.read_text())
    assert len(typed) > 3000
    assert re.findall(r".*(?:\d\.\d|± ?\d|n = ).*", typed) == []
    allowed = {"10", "20", "95", "100", "18", "2003"}
    assert set(re.findall(r"\d+", typed)) <= allowed


def test_the_page_names_every_configuration_that_it_should(store):
    """Of the small grids, whose tables stand on the page, none is left out."""
    page = (FOLDER / "README.md").read_text()
    runs = pd.concat([store.read_tables(suite, ["runs"])["runs"] for suite in store.suites()])
    for row in summarise(runs[runs["scale"] == "small"]).to_dict("records"):
        shown = f"{100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_half_width']:.2f}"
        assert shown in page, row["config_label"]
