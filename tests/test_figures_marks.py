"""Of whom a mark is: every chart tells the configuration and the method of what a reader can click."""

from __future__ import annotations

from functools import cache
from html import unescape
from pathlib import Path

import pytest

import bench
from bench import figures
from bench.figures import Look
from bench.figures.parts.configurations import whose
from tests.figure_data import runs

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"


@cache
def tables(suite):
    return bench.tables(suite, REFERENCE, scale="demo")


@cache
def references(suite):
    from bench.results.store import Store

    return Store(REFERENCE).references(suite, "demo")


def chosen(suite):
    return figures.one_a_method(tables(suite)["runs"])


def of_first(suite, column):
    """The runs of the first configuration that a table has rows of."""
    runs, rows = tables(suite)["runs"], tables(suite)[column]
    known = runs[runs["run_id"].isin(rows["run_id"].astype(str))]
    return known[known["config_id"].isin(known["config_id"].unique()[:2])]


#: Every chart whose marks are of configurations, from the reference results.
CHARTS = {
    "tradeoff": lambda: figures.tradeoff(tables("baselines")["runs"]),
    "tradeoff of ECE": lambda: figures.tradeoff(tables("baselines")["runs"], score="ece"),
    "forest": lambda: figures.forest(tables("baselines")["runs"], references("baselines")),
    "criteria": lambda: figures.criteria(
        tables("criteria_ablation")["runs"], "nll", references("criteria_ablation"), single_seeds=True
    ),
    "speed": lambda: figures.speed(
        tables("baselines")["runs"].assign(step_time_ratio=0.5), "train_flops_ratio", "step_time_ratio"
    ),
    "stored": lambda: figures.stored(tables("baselines")["runs"]),
    "responses": lambda: figures.responses(tables("hyperparameters")["runs"]),
    "gain": lambda: figures.posterior_gain(tables("posterior")["runs"], "posterior_gain_nll"),
    "seeds": lambda: figures.seed_differences(tables("baselines")["runs"], *chosen("baselines")[:2], "nll"),
    "pairs": lambda: figures.matrix_of_pairs(tables("baselines")["runs"], chosen("baselines"), "nll"),
    "subspace": lambda: figures.subspace(
        tables("subspace_evolution")["layers"], of_first("subspace_evolution", "layers"),
        next(iter(figures.MOVES)),
    ),
    "settling": lambda: figures.settling(
        tables("subspace_evolution")["history"], of_first("subspace_evolution", "history")
    ),
    "convergence": lambda: figures.convergence(
        tables("initialisation")["history"], tables("initialisation")["runs"]
    ),
    "seed curves": lambda: figures.seed_curves(
        tables("initialisation")["history"], of_first("initialisation", "history"), "nll val"
    ),
    "run curves": lambda: figures.run_curves(
        tables("initialisation")["history"], of_first("initialisation", "history").head(3), "nll val"
    ),
    "reliability": lambda: figures.reliability(
        tables("baselines")["runs"], tables("baselines")["calibration"], tables("baselines")["metrics"],
        chosen("baselines"), "samples", "test",
    ),
    "scaling": lambda: figures.scaling(
        tables("baselines")["runs"], tables("baselines")["metrics"], "ece", "samples", "test"
    ),
    "risk-coverage": lambda: figures.risk_coverage(
        tables("baselines")["runs"], tables("baselines")["selective"], chosen("baselines"), "samples", "test"
    ),
    "unknown": lambda: figures.matrix(
        tables("ood")["runs"], tables("ood")["metrics"], next(iter(figures.DETECTORS)), "samples"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARTS)
def test_every_mark_that_answers_the_pointer_tells_whose_it_is(name):
    chart = CHARTS[name]()
    traces = [trace for trace in chart.figure.data if trace.hoverinfo != "skip"]
    assert traces
    for trace in traces:
        assert set(trace.meta) == {"config_id", "method"}
        count = len(trace.z if trace.type == "heatmap" else trace.y)
        for told in trace.meta.values():
            assert isinstance(told, str) or len(told) == count


@pytest.mark.parametrize("name", ["tradeoff", "forest", "reliability", "responses", "speed", "stored"])
def test_marks_tell_the_configuration_that_their_tooltip_names(name):
    chart = CHARTS[name]()
    suite = "hyperparameters" if name == "responses" else "baselines"
    known, look = tables(suite)["runs"].drop_duplicates("config_id"), Look.of(tables(suite)["runs"])
    names = dict(zip(known["config_id"], known["config_label"].map(look.configuration), strict=True))
    pairs = 0
    for trace in chart.figure.data:
        if trace.hoverinfo == "skip" or trace.customdata is None:
            continue
        ids = trace.meta["config_id"]
        ids = [ids] * len(trace.customdata) if isinstance(ids, str) else ids
        for config_id, told in zip(ids, trace.customdata, strict=True):
            assert names[config_id] == unescape(str(told[0]))
            pairs += 1
    assert pairs > 3


def test_what_holds_for_all_marks_is_told_once():
    table = runs({"method": "rigl", "seed": [0, 1]}, {"method": "ssvi"})
    assert whose(table[table["method"] == "rigl"]) == {"config_id": "000000000000", "method": "rigl"}
    assert whose(table)["method"] == ["rigl", "rigl", "ssvi"]
