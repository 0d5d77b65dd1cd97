"""The leaderboard as a table: one row a method, verdicts among configurations of as many seeds."""

from __future__ import annotations

from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.figures import Missing, compared, standings
from bench.figures.standings import INTERVAL, SMALLEST, in_words
from bench.statistics import ranking
from tests.figure_data import LOOK, identifier, runs

TEN = np.linspace(-0.01, 0.01, 10)


@pytest.fixture
def table():
    """SSVI twice with 10 seeds and once, luckily, with 2; RigL clearly behind; dense VI with 2 seeds."""

    def one(mean, seeds=10, **more):
        return {"accuracy": list(mean + TEN[:seeds]), "nll": 0.3, "density": 0.1, "sparsity": 0.9, **more}

    label = "ssvi sparsity={} budget={}"
    return runs(
        one(0.9009, accuracy=list(0.9009 + 0.95 * TEN), config_label=label.format(0.9, "epochs")),
        one(0.901, config_label=label.format(0.9, "flops")),
        one(0.99, 2, sparsity=0.95, density=0.05, config_label=label.format(0.95, "epochs")),
        one(0.70, method="rigl", config_label="rigl sparsity=0.9 budget=epochs"),
        one(0.95, 2, method="dense_vi", sparsity=0.0, density=1.0, config_label="dense_vi budget=epochs"),
    )


def test_a_row_is_the_best_of_a_method_of_those_with_its_most_seeds(table):
    board = compared(table, "accuracy")
    found = standings(board, "accuracy", LOOK, references={identifier(3)})
    assert list(found.table["method"]) == ["Dense VI", "SSVI", "RigL (reference)"]
    assert list(found.board["config_id"]) == [identifier(4), identifier(1), identifier(3)]
    assert list(found.table["n"]) == [2, 10, 10]
    assert list(found.table["sparsity %"]) == [0, 90, 90]
    assert list(found.table["budget"]) == ["equal epochs", "equal FLOPs", "equal epochs"]
    assert found.table["accuracy % ↑"].tolist() == pytest.approx([94.111, 90.1, 70.0], abs=0.2)


def test_configurations_unfold_below_their_method_or_all_stand_in_order(table):
    board = compared(table, "accuracy")
    found = standings(board, "accuracy", LOOK, ["ssvi"])
    assert list(found.table["method"]) == ["Dense VI", "SSVI", "↳ SSVI", "↳ SSVI", "RigL"]
    assert list(found.board["config_id"]) == [identifier(n) for n in (4, 1, 2, 0, 3)]
    every = standings(board, "accuracy", LOOK, None)
    assert list(every.board["config_id"]) == list(board["config_id"])
    assert "settings" not in found.table  # nothing else differs


def test_a_configuration_is_judged_among_those_with_as_many_seeds(table):
    board = compared(table, "accuracy").set_index("config_id")
    verdicts = {number: board.loc[identifier(number), "verdict"] for number in range(5)}
    assert verdicts[2] == verdicts[1] == "best" and verdicts[3] == "worse"
    assert verdicts[0] == "equivalent" and verdicts[4] == "worse"
    told = standings(compared(table, "accuracy"), "accuracy", LOOK, None).table
    assert set(told["verdict"]) == {"● best", "≈ equivalent", "▽ differs"}
    assert "Of 5 configurations 2 differ" in in_words(board, "accuracy")


def test_sparse_is_what_has_lost_weights_whatever_was_asked_for(table):
    by_outcome = table.assign(sparsity=0.0)
    assert set(compared(by_outcome, "accuracy", sparse=True)["method"]) == {"ssvi", "rigl"}
    with pytest.raises(Missing, match="No finished run"):
        compared(table.assign(density=1.0), "accuracy", sparse=True)


def test_what_is_denser_than_any_that_was_asked_for_a_sparsity_is_not_sparse(table):
    outcome = table[table["method"] == "dense_vi"].assign(
        method="lbbnn", config_id=identifier(77), config_label="lbbnn", density=0.43
    )
    outcome["run_id"] = [identifier(7700 + seed) for seed in range(len(outcome))]
    both = pd.concat([table, outcome])
    assert "lbbnn" not in set(compared(both, "accuracy", sparse=True)["method"])
    asked = both["density"][both["sparsity"] > 0].max()
    as_sparse = both.assign(density=both["density"].mask(both["method"] == "lbbnn", asked))
    assert "lbbnn" in set(compared(as_sparse, "accuracy", sparse=True)["method"])


def test_the_smallest_difference_that_would_show_is_that_of_the_first_test_of_all_pairs():
    rng = np.random.default_rng(0)
    values = rng.normal(0.9, 0.01, (3, 6))
    given = runs(*({"accuracy": list(row), "sparsity": 0.5 + n / 10} for n, row in enumerate(values)))
    found = ranking(given, "accuracy").set_index("config_id")
    order = np.argsort(-values.mean(axis=1))
    for other in order[1:]:
        gaps = values[order[0]] - values[other]
        error = gaps.std(ddof=1) / 6**0.5
        smallest = stats.t.isf(0.05 / (2 * 3), 5) * error
        assert found.loc[identifier(other), "smallest"] == pytest.approx(smallest)
    assert np.isnan(found.loc[identifier(order[0]), "smallest"])


def test_intervals_are_drawn_on_one_scale(table):
    found = standings(compared(table, "accuracy"), "accuracy", LOOK)
    pictures = [unquote(picture) for picture in found.table[INTERVAL]]
    assert all(picture.startswith("data:image/svg+xml") for picture in pictures)
    marks = [float(picture.partition('cx="')[2].partition('"')[0]) for picture in pictures]
    assert marks == sorted(marks, reverse=True)  # best first, and more is better
    assert LOOK.colour("rigl") in pictures[2]


def test_numbers_are_numbers_and_single_seeds_show_nothing():
    one = {"sparsity": 0.9, "density": 0.1, "accuracy": 0.9, "nll": 0.1}
    found = standings(compared(runs(one, {**one, "method": "rigl"}), "accuracy"), "accuracy", LOOK)
    texts = {"method", "verdict", INTERVAL}
    assert texts == {head for head in found.table if not pd.api.types.is_numeric_dtype(found.table[head])}
    assert found.table[SMALLEST].isna().all() and list(found.table["verdict"])[1] == "○ undecided"
