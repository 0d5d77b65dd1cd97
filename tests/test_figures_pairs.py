"""Two configurations seed by seed, and the pairs of several with corrected p values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.figures import Missing, matrix_of_pairs, seed_differences, verdict
from bench.statistics.multiple import holm
from bench.statistics.seeds import pairwise, ranking
from tests.figure_data import LOOK, identifier, runs

ONE, OTHER, THIRD = map(identifier, range(3))


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    values = [mean + 0.002 * rng.normal(size=6) for mean in (0.95, 0.90, 0.9002)]
    methods = ("ssvi", "rigl", "dense_vi")
    return runs(
        *(
            {"accuracy": list(row), "nll": list(1 - row), "sparsity": 0.9, "method": method}
            for row, method in zip(values, methods, strict=True)
        )
    )


def test_the_verdict_is_a_sentence_with_its_numbers(table):
    said = verdict(table, ONE, OTHER, "accuracy", LOOK)
    assert said.startswith("In accuracy SSVI · 90 % is better than RigL · 90 %: +")
    assert "(n = 6 pairs), differs (p = " in said
    assert "is worse than" in verdict(table, OTHER, ONE, "accuracy", LOOK)
    # of a score that is better low, the lower one is better
    assert "In NLL SSVI · 90 % is better than" in verdict(table, ONE, OTHER, "nll", LOOK)
    assert "is equivalent within ± 0.5 points to" in verdict(table, OTHER, THIRD, "accuracy", LOOK)


def test_what_cannot_be_compared_is_said(table):
    with pytest.raises(Missing, match="two different"):
        verdict(table, ONE, ONE, "accuracy", LOOK)
    apart = table.assign(seed=table["seed"].where(table["config_id"] == ONE, table["seed"] + 10))
    with pytest.raises(Missing, match="share no seed"):
        seed_differences(apart, ONE, OTHER, "accuracy", LOOK)
    with pytest.raises(Missing, match="two configurations"):
        matrix_of_pairs(table, [ONE], "accuracy", LOOK)


def test_each_seed_is_a_mark_and_their_mean_has_an_interval(table):
    chart = seed_differences(table, ONE, OTHER, "accuracy", LOOK)
    seeds, mean = chart.figure.data
    gaps = 100 * (table["accuracy"][:6].to_numpy() - table["accuracy"][6:12].to_numpy())
    assert list(seeds.x) == pytest.approx(list(gaps)) and list(seeds.customdata) == list(range(6))
    half = stats.t.ppf(0.975, 5) * gaps.std(ddof=1) / 6**0.5
    assert mean.x[0] == pytest.approx(gaps.mean()) and mean.error_x.array[0] == pytest.approx(half)


def test_pairs_are_one_family_and_the_matrix_is_symmetric(table):
    found = pairwise(table, "accuracy").set_index(["config_id", "other"])
    assert len(found) == 3
    alone = stats.ttest_rel(table["accuracy"][:6], table["accuracy"][6:12]).pvalue
    # of three configurations, once two differ, only one pair may still be equal
    assert found.loc[(ONE, OTHER), "p_adjusted"] <= 3 * alone * (1 + 1e-9)
    assert (found["p_adjusted"].to_numpy() <= holm(found["p_adjusted"]) + 1e-12).all()
    of_best = ranking(table, "accuracy").set_index("config_id")["p_adjusted"]
    assert found.loc[(ONE, OTHER), "p_adjusted"] == pytest.approx(of_best[OTHER])
    chart = matrix_of_pairs(table, [OTHER, ONE, THIRD], "accuracy", LOOK)
    (cells,) = chart.figure.data
    shades = np.array([[np.nan if cell is None else cell for cell in row] for row in cells.z])
    assert np.array_equal(shades, shades.T, equal_nan=True)
    assert shades[0, 1] == 1 and shades[0, 2] == 0.5 and np.isnan(shades[0, 0])
    assert "Of 3 pairs 2 differ" in chart.alt
    # names stand above the cells, and figures are short, so that a dozen columns fit on a phone
    assert chart.figure.layout.yaxis.showticklabels is False
    assert [note.text[:1] for note in chart.figure.layout.annotations] == ["1", "2", "3"]
    assert all(len(text) <= 5 and not text.startswith("0.") for row in cells.text for text in row)
