"""Statements about new examples: over seeds and stored scores of test examples at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench import grid, report
from bench.results.files import StoreError
from bench.results.predictions import EXAMPLE_SCORES, example_scores
from bench.results.store import Store
from bench.statistics.new_examples import crossed_mean, for_new_examples


def test_the_error_of_a_small_table_is_that_by_hand():
    # row means 1 and 3, column means 1 and 3, interaction 1 in every cell
    found = crossed_mean([[1.0, 1.0], [1.0, 5.0]])
    seed, example, pair = 2 / 2, 2 / 2, 4 / 4
    assert found.mean == 2
    assert found.error == pytest.approx(np.sqrt(seed + example - pair))
    assert found.freedom == pytest.approx(1 / (seed**2 + example**2 + pair**2))


def test_scores_without_spread_over_examples_have_the_interval_over_seeds():
    of_seed = np.random.default_rng(0).normal(size=6)
    found = crossed_mean(np.repeat(of_seed[:, None], 40, axis=1))
    assert found.error == pytest.approx(of_seed.std(ddof=1) / np.sqrt(6))
    assert found.freedom == pytest.approx(5)


def test_scores_without_spread_over_seeds_have_the_interval_over_examples():
    of_example = np.random.default_rng(0).normal(size=40)
    found = crossed_mean(np.repeat(of_example[None], 6, axis=0))
    assert found.error == pytest.approx(of_example.std(ddof=1) / np.sqrt(40))
    assert found.freedom == pytest.approx(39)
    # what is random is told by the axis alone
    turned = crossed_mean(np.repeat(of_example[:, None], 6, axis=1))
    assert (turned.error, turned.freedom) == (pytest.approx(found.error), pytest.approx(found.freedom))


def _simulated(seed, tables, seeds, examples, of_seed, of_example, of_pair):
    chance = np.random.default_rng(seed)
    scores = of_seed * chance.normal(size=(tables, seeds, 1))
    scores = scores + of_example * chance.normal(size=(tables, 1, examples))
    return scores + of_pair * chance.normal(size=(tables, seeds, examples))


@pytest.mark.parametrize(
    ("seeds", "spread"),
    [(3, (1, 0, 1)), (5, (1, 0, 1)), (5, (0.1, 1, 1)), (10, (0.2, 1, 1)), (10, (0.05, 1, 0.2))],
)
def test_intervals_hold_the_true_mean_as_often_as_they_say(seeds, spread):
    found = crossed_mean(_simulated(1, 4000, seeds, 100, *spread))
    half = stats.t.isf(0.025, found.freedom) * found.error
    assert 0.94 <= (np.abs(found.mean) <= half).mean() <= 0.965


def test_intervals_over_seeds_alone_are_too_narrow_for_new_examples():
    """What this module is for: the same tables, with the interval over seeds."""
    over_seeds = _simulated(1, 4000, 5, 100, 0.05, 1, 0.2).mean(axis=2)
    half = stats.t.isf(0.025, 4) * over_seeds.std(axis=1, ddof=1) / np.sqrt(5)
    assert (np.abs(over_seeds.mean(axis=1)) <= half).mean() < 0.7


def test_the_variance_is_that_of_the_two_way_bootstrap():
    scores, chance = _simulated(2, 1, 10, 200, 0.3, 1, 0.5)[0], np.random.default_rng(3)
    means = [
        scores[chance.integers(10, size=10)][:, chance.integers(200, size=200)].mean() for _ in range(4000)
    ]
    assert np.std(means) == pytest.approx(crossed_mean(scores).error, rel=0.1)


# -- comparisons ---------------------------------------------------------------------------


def _runs(rows):
    columns = ["config_id", "seed", "run_id", "test_set", "status"]
    return pd.DataFrame(rows, columns=columns)


def test_configurations_are_paired_by_seed_and_by_example():
    chance = np.random.default_rng(0)
    stored = {name: chance.normal(size=30) for name in ("a0", "a1", "b0", "b1", "b2", "c0")}
    runs = _runs(
        [(name[0], int(name[1]), name, "part", "done") for name in stored]
        + [("a", 2, "a2", "part", "failed")]
    )
    found = for_new_examples(runs, stored.__getitem__, {"a": "b", "b": "b", "c": "b"})
    table = np.stack([stored["a0"] - stored["b0"], stored["a1"] - stored["b1"]])
    (row,) = found.to_dict("records")  # c shares one seed alone
    assert (row["config_id"], row["n"], row["examples"]) == ("a", 2, 30)
    assert row["difference"] == pytest.approx(table.mean())
    assert (row["half_width"], row["p"]) == pytest.approx(surest(table))
    assert row["p"] == row["p_holm"]


def surest(table):
    """Half width and p of a table of differences: of the crossed interval, or over seeds if that is wider."""
    mean, error, freedom = crossed_mean(table)
    of_seed = stats.ttest_1samp(table.mean(axis=1), 0)
    over_seeds = of_seed.confidence_interval()
    half = max(stats.t.isf(0.025, freedom) * error, (over_seeds.high - over_seeds.low) / 2)
    return half, max(2 * stats.t.sf(abs(mean) / error, freedom), of_seed.pvalue)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_what_covers_new_examples_too_is_never_surer_than_over_seeds(seeds):
    chance, narrower = np.random.default_rng(0), 0
    for _ in range(50):
        table = 1 + 0.01 * chance.normal(size=(seeds, 1)) + chance.normal(size=(1, 40))
        stored = {f"a{seed}": table[seed] for seed in range(seeds)} | {
            f"b{seed}": 0 * table[0] for seed in range(seeds)
        }
        runs = _runs([(run[0], int(run[1:]), run, "part", "done") for run in stored])
        (row,) = for_new_examples(runs, stored.__getitem__, {"a": "b"}).to_dict("records")
        assert (row["half_width"], row["p"]) == pytest.approx(surest(table))
        of_seed = stats.ttest_1samp(table.mean(axis=1), 0)
        assert row["p"] >= of_seed.pvalue * (1 - 1e-9)
        narrower += crossed_mean(table).freedom > seeds - 1
    assert narrower == 50  # what would have been narrower for want of freedom alone


def test_seeds_with_test_parts_of_their_own_are_not_crossed():
    runs = _runs([(name, seed, f"{name}{seed}", f"part{seed}", "done") for name in "ab" for seed in (0, 1)])
    assert for_new_examples(runs, lambda _: np.zeros(3), {"a": "b"}).empty


def test_infinite_scores_have_no_interval():
    runs = _runs([(name, seed, f"{name}{seed}", "part", "done") for name in "ab" for seed in (0, 1)])
    (row,) = for_new_examples(runs, lambda run: [0, np.inf if run == "a0" else 0], {"a": "b"}).to_dict(
        "records"
    )
    assert np.isnan([row["difference"], row["half_width"], row["p"], row["p_holm"]]).all()


def test_one_run_without_scores_hides_its_own_pair_alone():
    runs = _runs([(name, seed, f"{name}{seed}", "part", "done") for name in "abc" for seed in (0, 1)])
    chance = np.random.default_rng(0)

    def scores(run):
        if run == "a1":
            raise StoreError("a1: no such file")
        return chance.normal(size=20)

    found = for_new_examples(runs, scores, {"a": "b", "c": "b"}).set_index("config_id")
    assert found.loc["a", "reason"] == "a1: no such file" and np.isnan(found.loc["a", "p"])
    assert pd.isna(found.loc["c", "reason"]) and found.loc["c", "p_holm"] == found.loc["c", "p"] > 0


def test_labels_of_no_class_are_refused(tmp_path):
    folder = Store(tmp_path / "results", create=True).run("0" * 12)
    folder.path.mkdir(parents=True)
    arrays = {"labels": np.array([0, 7]), "samples/probabilities": np.full((2, 2), 0.5)}
    np.savez(folder.path / "predictions.npz", **arrays)
    with pytest.raises(StoreError, match=r"predictions\.npz: "):
        example_scores(folder, "nll")


# -- from runs -----------------------------------------------------------------------------

SUITE = """
question: Does it hold for new examples?
reference: {method: dense_vi}
scales:
  demo:
    seeds: 0-1
    base: {dataset: digits, network: mlp, network.hidden: [16], epochs: 1, dataset.split: fixed, samples: 2}
    grids:
      - {recipe: default, method: [dense_vi, deterministic]}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new")
    (folder / "new.yaml").write_text(SUITE)
    where = ["--suite", str(folder / "new.yaml"), "--results", str(folder / "results")]
    assert grid.main([*where, "--executor", "inline"]) == 0
    return Store(folder / "results")


def test_scores_of_examples_have_the_mean_of_the_run(store):
    runs = store.read_tables("new", ["runs"])["runs"]
    for run in runs.to_dict("records"):
        for score in EXAMPLE_SCORES:
            assert example_scores(store.run(run["run_id"]), score).mean() == pytest.approx(
                run[score], rel=1e-5
            )


def test_a_report_says_what_holds_for_new_examples(store, tmp_path):
    where = ["--suite", "new", "--results", str(store.root), "--to", str(tmp_path), "--score", "nll"]
    assert report.main(where) == 0
    text = (tmp_path / "report.md").read_text()
    runs = store.read_tables("new", ["runs"])["runs"]
    of = {(run["method"], run["seed"]): run["run_id"] for run in runs.to_dict("records")}
    scores = {key: example_scores(store.run(run_id), "nll") for key, run_id in of.items()}
    table = np.stack([scores["deterministic", seed] - scores["dense_vi", seed] for seed in (0, 1)])
    assert f"{table.mean():+.3f} ± {surest(table)[0]:.3f}, " in text
    assert "also cover the choice of the 450 test examples" in text


@pytest.mark.parametrize("damage", [b"", b"PK", b"\x93NUMPY"])
def test_damaged_predictions_are_one_line(store, damage, tmp_path):
    folder = store.run(str(store.read_tables("new", ["runs"])["runs"]["run_id"].iloc[0]))
    path = folder.path / "predictions.npz"
    sound = path.read_bytes()
    try:
        path.write_bytes(damage)
        with pytest.raises(StoreError, match=r"predictions\.npz: "):
            example_scores(folder, "nll")
        path.unlink()
        with pytest.raises(StoreError, match="no such file"):
            example_scores(folder, "nll")
        assert report.main(["--suite", "new", "--results", str(store.root), "--to", str(tmp_path)]) == 0
        text = (tmp_path / "report.md").read_text()
        assert (
            "For new examples, nothing is told of 1 pair: " in text
            and "| Deterministic | Dense VI | " in text
        )
    finally:
        path.write_bytes(sound)
