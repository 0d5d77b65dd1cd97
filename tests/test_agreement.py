"""Agreement of rankings against hand values, and its intervals and probability against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.statistics import half_width, rank_agreement


def test_correlations_are_those_of_spearman_between_means():
    generator = np.random.default_rng(3)
    tables = [generator.normal(size=(seeds, 5)) for seeds in (3, 5, 4)]
    found = rank_agreement(tables)
    means = [table.mean(0) for table in tables]
    expected = [[stats.spearmanr(one, other).statistic for other in means] for one in means]
    assert found.pairs == pytest.approx(np.array(expected))
    assert found.mean == pytest.approx(np.mean([expected[0][1], expected[0][2], expected[1][2]]))
    assert (found.low <= found.high).all() and found.mean_low <= found.mean_high


def test_rankings_without_noise_have_no_interval_and_the_smallest_probability():
    table = np.tile(np.arange(5.0), (3, 1))
    found = rank_agreement([table, table, table, table])
    assert (found.mean, found.mean_low, found.mean_high) == pytest.approx((1, 1, 1))
    assert found.p == pytest.approx(1 / 2001, rel=2)
    opposite = rank_agreement([table, -table])
    assert opposite.pairs[0, 1] == pytest.approx(-1) and opposite.p > 0.9


def test_random_rankings_are_called_alike_at_the_level_of_the_test():
    generator, called = np.random.default_rng(1), 0
    for _ in range(60):
        called += rank_agreement([generator.normal(size=(3, 5)) for _ in range(4)]).p < 0.1
    assert 1 <= called <= 14


def test_bad_scores_are_refused():
    with pytest.raises(ValueError, match="two settings"):
        rank_agreement([np.zeros((3, 4))])
    with pytest.raises(ValueError, match="finite"):
        rank_agreement([np.zeros((3, 4)), np.full((3, 4), np.nan)])


def test_the_half_width_is_that_of_the_t_interval():
    values = [1.0, 2.0, 4.0]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2) and np.isnan(half_width([1.0]))
