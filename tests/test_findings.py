"""Sentences of docs/findings.md follow from the tables, whatever these hold."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from bench.reporting.findings import findings
from tests.claimed_runs import DENSE, runs

REPORTED = Path(__file__).resolve().parent.parent / "results" / "paper_reported.csv"
NAMES = [
    *("claims of the paper", "kept accuracy", "moving subspace", "criteria", "posterior", "rivals"),
    *("does not hold", "not shown"),
]
GAINS = {"posterior_gain_nll": 0.02, "posterior_gain_ece": 0.0}


class Results:
    """A results folder in memory: the runs and references of each suite, at one scale."""

    def __init__(self, **suites):
        self._suites = suites

    def suites(self):
        return list(self._suites)

    def scales(self, suite):
        return [self._suites[suite][0]["scale"].iloc[0]]

    def read_tables(self, suite, names):
        empty = pd.DataFrame(
            columns=["run_id", "metric", "split", "shift", "predictor", "criterion_a", "criterion_b", "iou"]
        )
        return {name: self._suites[suite][0] if name == "runs" else empty for name in names}

    def references(self, suite, scale):
        return self._suites[suite][1]


def sweep(**more):
    """SSVI and a fixed subspace at two sparsities, and dense VI."""
    table = runs(
        {"config_id": "moving", "accuracy": 0.89},
        {"config_id": "sparser", "sparsity": 0.98, "accuracy": 0.8},
        {"config_id": "fixed", "method": "static_vi", "accuracy": 0.85, "nll": 0.5}, DENSE, **more,
    )  # fmt: skip
    return table, dict.fromkeys(["moving", "sparser", "fixed"], "dense")


@pytest.fixture(scope="module")
def told():
    baselines = runs(
        {"config_id": "ssvi"}, {"config_id": "rigl", "method": "rigl", "nll": 0.2, "spread": 0.002},
        {"config_id": "long", "budget": "flops"}, {"config_id": "other", "method": "rigl", "budget": "flops"},
        DENSE, **GAINS,
    )  # fmt: skip
    criteria = runs({"config_id": "abs_mean", "criterion": "abs_mean"}, {"config_id": "snr", "nll": 0.3})
    return findings(
        Results(
            sparsity_sweep=sweep(),
            baselines=(baselines, dict.fromkeys(baselines["config_id"].unique(), "ssvi")),
            criteria_ablation=(criteria, {"snr": "abs_mean", "abs_mean": "abs_mean"}),
        ),
        REPORTED,
    )


def test_every_part_is_written(told):
    assert list(told) == NAMES
    assert all(text.strip() for text in told.values())


def test_what_sparsity_costs_is_told_with_intervals_pairs_and_verdicts(told):
    text = told["kept accuracy"]
    assert (
        "- 13.0 times smaller at sparsity 0.95: accuracy -1.00 ± 0.25 points (n = 3), surely within" in text
    )
    assert "Accuracy less that of dense VI: of 2 comparisons, 2 differ, 0 are equivalent and 0" in text
    assert (
        "Surely different: `ssvi` (sparsity 0.98) -10.00 ± 0.25 points (n = 3); `ssvi` (sparsity 0.95)"
        in text
    )
    rows = [line for line in text.splitlines() if line.startswith("| `ssvi`")]
    assert [row.split(" | ")[0] for row in rows] == ["| `ssvi` (sparsity 0.95)", "| `ssvi` (sparsity 0.98)"]
    assert "| 13.0 | 20.0 | 3 | -1.00 ± 0.25 points | differs" in rows[0]


def test_a_fixed_subspace_is_compared_with_ssvi_at_its_sparsity_alone(told):
    text = told["moving subspace"]
    assert (
        "NLL of a subspace that never moves less that of SSVI at the same sparsity: of 1 comparison" in text
    )
    assert "`static_vi` (sparsity 0.95) +0.200 ± 0.000 nats (n = 3)" in text


def test_rivals_are_compared_under_their_own_budget(told):
    text = told["rivals"]
    epochs, flops = (
        [line for line in text.splitlines() if f"both {how}" in line and line.startswith("- NLL")]
        for how in ("in as many epochs", "with the training FLOPs of dense VI")
    )
    assert "of 2 comparisons" in epochs[0] and "`rigl` (sparsity 0.95, budget epochs) -0.100 ±" in epochs[0]
    assert "of 1 comparison" in flops[0] and "budget epochs" not in flops[0]


def test_claims_that_fail_are_where_it_does_not_hold(told):
    assert (
        "- SSVI is ahead of other sparse networks in accuracy and uncertainty. Not in `baselines`"
        in (told["does not hold"])
    )
    failed = told["claims of the paper"].count("Fails here.")
    assert failed <= told["does not hold"].count("\n- ") + 1


def test_without_results_every_part_says_so():
    told = findings(Results(), REPORTED)
    assert list(told) == NAMES
    for name in ("kept accuracy", "moving subspace", "criteria", "posterior", "rivals", "does not hold"):
        assert told[name].strip() == "No results that are here answer this."
    assert len(re.findall("Undecided in the nearest setting", told["not shown"])) == 6
    assert "scale `paper`: no results with 3 seeds are here" in told["not shown"]


def test_settings_with_two_seeds_are_not_told_of():
    told = findings(Results(sparsity_sweep=sweep(seeds=2)), REPORTED)
    assert told["kept accuracy"].strip() == "No results that are here answer this."


def test_results_of_the_papers_scale_are_no_longer_missing():
    told = findings(Results(sparsity_sweep=sweep(scale="paper")), REPORTED)
    assert "no results with 3 seeds" not in told["not shown"]
