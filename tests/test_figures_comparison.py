"""Two configurations in detail, and ranks over data sets: numbers by hand, and refusals in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.figures import Missing, compare, middle, ranks
from tests.figure_data import LOOK, identifier, runs


def configuration(values, **more):
    return {"sparsity": 0.9, "accuracy": list(values), "nll": 0.5, **more}


def rows(table):
    return {row["what"]: row for row in table.to_dict("records")}


def test_three_seeds_have_a_t_interval_and_a_share_and_the_rest_is_refused_in_words():
    table = runs(configuration([0.92, 0.94, 0.93]), configuration([0.90, 0.91, 0.94], method="rigl"))
    found = rows(compare(table, identifier(0), identifier(1), "accuracy"))
    differences = 100 * np.array([0.02, 0.03, -0.01])
    mean = found["mean difference, paired by seed, t-interval"]
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / math.sqrt(3)
    assert (mean["value"], mean["low"], mean["high"]) == pytest.approx(
        (differences.mean(), differences.mean() - half, differences.mean() + half)
    )
    assert mean["p"] == pytest.approx(stats.ttest_1samp(differences, 0).pvalue) and mean["n"] == 3
    share = found["probability that accuracy is better under the same seed"]
    assert share["value"] == pytest.approx(2 / 3) and 0 < share["low"] < 2 / 3 < share["high"] < 1
    for what in ("Wilcoxon signed-rank test", "mean difference, percentile bootstrap"):
        assert math.isnan(found[what]["p"]) and math.isnan(found[what]["value"])
        assert "at least 10 seeds, and has 3" in found[what]["words"]


def test_ten_seeds_have_all_of_it():
    one = np.linspace(0.90, 0.95, 10)
    other = one - np.linspace(0.001, 0.010, 10)
    table = runs(configuration(one), configuration(other, method="rigl"))
    found = rows(compare(table, identifier(0), identifier(1), "accuracy"))
    assert found["Wilcoxon signed-rank test"]["p"] == pytest.approx(2 / 2**10)
    mean = found["mean difference, percentile bootstrap"]
    assert mean["value"] == pytest.approx(0.55) and 0.1 < mean["low"] < 0.55 < mean["high"] < 1.0
    assert not any(row["words"] for row in found.values())


def test_of_a_score_that_is_better_low_the_lower_one_is_better():
    table = runs(configuration([0.9] * 3, nll=[0.1, 0.2, 0.3]), configuration([0.9] * 3, nll=[0.2, 0.3, 0.4]))
    found = rows(compare(table, identifier(0), identifier(1), "nll"))
    assert found["probability that NLL is better under the same seed"]["value"] == 1


def test_what_cannot_be_compared_is_said():
    table = runs(configuration([0.9, 0.9]), configuration([0.8, 0.95, 0.7], seed=[5, 6, 7]))
    (row,) = compare(table, identifier(0), identifier(1), "accuracy").to_dict("records")
    assert row["value"] == pytest.approx(4 / 6) and row["n"] == 2 and "share no seed" in row["what"]
    assert row["low"] < row["value"] < row["high"]
    for one, other in ((0, 0), (0, 9)):
        with pytest.raises(Missing, match="Choose two different configurations that have accuracy"):
            compare(table, identifier(one), identifier(other), "accuracy")


def on(datasets, values):
    """A configuration a data set and method, with the scores ``values[method]`` over data sets."""
    return runs(
        *(
            configuration(
                [score, score], method=method, dataset=dataset, config_label=f"{method} dataset={dataset}"
            )
            for method, scores in values.items()
            for dataset, score in zip(datasets, scores, strict=True)
        )
    )


def test_ranks_over_data_sets_by_hand():
    """ssvi is first four times and second once, dense_vi second thrice and so on."""
    values = {
        "ssvi": [0.9, 0.9, 0.9, 0.9, 0.8],
        "dense_vi": [0.8, 0.8, 0.8, 0.7, 0.9],
        "rigl": [0.7, 0.7, 0.7, 0.8, 0.7],
    }
    chart = ranks(on("abcde", values), "accuracy", LOOK)
    assert dict(zip(chart.data["configuration"], chart.data["rank"], strict=True)) == pytest.approx(
        {"ssvi": 1.2, "dense_vi": 2.0, "rigl": 2.8}
    )
    # Demšar's table 5: 2.343 for three, times the root of 3 * 4 / (6 * 5)
    assert list(chart.data["tied_with_best"]) == [
        rank - 1.2 < 2.343 * math.sqrt(12 / 30) for rank in (1.2, 2, 2.8)
    ]
    assert chart.figure.layout.shapes[0].x1 == pytest.approx(1.2 + 2.343 * math.sqrt(12 / 30), abs=1e-3)


def test_few_data_sets_are_refused_in_words():
    with pytest.raises(Missing, match="needs at least 5 data sets, and has 2"):
        ranks(on("ab", {"ssvi": [0.9, 0.8], "rigl": [0.8, 0.9], "dense_vi": [0.7, 0.7]}), "accuracy", LOOK)
    with pytest.raises(Missing, match="at least 2 of them, and has 1"):
        middle(on("a", {"ssvi": [0.9]}), "accuracy")
    with pytest.raises(Missing, match="at least 10 seeds in every data set, and has 2"):
        middle(on("ab", {"ssvi": [0.9, 0.8], "rigl": [0.8, 0.9]}), "accuracy")


def test_the_middle_of_all_runs_is_relative_to_each_test_set():
    seeds = np.linspace(-0.01, 0.01, 12)
    table = runs(
        configuration(0.9 + seeds, dataset="a", config_label="ssvi dataset=a"),
        configuration(0.45 + seeds / 2, dataset="b", config_label="ssvi dataset=b"),
        configuration(0.7 + seeds, dataset="a", method="rigl", config_label="rigl dataset=a"),
        configuration(0.35 + seeds / 2, dataset="b", method="rigl", config_label="rigl dataset=b"),
    )
    found = middle(table, "accuracy").set_index("configuration")
    assert found["value"].to_dict() == pytest.approx({"ssvi": 0.9 / 0.8, "rigl": 0.7 / 0.8})
    assert (found["low"] < found["value"]).all() and (found["value"] < found["high"]).all()
