"""Seeds collapsed, against intervals that scipy computes from the values themselves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.results.store import Store
from bench.statistics.seeds import paired, summarise
from tests.fuzzing import tries
from tests.run_folders import cell, config, plan, run_files, write_run


def runs(*rows):
    """A table ``runs`` of what matters here; each row is (config_id, accuracy) and other columns."""
    usual = {"suite": "s", "scale": "demo", "status": "done", "recipe": "default", "method": "ssvi"}
    table = [
        {"run_id": f"run{i}", "config_id": config_id, "accuracy": value, **usual, **more}
        for i, (config_id, value, *rest) in enumerate(rows)
        for more in (rest[0] if rest else {},)
    ]
    return pd.DataFrame(table)


def summary(*rows, **options):
    return summarise(runs(*rows), metrics=["accuracy"], **options)


@settings(max_examples=tries(20))
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
def test_the_interval_is_students_t_over_runs(values):
    (row,) = summary(*(("a", value) for value in values)).to_dict("records")
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert row["accuracy_mean"] == pytest.approx(np.mean(values), abs=1e-9)
    assert row["accuracy_n"] == len(values)
    assert row["accuracy_half_width"] == pytest.approx(
        error * stats.t.ppf(0.975, len(values) - 1), rel=1e-6, abs=1e-6
    )


def test_the_interval_is_the_one_that_scipy_gives():
    values = [0.91, 0.93, 0.92, 0.96]
    (row,) = summary(*(("a", value) for value in values)).to_dict("records")
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, half = row["accuracy_mean"], row["accuracy_half_width"]
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_one_seed_has_a_mean_and_no_interval():
    (row,) = summary(("a", 0.9)).to_dict("records")
    assert row["accuracy_mean"] == 0.9 and row["accuracy_n"] == 1
    assert math.isnan(row["accuracy_half_width"])


def test_equal_seeds_have_an_interval_of_width_zero():
    assert summary(("a", 0.5), ("a", 0.5))["accuracy_half_width"].tolist() == [0.0]


@pytest.mark.parametrize("status", ["failed", "running", "pending", "cancelled", "preempted", "queued"])
def test_only_runs_that_are_done_are_averaged(status):
    table = summary(("a", 0.9), ("a", 0.1, {"status": status}), ("b", 0.1, {"status": status}))
    assert table["config_id"].tolist() == ["a"]
    assert table[["accuracy_mean", "accuracy_n"]].values.tolist() == [[0.9, 1]]


def test_a_metric_that_a_run_lacks_is_not_counted():
    table = summary(("a", 0.9), ("a", None), ("b", None))
    assert table["accuracy_n"].tolist() == [1, 0]
    assert table["accuracy_mean"].isna().tolist() == [False, True]


def test_scales_are_never_mixed():
    table = summary(("a", 0.9), ("a", 0.7, {"scale": "small"}), ("a", 0.8))
    assert table[["scale", "accuracy_n"]].values.tolist() == [["demo", 2], ["small", 1]]
    assert table["accuracy_mean"].tolist() == pytest.approx([0.85, 0.7])


def test_scales_are_not_mixed_by_another_key_either():
    table = summary(("a", 0.9), ("b", 0.7, {"scale": "small"}), by="method")
    assert table["scale"].tolist() == ["demo", "small"]


def test_recipes_are_never_mixed(tmp_path):
    store, cells = Store(tmp_path, create=True), []
    for recipe, lr, accuracy in (("released", 0.1, 0.5), ("default", 0.05, 0.9)):
        for seed in (0, 1):
            configuration = config(seed)
            configuration["training"]["lr"] = lr
            write_run(tmp_path, run_files(configuration, accuracy=accuracy))
            cells.append(cell(configuration, recipe=recipe, label="ssvi"))
    store.merge_plan(plan(cells))
    table = summarise(store.tables("criteria_ablation")["runs"], metrics=["accuracy"])
    found = table[["recipe", "accuracy_mean", "accuracy_n"]].values.tolist()
    assert found == [["released", 0.5, 2], ["default", 0.9, 2]]


def test_what_differs_within_a_group_is_not_told_of_it():
    table = summary(("a", 0.9), ("b", 0.7, {"recipe": "released"}), by="method")
    assert table["accuracy_n"].tolist() == [2]
    assert table["recipe"].isna().all()


def test_what_some_runs_of_a_group_lack_is_not_lent_to_them():
    table = summary(("a", 0.9, {"criterion": "snr"}), ("a", 0.7, {"criterion": None}))
    assert table["criterion"].isna().all()


def test_runs_without_the_key_are_a_group_of_their_own_in_its_place():
    found = summary(
        ("a", 0.2, {"criterion": None}),
        ("b", 0.4, {"criterion": "snr"}),
        ("c", 0.6, {"criterion": None}),
        ("d", 0.9, {"criterion": "abs_mean"}),
        by="criterion",
    )
    assert [None if pd.isna(c) else c for c in found["criterion"]] == [None, "snr", "abs_mean"]
    assert found["accuracy_mean"].tolist() == pytest.approx([0.4, 0.4, 0.9])


def test_a_run_of_two_suites_counts_once():
    table = runs(("a", 0.9), ("a", 0.7))
    both = summarise(pd.concat([table, table.assign(suite="t")]), metrics=["accuracy"])
    assert both["accuracy_n"].tolist() == [2]


def test_configurations_stand_in_the_order_of_the_table():
    table = summary(("b", 0.1), ("a", 0.2), ("b", 0.3), ("c", 0.4))
    assert table["config_id"].tolist() == ["b", "a", "c"]


def test_nothing_done_is_an_empty_table_with_the_same_columns():
    empty, full = summary(("a", 0.9, {"status": "failed"})), summary(("a", 0.9))
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)


def test_a_table_of_real_columns_is_summarised(tmp_path):
    store, cells = Store(tmp_path, create=True), []
    for criterion in ("snr", "abs_mean"):
        for seed, accuracy in enumerate((0.90, 0.92, 0.97)):
            configuration = config(seed, criterion=criterion)
            broken = criterion == "snr" and seed == 2
            write_run(
                tmp_path, run_files(configuration, accuracy=accuracy, status="failed" if broken else "done")
            )
            cells.append(cell(configuration))
    store.merge_plan(plan(cells))
    table = summarise(store.tables("criteria_ablation")["runs"])
    assert table["criterion"].tolist() == ["snr", "abs_mean"]
    assert table["accuracy_n"].tolist() == [2, 3]
    assert table["accuracy_mean"].tolist() == pytest.approx([0.91, 0.93])
    assert table["recipe"].tolist() == ["default"] * 2
    assert {f"{metric}_half_width" for metric in ("accuracy", "nll", "ece")} < set(table.columns)
    low, high = stats.ttest_1samp([0.90, 0.92, 0.97], 0).confidence_interval(0.95)
    assert table["accuracy_half_width"][1] == pytest.approx((high - low) / 2)


# -- differences to a reference ---------------------------------------------------------


def seeded(config_id, values, **more):
    return [(config_id, value, {"seed": seed, **more}) for seed, value in values.items()]


def test_differences_are_paired_by_seed():
    """As scipy has them for related samples; a seed that only one of the two has is left out."""
    mine, theirs = {0: 0.91, 1: 0.95, 2: 0.90, 3: 0.99}, {2: 0.88, 0: 0.90, 1: 0.91, 7: 0.1}
    table = runs(*seeded("a", mine), *seeded("r", theirs))
    found = paired(table, "accuracy", {"a": "r", "r": "r"}).set_index("config_id")
    test = stats.ttest_rel([mine[s] for s in (0, 1, 2)], [theirs[s] for s in (0, 1, 2)])
    low, high = test.confidence_interval(0.95)
    assert found.loc["a", "difference"] == pytest.approx((low + high) / 2)
    assert found.loc["a", "half_width"] == pytest.approx((high - low) / 2)
    assert found.loc["a", "n"] == 3
    assert (found.loc["r", "difference"], found.loc["r", "half_width"]) == (0, 0)


def test_differences_do_not_mix_scales_and_leave_out_what_has_no_reference():
    table = runs(
        *seeded("a", {0: 0.5}), *seeded("a", {0: 0.9}, scale="small"),
        *seeded("r", {0: 0.2}), *seeded("b", {0: 0.3}), *seeded("c", {1: 0.3}),
        *seeded("d", {0: 0.1}, status="failed"),
    )  # fmt: skip
    found = paired(table, "accuracy", {"a": "r", "c": "r", "d": "r"})
    assert found[["scale", "config_id", "n"]].values.tolist() == [["demo", "a", 1]]
    assert found["difference"].tolist() == pytest.approx([0.3])
    assert math.isnan(found["half_width"][0])
