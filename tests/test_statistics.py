"""Statistics against published tables, scipy's own answers, hand arithmetic and simulated coverage."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.figures import tradeoff
from bench.statistics import nonparametric
from bench.statistics.multiple import ALPHA, holm, shaffer
from bench.statistics.nonparametric import (
    TooFew,
    average_ranks,
    bootstrap_interval,
    interquartile_mean,
    superiority,
    wilcoxon,
    wilson,
)
from bench.statistics.seeds import (
    LEVEL,
    by_seed,
    paired,
    pareto_front,
    ranking,
    summarise,
)
from bench.statistics.splits import scope
from tests.fuzzing import tries

pytestmark = pytest.mark.filterwarnings("error")
TEN = [0.3, 1.1, -0.4, 0.9, 0.2, 0.8, 1.6, -0.1, 0.7, 0.5]


def runs(values, **columns):
    """A table ``runs`` of accuracies: ``values`` is config_id to {seed: accuracy}, or to a list of them."""
    rows = []
    for config_id, row in values.items():
        seeds = row.items() if isinstance(row, dict) else enumerate(row)
        rows += [
            {"scale": "demo", "config_id": config_id, "seed": seed, "status": "done", "accuracy": value}
            for seed, value in seeds
        ]
    table = pd.DataFrame(rows).assign(**columns)
    table["run_id"] = table["config_id"] + "-" + table["seed"].astype(str) + table["scale"]
    return table


def grid(values, **columns):
    """A table ``runs`` from an array (data sets, seeds, configurations)."""
    shape = values.shape
    dataset, seed, config = (index.ravel() for index in np.indices(shape))
    table = pd.DataFrame({"scale": "demo", "status": "done", "seed": seed, "accuracy": values.ravel()})
    table["dataset"] = [f"d{i}" for i in dataset]
    table["config_id"] = [f"d{i}c{j}" for i, j in zip(dataset, config, strict=True)]
    table["run_id"] = [f"r{i}" for i in range(len(table))]
    return table.assign(**columns)


# -- means over seeds -----------------------------------------------------------------


def test_means_and_intervals_are_those_of_scipy():
    values = np.random.default_rng(0).normal(size=(1, 5, 4))
    found = summarise(grid(values), metrics=["accuracy"])
    low, high = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert found["config_id"].tolist() == ["d0c0", "d0c1", "d0c2", "d0c3"]
    mean, half = found["accuracy_mean"].to_numpy(), found["accuracy_half_width"].to_numpy()
    assert mean - half == pytest.approx(low) and mean + half == pytest.approx(high)
    assert found["accuracy_n"].tolist() == [5] * 4


def test_a_mean_skips_nulls_failures_and_the_copies_of_other_suites():
    table = runs({"a": [0.5, None, 0.7], "b": [0.4], "c": [None]})
    failed = table.assign(accuracy=9.0, status="failed", run_id="other")
    found = summarise(pd.concat([table, failed, table.assign(suite="t")]), metrics=["accuracy"])
    assert found["accuracy_mean"].tolist() == pytest.approx([0.6, 0.4, math.nan], nan_ok=True)
    assert found["accuracy_n"].tolist() == [2, 1, 0]
    # t of one degree of freedom is 12.706, the standard error of the mean 0.1
    half = found["accuracy_half_width"].tolist()
    assert half == pytest.approx([1.2706, math.nan, math.nan], rel=1e-4, nan_ok=True)


def test_groups_stand_in_order_of_appearance_with_what_their_runs_agree_on():
    table = runs({"b": [0.5, 0.7], "a": [0.4]}, method="ssvi")
    table["criterion"], table["recipe"] = ["snr", None, "snr"], ["default", "default", "released"]
    found = summarise(table, metrics=["accuracy"])
    assert found.columns.tolist()[:5] == ["scale", "config_id", "recipe", "method", "criterion"]
    assert found["config_id"].tolist() == ["b", "a"] and found["recipe"].tolist() == ["default", "released"]
    assert found["criterion"].isna().tolist() == [True, False]  # a null is not lent the other run's
    other = summarise(table, by="criterion", metrics=["accuracy"])
    assert other["criterion"].isna().tolist() == [False, True] and other["accuracy_n"].tolist() == [2, 1]


def test_scales_are_summarised_apart():
    table = pd.concat([runs({"a": [0.25, 0.75]}), runs({"a": [1.0]}, scale="small")])
    found = summarise(table, metrics=["accuracy"])
    assert found[["scale", "accuracy_mean"]].values.tolist() == [["demo", 0.5], ["small", 1.0]]


def test_t_intervals_of_three_seeds_cover_95_percent():
    """4,000 simulated configurations: the standard error of the share is 0.35 %, the tolerance three."""
    values = np.random.default_rng(1).normal(0.9, 0.01, size=(1, 3, 4000))
    found = summarise(grid(values), metrics=["accuracy"])
    covers = (found["accuracy_mean"] - 0.9).abs() <= found["accuracy_half_width"]
    assert covers.mean() == pytest.approx(0.95, abs=0.0105)


def test_nullable_columns_and_categories_are_as_good_as_plain_ones():
    table = runs({"a": [0.5, None, 0.75], "b": [0.25, 0.5, 0.5]}, network="n")
    kinds = {"scale": "category", "config_id": "category", "network": "category"}
    typed = table.astype({"accuracy": "Float64", "seed": "Int64", **kinds})
    typed = (
        pd.concat([typed, typed.head(1).assign(config_id="c")]).astype(kinds).head(6)
    )  # an unused category
    calls = {summarise: ("config_id", ["accuracy"]), paired: ("accuracy", {"a": "b"}), ranking: ("accuracy",)}
    for function, more in calls.items():
        plain, found = function(table, *more), function(typed, *more)
        kept = plain.dtypes.to_dict()
        pd.testing.assert_frame_equal(found.astype(kept), plain, check_column_type=False)


def test_seeds_by_configurations():
    table = by_seed(runs({"b": {3: 0.1, 1: 0.2}, "a": {1: 0.3, 2: None}}), "accuracy")
    assert table.columns.tolist() == ["b", "a"] and table.index.tolist() == [1, 3]
    assert table.loc[1].tolist() == [0.2, 0.3] and math.isnan(table.loc[3, "a"])


def test_seeds_of_several_scales_make_no_matrix():
    table = pd.concat([runs({"a": [0.1]}), runs({"a": [0.2]}, scale="small")])
    with pytest.raises(ValueError, match="runs of several scales: demo, small"):
        by_seed(table, "accuracy")


@pytest.mark.parametrize(
    "call",
    [
        lambda table: summarise(table, metrics=["foo"]),
        lambda table: by_seed(table, "foo"),
        lambda table: paired(table, "foo", {"a": "b"}),
        lambda table: ranking(table, "foo"),
        lambda table: tradeoff(table, "foo"),
    ],
    ids=["summarise", "by_seed", "paired", "ranking", "tradeoff"],
)
def test_a_column_that_does_not_exist_is_said_in_words(call):
    with pytest.raises(ValueError, match=r"column 'foo'; valid: .*accuracy"):
        call(runs({"a": [0.1, 0.2], "b": [0.2, 0.3]}))


# -- differences to a reference ---------------------------------------------------------


def test_paired_differences_and_p_are_those_of_scipy():
    mine, theirs = {0: 0.91, 1: 0.95, 2: 0.90, 3: 0.99}, {2: 0.88, 0: 0.90, 1: 0.91, 7: 0.1}
    (row,) = paired(runs({"a": mine, "r": theirs}), "accuracy", {"a": "r"}).to_dict("records")
    test = stats.ttest_rel([mine[s] for s in (0, 1, 2)], [theirs[s] for s in (0, 1, 2)])
    low, high = test.confidence_interval(0.95)
    assert (row["difference"] - row["half_width"], row["difference"] + row["half_width"]) == pytest.approx(
        (low, high)
    )
    assert row["p"] == pytest.approx(test.pvalue) and row["p_holm"] == row["p"] and row["n"] == 3


def test_holms_family_is_what_is_compared_on_one_scale_and_test_set():
    values = np.random.default_rng(2).normal(size=(2, 6, 4))
    table = grid(values)
    references = {config_id: f"{config_id[:2]}c0" for config_id in table["config_id"].unique()}
    both = pd.concat([table, table[table["dataset"] == "d0"].assign(scale="small")])
    found = paired(both, "accuracy", references).set_index(["scale", "config_id"])
    for scale, place in (("demo", 0), ("demo", 1), ("small", 0)):
        p = [stats.ttest_rel(values[place, :, j], values[place, :, 0]).pvalue for j in (1, 2, 3)]
        mine = found.loc[[(scale, f"d{place}c{j}") for j in (1, 2, 3)]]
        assert mine["p"].tolist() == pytest.approx(p)
        assert mine["p_holm"].tolist() == pytest.approx(list(holm(p)))  # the reference isn't a fourth test
        assert found.loc[(scale, f"d{place}c0"), "p_holm"] == 1


def test_the_network_is_part_of_the_test_set():
    table = runs({"a": [0.1, 0.3, 0.2], "b": [0.2, 0.5, 0.3], "r": [0.0, 0.0, 0.1]}, dataset="d", network="n")
    table.loc[table["config_id"] == "b", "network"] = "m"
    found = paired(table, "accuracy", {"a": "r", "b": "r"})
    assert found["p_holm"].tolist() == found["p"].tolist()


def test_differences_without_variance():
    """Identical numbers: no evidence at all. A constant difference: no doubt left, and no warning."""
    values = {"r": [0.25, 0.5, 0.75], "same": [0.25, 0.5, 0.75], "more": [0.5, 0.75, 1.0], "one": [0.5]}
    found = paired(runs(values), "accuracy", dict.fromkeys(values, "r")).set_index("config_id")
    columns = ["difference", "half_width", "p", "p_holm"]
    assert found.loc["same", columns].tolist() == [0, 0, 1, 1]
    assert found.loc["r", columns].tolist() == [0, 0, 1, 1]
    assert found.loc["more", columns].tolist() == [0.25, 0, 0, 0]
    assert found.loc["one", "difference"] == 0.25 and found.loc["one", columns[1:]].isna().all()


def test_holms_own_steps():
    """p times 4, 3, 2, 1 in rising order, never below the one before: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, math.nan, 0.5]) == pytest.approx([1, math.nan, 1], nan_ok=True)
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_step_down_rejects(p):
    """Holm (1979): in rising order while p(k) < α / (m - k + 1), and nothing after the first failure."""
    rejected = set()
    for step, place in enumerate(np.argsort(p, kind="stable")):
        if not p[place] * (len(p) - step) < 0.05:
            break
        rejected.add(int(place))
    assert set(np.flatnonzero(holm(p) < 0.05)) == rejected


# -- verdicts ---------------------------------------------------------------------------


def test_equivalence_is_two_one_sided_tests():
    differences = [0.001, -0.002, 0.0015, 0.0005, -0.001]
    table = runs({"a": np.array([0.5] * 5) + differences, "r": [0.5] * 5})
    (row,) = paired(table, "accuracy", {"a": "r"}).to_dict("records")
    margin = 0.005  # that of bench/columns.yaml
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    assert row["p_equivalent"] == pytest.approx(max(above, below)) and row["verdict"] == "equivalent"
    (row,) = paired(table, "accuracy", {"a": "r"}, margin=0.001).to_dict("records")
    assert row["verdict"] == "undecided" and row["p_equivalent"] > 0.05
    (row,) = paired(table, "accuracy", {"a": "r"}, margin=math.nan).to_dict("records")
    assert row["verdict"] == "undecided" and math.isnan(row["p_equivalent"])


def test_a_significant_difference_differs_however_small():
    values = {"a": [0.5011, 0.501, 0.5009, 0.501], "r": [0.5, 0.5, 0.5, 0.5]}
    (row,) = paired(runs(values), "accuracy", {"a": "r"}).to_dict("records")
    assert row["verdict"] == "differs" and row["p_equivalent"] < 0.05


def test_the_smallest_difference_is_where_significance_begins():
    """Shifted until its mean is a little above or below, the clearest comparison is or is not significant."""
    noise = np.array([0.01, -0.02, 0.005, 0.003, 0.002])
    values = {"r": [0.5] * 5, "b": [0.5, 0.51, 0.49, 0.505, 0.52], "c": [0.6, 0.4, 0.5, 0.55, 0.45]}
    references = {"a": "r", "b": "r", "c": "r"}

    def row(shift):
        found = paired(runs({"a": 0.5 + noise + shift, **values}), "accuracy", references)
        return found.set_index("config_id").loc["a"]

    smallest = row(0.3)["smallest"]
    assert row(smallest * 1.001)["verdict"] == "differs"
    assert row(smallest * 0.999)["verdict"] == "undecided"


def test_a_noisy_configuration_is_undecided_where_a_quiet_one_with_a_better_mean_is_worse():
    """The noisy one is not among the best because little is known of it: it has a verdict of its own."""
    rng = np.random.default_rng(0)
    best, quiet = 0.92 + 0.001 * rng.normal(size=10), 0.91 + 0.001 * rng.normal(size=10)
    noisy = 0.85 + 0.15 * rng.normal(size=10)
    near = best + 0.0005 * rng.normal(size=10)
    found = ranking(runs({"best": best, "quiet": quiet, "noisy": noisy, "near": near}), "accuracy")
    verdict = found.set_index("config_id")["verdict"]
    first, second = ("best", "near") if best.mean() > near.mean() else ("near", "best")
    assert verdict[first] == "best" and verdict[second] == "equivalent"
    assert (verdict["quiet"], verdict["noisy"]) == ("worse", "undecided")


def test_shaffers_own_example():
    """Of ten equalities among five groups, 6 can hold after one fails; 4, 3, 2, 1 or none after that."""
    p = np.linspace(0.0001, 0.001, 10)
    adjusted = shaffer(p, 5)
    assert adjusted == pytest.approx(np.maximum.accumulate(p * [10, 6, 6, 6, 6, 4, 4, 3, 2, 1]))
    assert shaffer([0.01, math.nan, 0.02], 3) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_shaffer_rejects_all_that_holm_does(p):
    assert np.all(shaffer(p, 4) <= holm(p) + 1e-15)


# -- test parts that seeds draw anew ----------------------------------------------------


def redrawn(values, train=300, test=100):
    """A table of configurations whose seeds have different test parts."""
    table = grid(values) if isinstance(values, np.ndarray) else runs(values)
    drawn = "t" + table["seed"].astype(str)
    return table.assign(test_set=drawn, train_examples=train, test_examples=test)


def test_intervals_and_tests_are_those_of_nadeau_and_bengio():
    a, r = np.array([0.90, 0.93, 0.91, 0.95]), np.array([0.89, 0.90, 0.91, 0.92])
    table = redrawn({"a": a, "r": r})
    factor = 1 / 4 + 100 / 300
    quantile = stats.t.ppf(0.975, 3)
    mean = summarise(table, metrics=["accuracy"]).set_index("config_id")
    assert mean.loc["a", "accuracy_half_width"] == pytest.approx(a.std(ddof=1) * factor**0.5 * quantile)
    row = paired(table, "accuracy", {"a": "r"}).iloc[0]
    error = (a - r).std(ddof=1) * factor**0.5
    assert row["half_width"] == pytest.approx(error * quantile)
    assert row["p"] == pytest.approx(2 * stats.t.sf((a - r).mean() / error, 3))
    board = ranking(table, "accuracy").set_index("config_id")
    assert board.loc["r", "p_adjusted"] == pytest.approx(row["p"])


def test_one_test_set_and_costs_are_not_corrected():
    table = redrawn({"a": [0.90, 0.93, 0.91]}).assign(wall_seconds=[1.0, 2.0, 3.0])
    plain = table.drop(columns="test_set")
    fixed = table.assign(test_set="same")
    half = [
        summarise(t, metrics=["accuracy", "wall_seconds"])
        .iloc[0][["accuracy_half_width", "wall_seconds_half_width"]]
        .tolist()
        for t in (table, plain, fixed)
    ]
    assert half[1] == half[2] and half[0][0] > half[1][0] and half[0][1] == half[1][1]


def test_unpaired_tests_are_corrected_too():
    one, other = {0: 0.9, 1: 0.92, 2: 0.95}, {5: 0.8, 6: 0.85, 7: 0.82}
    table = redrawn({"a": one, "b": other})
    factor = 1 / 3 + 1 / 3
    variances = [factor * np.var(list(values.values()), ddof=1) for values in (one, other)]
    total = sum(variances)
    freedom = total**2 / sum(variance**2 / 2 for variance in variances)
    difference = np.mean(list(one.values())) - np.mean(list(other.values()))
    expected = 2 * stats.t.sf(difference / total**0.5, freedom)
    found = ranking(table, "accuracy").set_index("config_id")
    assert found.loc["b", "p_adjusted"] == pytest.approx(expected)


def correlated(rng, shape, ratio):
    """Values (tables, seeds, configurations) that correlate between seeds as those of overlapping splits.

    Nadeau and Bengio's correlation n_test / (n_test + n_train) is that of seeds; variance 1, mean 0.
    """
    common = ratio / (1 + ratio)
    tables, _, configurations = shape
    shared = rng.normal(size=(tables, 1, configurations))
    return common**0.5 * shared + (1 - common) ** 0.5 * rng.normal(size=shape)


@pytest.mark.parametrize("seeds", [3, 10])
def test_corrected_intervals_cover_95_percent_where_plain_ones_do_not(seeds):
    """4,000 simulated configurations: the standard error of the share is 0.35 %, the tolerance 1 %."""
    values = correlated(np.random.default_rng(6), (1, seeds, 4000), 450 / 1097)
    table = redrawn(values, 1097, 450)
    found = summarise(table, metrics=["accuracy"])
    covers = found["accuracy_mean"].abs() <= found["accuracy_half_width"]
    assert covers.mean() == pytest.approx(0.95, abs=0.01)
    plain = summarise(table.drop(columns="test_set"), metrics=["accuracy"])
    assert (plain["accuracy_mean"].abs() <= plain["accuracy_half_width"]).mean() < 0.9


def test_corrected_families_raise_a_false_alarm_in_5_percent_of_tables_and_find_large_differences():
    """150 tables of 6 equal configurations; plain tests call some of them different in 40 % of tables."""
    rng = np.random.default_rng(7)
    values = correlated(rng, (150, 10, 6), 450 / 1097)
    table = redrawn(values, 1097, 450)
    tables = table["config_id"].str.split("c").str[0]

    def alarms(runs):
        found = ranking(runs, "accuracy")
        return found["separable"].groupby(found["config_id"].str.split("c").str[0]).any()

    assert len(tables.unique()) == 150
    assert alarms(table).mean() <= 0.05 and alarms(table.drop(columns="test_set")).mean() > 0.3
    values[:, :, 0] += 5
    assert alarms(redrawn(values, 1097, 450)).mean() > 0.95


def test_other_tests_are_widened_as_much():
    rng = np.random.default_rng(8)
    ratio, size = 450 / 1097, 400
    values = correlated(rng, (size, 10, 1), ratio)[..., 0]
    false = np.mean([wilcoxon(row, 0 * row, ratio) < 0.05 for row in values])
    plain = np.mean([wilcoxon(row, 0 * row) < 0.05 for row in values])
    assert false <= 0.08 < 0.25 < plain
    row = values[0]
    narrow, wide = bootstrap_interval(row), bootstrap_interval(row, share=ratio)
    grown = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert wide.value == narrow.value and grown == pytest.approx((1 + 10 * ratio) ** 0.5)
    ten, two = superiority(row, 0 * row, paired=True, share=0.9), superiority(row, 0 * row, paired=True)
    assert ten.value == two.value and (ten.low, ten.high) == pytest.approx(
        tuple(map(float, wilson(ten.value, 1)))
    )
    scores = {"d": 1 + row, "e": 1 + values[1]}
    apart, together = interquartile_mean(scores), interquartile_mean(scores, share={"d": ratio, "e": ratio})
    assert (together.high - together.low) > 1.5 * (apart.high - apart.low)


def test_views_are_told_what_intervals_cover():
    one = runs({"a": [0.1, 0.2], "b": [0.1]})
    assert scope(one).startswith("Intervals and tests over seeds cover the randomness of training on one")
    assert "1 to 2 seeds" in scope(one)
    sized = one.assign(test_set="x", test_examples=450, train_examples=1097)
    assert "one test set of 450 examples" in scope(sized)
    drawn = scope(redrawn({"a": [0.1, 0.2]}))
    assert "Each seed draws its own test part" in drawn and "n_test/n_train = 0.33" in drawn
    both = scope(pd.concat([redrawn({"a": [0.1, 0.2]}), sized.assign(config_id="z")]))
    assert "Each seed draws" in both and "Where seeds share a test set" in both


# -- ranking ----------------------------------------------------------------------------


def test_rank_intervals_of_configurations_that_are_far_apart():
    noise = np.array([0.0, 0.001, -0.001, 0.002, -0.002])
    values = {
        "low": 0.2 + noise,
        "top": 0.9 - noise[::-1],
        "next": 0.9 + noise - 0.0001,
        "mid": 0.5 + noise[::-1],
    }
    found = ranking(runs(values), "accuracy").set_index("config_id")
    assert found.index.tolist() == ["top", "next", "mid", "low"]
    assert found[["rank_low", "rank_high"]].values.tolist() == [[1, 2], [1, 2], [3, 3], [4, 4]]
    assert found["separable"].tolist() == [False, False, True, True]
    found = ranking(runs(values), "accuracy")
    assert found.loc[~found["separable"], "config_id"].tolist() == ["top", "next"]
    lower = ranking(runs(values), "accuracy", better="lower").set_index("config_id")
    assert lower.index.tolist() == ["low", "mid", "next", "top"]
    assert lower.loc["low", ["rank_low", "rank_high"]].tolist() == [1, 1]
    assert lower["separable"].tolist() == [False, True, True, True]


def test_pairs_are_paired_where_seeds_are_shared_and_welchs_where_not():
    values = {
        "a": {0: 0.9, 1: 0.8, 2: 0.85, 3: 0.7}, "b": {0: 0.88, 1: 0.79, 2: 0.82, 3: 0.69},
        "c": {7: 0.5, 8: 0.6, 9: 0.58}, "d": {3: 0.4, 7: 0.55, 11: 0.3},
    }  # fmt: skip
    found = ranking(runs(values), "accuracy").set_index("config_id")
    a, b, c, d = (list(row.values()) for row in values.values())
    p = [stats.ttest_rel(a, b).pvalue]
    p += [stats.ttest_ind(*two, equal_var=False).pvalue for two in ((a, c), (a, d), (b, c), (b, d), (c, d))]
    # a and d share one seed alone, on which no t-test of pairs is possible
    # of six equalities among four, 6, 3, 2, 1 or none can hold together
    adjusted = np.empty(6)
    adjusted[np.argsort(p)] = np.minimum(np.maximum.accumulate(np.sort(p) * [6, 3, 3, 3, 2, 1]), 1)
    assert found.loc[["b", "c", "d"], "p_adjusted"].tolist() == pytest.approx(list(adjusted[:3]))
    assert math.isnan(found.loc["a", "p_adjusted"])


def test_what_is_better_on_every_shared_seed_ranks_above_a_better_mean():
    """The seed that b has alone went badly, so that a has the better mean; elsewhere b is better by far."""
    a = [0.5, 0.6, 0.55, 0.7]
    b = [value + 0.1 + wobble for value, wobble in zip(a, (0.001, -0.001, 0.002, 0), strict=True)]
    found = ranking(runs({"b": [*b, 0.0], "a": a}), "accuracy")
    columns = ["config_id", "rank_low", "rank_high", "separable"]
    assert found[columns].values.tolist() == [["a", 2, 2, True], ["b", 1, 1, False]]


def test_a_single_seed_rules_nothing_out():
    found = ranking(runs({"a": [0.9], "b": [0.5, 0.5001, 0.5], "c": [0.1, 0.1001, 0.1]}), "accuracy")
    found = found.set_index("config_id")
    assert found.loc["a"].drop(["scale", "p_adjusted", "smallest"]).tolist() == [1, 1, 3, False, "best"]
    assert found.loc[["b", "c"], "p_adjusted"].isna().all()
    assert found["separable"].tolist() == [False, False, True]  # b is better than c, whatever a is
    # b and c are compared all the same, and that is the family's only test
    assert found[["rank_low", "rank_high"]].values.tolist() == [[1, 3], [1, 2], [2, 3]]


def test_numbers_without_variance_are_ranked_without_a_warning():
    """0.1 isn't a binary fraction: the mean of ten of them is rounded, and equal ones must stay equal."""
    values = {
        "a": dict.fromkeys(range(3), 0.1),
        "b": dict.fromkeys(range(20, 30), 0.1),
        "c": dict.fromkeys(range(3), 0.1),
    }
    equal = ranking(runs(values), "accuracy")
    assert equal["p_adjusted"].tolist()[1:] == [1, 1]
    assert equal[["rank_low", "rank_high"]].values.tolist() == [[1, 3]] * 3
    apart = ranking(runs({**values, "d": [0.5, 0.5, 0.5]}), "accuracy")
    assert apart["config_id"][0] == "d" and apart["p_adjusted"].tolist()[1:] == [0, 0, 0]
    assert apart["rank_low"].tolist() == [1, 2, 2, 2]


def test_scales_and_test_sets_are_ranked_apart():
    values = np.random.default_rng(3).normal(size=(2, 4, 3)) + np.array([0, 50, 100])
    table = pd.concat([grid(values), grid(values[:1], scale="small")])
    found = ranking(table, "accuracy")
    assert found["rank_low"].tolist() == [1, 2, 3] * 3
    assert found["scale"].tolist() == ["demo"] * 6 + ["small"] * 3


def test_equals_are_told_apart_in_at_most_5_percent_of_tables():
    """300 tables of 10 equal configurations over 5 shared seeds; the true share is about 2.5 ± 0.9 %.

    With Holm's family of the comparisons with the best mean alone it would be 13 %.
    """
    found = ranking(grid(np.random.default_rng(4).normal(size=(300, 5, 10))), "accuracy")
    told = found.groupby(found["config_id"].str.split("c").str[0])["separable"].any()
    assert len(told) == 300 and told.mean() <= 0.05


def test_which_way_is_better_is_read_from_the_definitions():
    table = runs({"a": [0.1, 0.2], "b": [0.5, 0.6]})
    table["nll"] = table["accuracy"]
    assert ranking(table, "accuracy")["config_id"].tolist() == ["b", "a"]
    assert ranking(table, "nll")["config_id"].tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="better direction of made_up must be"):
        ranking(table.assign(made_up=1.0), "made_up")
    with pytest.raises(ValueError, match="must be higher or lower, not 'more'"):
        ranking(table, "accuracy", better="more")


@pytest.mark.parametrize("why", ["none at all", "none done", "none with the metric"])
def test_no_runs_are_empty_tables_of_the_same_columns(why):
    full = runs({"a": [0.1, 0.2], "b": [0.3, 0.5]}, dataset="d", network="n")
    table = {
        "none at all": full.iloc[:0],
        "none done": full.assign(status="failed"),
        "none with the metric": full.assign(accuracy=math.nan),
    }[why]
    calls = [(paired, ("accuracy", {"a": "b"})), (ranking, ("accuracy",))]
    if why != "none with the metric":  # a configuration without the metric has a row of n = 0
        calls.append((summarise, ("config_id", ["accuracy"])))
    for function, more in calls:
        empty = function(table, *more)
        assert len(empty) == 0
        pd.testing.assert_series_equal(empty.dtypes, function(full, *more).dtypes)


def test_twenty_thousand_runs_take_well_under_a_second():
    """About 0.02 s each on one core; a call of scipy for each of 4,000 groups takes seconds."""
    table = grid(np.random.default_rng(5).normal(size=(20, 5, 200)))
    references = {config_id: f"{config_id.split('c')[0]}c0" for config_id in table["config_id"].unique()}
    for call in (
        lambda: summarise(table, metrics=["accuracy"]),
        lambda: paired(table, "accuracy", references),
    ):
        start = time.process_time()
        assert len(call()) == 4000
        assert time.process_time() - start < 1


# -- superiority --------------------------------------------------------------------------


def test_superiority_counts_ties_half():
    # of 6 comparisons 3 > 1, 3 > 2, 2 > 1 are won and 2 = 2 is tied
    assert superiority([3, 2], [1, 2, 4, math.nan]).value == pytest.approx(3.5 / 6)
    assert superiority([3, 2], [1, 2, 4], better="lower").value == pytest.approx(2.5 / 6)
    assert superiority([3, 2, 5, math.nan], [1, 2, 9, 0], paired=True).value == pytest.approx(1.5 / 3)


def test_superiority_is_the_mann_whitney_statistic_over_its_pairs():
    generator = np.random.default_rng(6)
    x, y = generator.integers(0, 6, 9), generator.integers(0, 6, 7)
    assert superiority(x, y).value == pytest.approx(stats.mannwhitneyu(x, y).statistic / 63)


def test_limits_of_the_unpaired_interval_solve_newcombes_equation():
    """|θ̂ - θ| = z √(θ (1 - θ) (1 + N (1 - θ) / (2 - θ) + N θ / (1 + θ)) / (m n)) with N = (m + n) / 2 - 1."""
    found = superiority([1, 4, 5, 7, 9], [0, 2, 3, 6])
    for theta in (found.low, found.high):
        spread = theta * (1 - theta) * (1 + 3.5 * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / 20
        assert abs(found.value - theta) == pytest.approx(1.959964 * math.sqrt(spread), rel=1e-5)
    assert found.low < found.value < found.high


def test_superiority_in_every_comparison_is_not_certainty():
    for found in (superiority([5, 6, 7], [1, 2, 3]), superiority([5, 6, 7], [1, 2, 3], paired=True)):
        assert found.value == found.high == 1 and 0.3 < found.low < 0.6
    for found in (superiority([1, 2, 3], [5, 6, 7]), superiority([1, 2, 3], [5, 6, 7], paired=True)):
        assert found.value == found.low == 0 and 0.4 < found.high < 0.7


@pytest.mark.parametrize("paired", [True, False])
def test_superiority_without_a_comparison_is_unknown(paired):
    assert all(math.isnan(part) for part in superiority([math.nan], [1.0], paired=paired))


@pytest.mark.parametrize(("shift", "size"), [(0, 5), (0.7, 5), (1.5, 10)])
def test_the_unpaired_interval_covers_what_it_says(shift, size):
    """500 simulated pairs of samples: 95 ± 3 %, three standard errors, or a little cautious."""
    generator = np.random.default_rng(7)
    true = stats.norm.cdf(shift / math.sqrt(2))
    found = [superiority(generator.normal(shift, 1, size), generator.normal(size=size)) for _ in range(500)]
    assert 0.92 <= np.mean([one.low <= true <= one.high for one in found]) <= 0.985


# -- refused with few seeds or data sets --------------------------------------------------


def test_too_few_is_refused_in_words():
    nine = TEN[:9]
    with pytest.raises(TooFew, match=r"^The Wilcoxon signed-rank test needs at least 10 seeds, and has 9\.$"):
        wilcoxon([*nine, math.nan], np.zeros(10))
    with pytest.raises(TooFew, match=r"^A bootstrap interval needs at least 10 seeds, and has 9\.$"):
        bootstrap_interval([*nine, math.nan])
    message = r"^The interquartile mean's bootstrap needs at least 10 seeds in every data set, and has 9\.$"
    with pytest.raises(TooFew, match=message):
        interquartile_mean({"d": TEN, "e": [*nine, math.nan]})
    with pytest.raises(TooFew, match=r"in every data set, and has 0\.$"):
        interquartile_mean({})
    ranks = pd.DataFrame(np.eye(5))
    ranks.iloc[0, 0] = math.nan
    with pytest.raises(
        TooFew, match=r"^A critical difference of average ranks needs at least 5 data sets, and has 4\.$"
    ):
        average_ranks(ranks, "higher")
    with pytest.raises(TooFew, match=r"needs at least 3 configurations, and has 2\.$"):
        average_ranks(pd.DataFrame(np.ones((5, 2))), "higher")
    assert issubclass(TooFew, ValueError)


def test_signed_ranks_of_ten_pairs():
    """By hand: the negative ranks are 1 and 4, of sum 5. Of 1,024 choices of signs 10 have at most that.

    The sums 0 to 5 are those of 1, 1, 1, 2, 2, 3 sets of different ranks; the other side has as many.
    """
    differences = [-1.0, 2, 3, -4, 5, 6, 7, 8, 9, 10]
    assert wilcoxon(differences, np.zeros(10)) == pytest.approx(2 * 10 / 1024)
    assert wilcoxon(TEN, TEN) == 1


def test_a_bootstrap_interval_is_that_of_resampled_means():
    generator = np.random.default_rng(8)
    means = generator.choice(TEN, (20_000, 10)).mean(axis=1)
    found = bootstrap_interval(TEN)
    assert found.value == pytest.approx(0.56)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.03)
    assert found == bootstrap_interval(TEN) != bootstrap_interval(TEN, seed=1)
    assert bootstrap_interval(TEN, np.median).value == pytest.approx(0.6)
    assert bootstrap_interval([0.1] * 10).high - bootstrap_interval([0.1] * 10).low < 1e-15


def test_a_bootstrap_interval_of_ten_values_covers_90_percent(monkeypatch):
    """300 simulated samples, 999 resamples each; tolerance three standard errors of 1.7 %."""
    monkeypatch.setattr(nonparametric, "_RESAMPLES", 999)
    generator = np.random.default_rng(9)
    found = [bootstrap_interval(generator.normal(size=10)) for _ in range(300)]
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(0.90, abs=0.052)


def test_the_interquartile_mean_is_that_of_all_runs_together():
    """Of the squares of 0 to 19 the middle ten are 25 to 196, of sum 985; an outlier moves nothing."""
    scores = {"d": np.arange(0, 20, 2) ** 2, "e": [*np.arange(1, 18, 2) ** 2, 1e6, math.nan]}
    found = interquartile_mean(scores)
    assert found.value == 98.5 and 0 < found.low < 98.5 < found.high < 400
    assert found == interquartile_mean(scores) != interquartile_mean(scores, seed=1)


def test_seeds_are_drawn_within_their_data_set():
    """Data sets without spread of their own leave none: drawn from all runs together there would be some."""
    found = interquartile_mean({"d": [0.0] * 10, "e": [1.0] * 10})
    assert found == (0.5, 0.5, 0.5)


def test_the_interval_of_the_interquartile_mean_covers_92_percent(monkeypatch):
    """Four data sets, half a standard deviation apart, 10 seeds each; 300 simulations, ± 3 × 1.6 %."""
    monkeypatch.setattr(nonparametric, "_RESAMPLES", 499)
    generator = np.random.default_rng(10)
    levels = np.array([0, 0.5, 1, 1.5])
    drawn = [generator.normal(levels[:, None], 1, (4, 10)) for _ in range(300)]
    found = [interquartile_mean(dict(enumerate(values))) for values in drawn]
    # the mixture is symmetric, so the mean of its middle half is its centre
    assert np.mean([one.low <= 0.75 <= one.high for one in found]) == pytest.approx(0.92, abs=0.047)


#: Ranks of four variants of C4.5 on 14 data sets: Demšar (2006), table 6.
DEMSAR = [
    [4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1],
    [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5] * 4, [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2],
]  # fmt: skip


def test_average_ranks_of_demsars_example():
    table = pd.DataFrame(DEMSAR, columns=["C4.5", "+m", "+cf", "+m+cf"])
    found = average_ranks(table, "lower")
    assert found.ranks.round(3).to_dict() == {"C4.5": 3.143, "+m": 2.0, "+cf": 2.893, "+m+cf": 1.964}
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert average_ranks(-table, "higher").ranks.to_dict() == found.ranks.to_dict()
    # his statistic is 9.28; for ties it is divided by 1 - (4 pairs, one of four) / (14 (4³ - 4))
    ties = 1 - (3 * 6 + 60) / (14 * 60)
    assert found.p == pytest.approx(stats.chi2.sf(9.28 / ties, 3), rel=0.01)


def test_nemenyis_critical_values_are_demsars():
    """Demšar (2006), table 5a, α = 0.05, for 3 to 10 configurations."""
    generator = np.random.default_rng(11)
    for size, published in enumerate((2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164), start=3):
        found = average_ranks(pd.DataFrame(generator.random((6, size))), "higher").critical_difference
        assert found / math.sqrt(size * (size + 1) / 36) == pytest.approx(published, abs=0.0015)


def test_ranks_that_are_all_tied_differ_in_nothing():
    found = average_ranks(pd.DataFrame(np.full((5, 3), 0.1)), "higher")
    assert found.ranks.tolist() == [2, 2, 2] and found.p == 1


# -- fronts and shares --------------------------------------------------------------------


def test_a_front_by_hand():
    costs, values = [1, 2, 2, 3, 3, 4, math.nan, 1], [0.5, 0.7, 0.6, 0.7, 0.9, 0.8, 1.0, math.nan]
    assert pareto_front(costs, values, "higher").tolist() == [True, True, *[False] * 2, True, *[False] * 3]
    assert pareto_front(costs, values, "lower").tolist() == [True, *[False] * 7]
    assert pareto_front([1, 1, 2], [5, 5, 5], "lower").tolist() == [True, True, False]
    assert pareto_front([], [], "lower").tolist() == []
    with pytest.raises(ValueError, match="higher or lower"):
        pareto_front([1], [1], "best")


numbers = st.one_of(st.integers(0, 4).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(st.lists(st.tuples(numbers, numbers), max_size=12), st.sampled_from(["higher", "lower"]))
def test_a_front_is_what_nothing_dominates(points, better):
    def dominates(one, other):
        gain = one[1] - other[1] if better == "higher" else other[1] - one[1]
        same = one[1] == other[1]  # infinities less themselves are NaN
        return one[0] <= other[0] and (same or gain > 0) and (one[0] < other[0] or not same)

    known = [not (math.isnan(cost) or math.isnan(value)) for cost, value in points]
    expected = [
        here and not any(there and dominates(q, p) for q, there in zip(points, known, strict=True))
        for p, here in zip(points, known, strict=True)
    ]
    costs, values = ([p[axis] for p in points] for axis in (0, 1))
    assert pareto_front(costs, values, better).tolist() == expected


@settings(max_examples=tries(30), deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_that_of_scipy(counts):
    low, high = wilson(*counts)
    published = stats.binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert (float(low), float(high)) == pytest.approx((published.low, published.high), abs=1e-12)


def test_wilsons_interval_of_arrays_and_of_nothing():
    low, high = wilson([0, 5, 0], [10, 5, 0])
    # z² / (n + z²), z² = 3.8415
    assert high.tolist() == pytest.approx([3.8415 / 13.8415, 1, math.nan], rel=1e-4, nan_ok=True)
    assert low.tolist() == pytest.approx([0, 5 / 8.8415, math.nan], rel=1e-4, nan_ok=True)
    counts = np.arange(1, 200)
    assert (wilson(0, counts)[0] == 0).all() and (wilson(counts, counts)[1] == 1).all()


@pytest.mark.parametrize(("pairs", "least"), [(5, 0.83), (10, 0.85)])
def test_wilsons_coverage_is_as_documented(pairs, least):
    """Exact: the probabilities of all numbers of successes whose interval has the true share."""
    wins, shares = np.arange(pairs + 1), np.linspace(0.005, 0.995, 199)
    low, high = wilson(wins, pairs)
    covers = (low <= shares[:, None]) & (shares[:, None] <= high)
    coverage = (stats.binom.pmf(wins, pairs, shares[:, None]) * covers).sum(axis=1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.005) and coverage.min() > least


def test_scipy_is_loaded_by_use_alone():
    """It takes longer to import than most readers of tables are there for."""
    code = "import sys, bench.statistics.nonparametric, bench.statistics; print('scipy' in sys.modules)"
    root = Path(__file__).resolve().parent.parent
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root).strip() == "False"


def test_levels_are_those_of_the_docstrings():
    assert (LEVEL, ALPHA) == (0.95, 0.05)
    assert (nonparametric.FEWEST_SEEDS, nonparametric.FEWEST_DATASETS) == (10, 5)
