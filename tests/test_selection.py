"""Selected features: stability against hand values, recovery against what runs hold."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bench.figures import Missing, answers, examples_needed, recovery, selected, stable
from bench.statistics import kuncheva, stability
from tests.figure_data import LOOK, identifier, runs


def test_stability_by_hand():
    assert kuncheva([{0, 1, 2}, {0, 1, 3}], 10) == pytest.approx((2 - 0.9) / (3 - 0.9))
    assert kuncheva([{4, 5}, [5, 4], (4, 5)], 9) == 1
    # of sizes 1 and 4 of 8: 0.5 by chance, 1 at most
    assert kuncheva([{0}, {0, 1, 2, 3}], 8) == pytest.approx(1)
    assert kuncheva([{7}, {0, 1, 2, 3}], 8) == pytest.approx(-1)
    # three pairs: 1, and twice (0 - 4/8) / (2 - 4/8)
    assert kuncheva([{0, 1}, {0, 1}, {2, 3}], 8) == pytest.approx((1 - 2 / 3) / 3)


def test_stability_of_random_sets_is_zero_on_average():
    generator = np.random.default_rng(0)
    drawn = [generator.choice(50, size=generator.integers(3, 12), replace=False) for _ in range(120)]
    assert abs(kuncheva(drawn, 50)) < 0.02


def test_stability_of_what_chance_decides_is_undefined():
    assert math.isnan(kuncheva([{1}], 5)) and math.isnan(kuncheva([set(), {1}], 5))
    assert math.isnan(kuncheva([range(5), {1}], 5))
    with pytest.raises(ValueError, match="from 0 to 4"):
        kuncheva([{5}, {1}], 5)


def test_the_interval_of_a_stability_is_that_of_the_jackknife():
    sets = [{0, 1}, {0, 1}, {2, 3}]
    found = stability(sets, 8)
    assert found.mean == pytest.approx(kuncheva(sets, 8))
    without = [kuncheva([one for one in sets if one is not left], 8) for left in sets]
    error = math.sqrt(2 / 3 * sum((value - sum(without) / 3) ** 2 for value in without))
    assert found.half_width == pytest.approx(4.302653 * error)
    assert stability([{0, 1}] * 5, 8) == (1, 0)
    # below three sets, and where all that is known is in one pair, nothing can be left out
    assert math.isnan(stability(sets[:2], 8).half_width)
    assert math.isnan(stability([{0, 1}, {0, 2}, set()], 8).half_width)


def test_the_interval_of_a_stability_covers_what_it_should():
    """Of 60 items 12 are chosen with a probability that falls with their number."""
    generator = np.random.default_rng(0)
    weights = 0.9 ** np.arange(60)

    def drawn(count):
        return [generator.choice(60, 12, replace=False, p=weights / weights.sum()) for _ in range(count)]

    truth = kuncheva(drawn(300), 60)
    found = [stability(drawn(5), 60) for _ in range(200)]
    assert 0.9 <= np.mean([abs(index - truth) <= half for index, half in found]) <= 1


def test_the_scale_of_the_number_of_examples():
    assert examples_needed(1000, 10) == pytest.approx(46.05, abs=0.01)


def planted():
    """SSVI, which finds more from more examples, and a subspace that does not move."""
    sizes = {"config.dataset.features": 1000.0, "config.dataset.relevant": 10.0, "sparsity": 0.98}
    table = runs(
        *(
            {"method": method, "config.dataset.train": train, "nll": [0.5, 0.6, 0.7], **sizes}
            for train in (40.0, 400.0)
            for method in ("ssvi", "rigl")
        )
    )
    values = [0.01, 0.02, 0.03, 0.01, 0.01, 0.01, 0.90, 0.91, 0.92, 0.31, 0.30, 0.29]
    rows = [
        {"run_id": run, "stage": "train", "predictor": "mean", "split": "test", "shift": None,
         "severity": None, "metric": "input_average_precision", "value": value, "n": 1000}
        for run, value in zip(table["run_id"], values, strict=True)
    ]  # fmt: skip
    references = {identifier(0): identifier(0), identifier(1): identifier(0)}
    references |= {identifier(2): identifier(2), identifier(3): identifier(2)}
    return table, pd.DataFrame(rows), references


def test_recovery_is_told_and_drawn_by_number_of_examples():
    table, metrics, references = planted()
    tables = {"runs": table, "metrics": metrics, "history": metrics.head(0), "layers": table.head(0)}
    tables["features"] = features()
    first, second, third, *_ = answers(tables.__getitem__, references, "nll", LOOK)[0].sentences
    assert first == (
        "Average precision with which the 10 relevant of 1,000 features are found from 40 examples (chance "
        "0.01; k log(p/k) = 46 examples): SSVI 0.02 ± 0.02, RigL 0.01 ± 0.00 (n = 3 seeds)."
    )
    assert "from 400 examples" in second and "SSVI 0.91 ± 0.02, RigL 0.30 ± 0.02" in second
    assert third == (
        "Of 2 comparisons of this average precision with the reference, 1 differs, 0 are equivalent and 1 is "
        "undecided, after Holm's correction (n = 3 pairs)."
    )
    chart = recovery(table, metrics, references, LOOK)
    ssvi, rigl = chart.figure.data
    assert (
        ssvi.x == (40, 400) and ssvi.y == pytest.approx((0.02, 0.91)) and rigl.y == pytest.approx((0.01, 0.3))
    )
    assert "k log(p/k) = 46 examples" in chart.how and chart.alt.startswith(first)


def test_recovery_needs_problems_whose_features_are_known():
    table, metrics, references = planted()
    with pytest.raises(Missing, match="high_dimensional"):
        recovery(table, metrics.assign(metric="nll"), references, LOOK)


def features(*runs, stage="train"):
    """Rows of ``features``: of each run its inputs, the strongest first; input 7 has the name zyxin."""
    rows = [
        {"run_id": run, "stage": stage, "rank": rank, "input": place, "name": "zyxin" if place == 7 else None,
         "strength": 1 / rank}
        for run, places in runs for rank, place in enumerate(places, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["run_id", "stage", "rank", "input", "name", "strength"])


def genes():
    """SSVI has 8 of its 10 strongest of 100 inputs in common in all runs, RigL others each time."""
    common = {"sparsity": 0.9, "nll": [0.5, 0.6, 0.7], "stage": "final"}
    table = runs({"method": "ssvi", **common}, {"method": "rigl", **common})
    sets = [[*range(1, 9), 10 + 2 * seed, 11 + 2 * seed, 99] for seed in range(3)]
    sets += [[*range(20 + 10 * seed, 30 + 10 * seed), 98] for seed in range(3)]
    ids = table["run_id"].tolist()
    used = pd.DataFrame({"run_id": ids, "metric": "inputs_used", "value": 0.5, "n": 100})
    earlier = features(*((run, range(10)) for run in ids), stage="search")
    rows = pd.concat([earlier, features(*zip(ids, sets, strict=True), stage="final")])
    return table, used, rows, {identifier(0): identifier(0), identifier(1): identifier(0)}


def test_the_stability_of_real_runs_is_that_of_their_strongest_inputs_after_the_last_stage():
    table, used, rows, references = genes()
    chart = stable(table, used, rows, references, LOOK)
    data = chart.data.set_index("method")
    assert data.loc["ssvi", "index"] == pytest.approx((8 - 1) / (10 - 1))
    assert data.loc["rigl", "index"] == pytest.approx((0 - 1) / (10 - 1))
    assert (data["n"] == 3).all() and (data["k"] == 10).all() and (data["inputs"] == 100).all()
    assert chart.figure.data[0].x == pytest.approx((0.7778, -0.1111))
    assert chart.alt == (
        "Stability over runs of the 10 strongest of 100 inputs (Kuncheva index: 1 the same each time, 0 "
        "chance; ± 95 % jackknife interval): SSVI 0.78 ± 0.00, RigL -0.11 ± 0.00 (n = 3 runs)."
    )


def test_the_features_that_are_selected_most_often_are_named():
    table, used, rows, references = genes()
    chart = selected(table, used, rows, references, LOOK)
    mine = chart.data[chart.data["method"] == "ssvi"].set_index("input")
    assert mine.loc[7, "name"] == "zyxin" and mine.loc[3, "name"] == "input 3"
    assert mine.loc[7, "runs"] == 3 and mine.loc[7, "share"] == 1 and 99 not in mine.index
    assert list(chart.figure.data[0].text)[:2] == ["3 of 3", "3 of 3"]
    used = used.assign(split="test", shift=None, predictor="mean")
    tables = {"runs": table, "metrics": used, "features": rows, "history": used.head(0)}
    tables["layers"] = table.head(0)
    own = answers(tables.__getitem__, references, "nll", LOOK)[0].sentences
    assert any("SSVI 0.78 ± 0.00" in one for one in own)
    (often,) = (one for one in own if one.startswith("Most often"))
    assert often == (
        "Most often among the 10 strongest inputs of SSVI: input 1 (3 of 3), input 2 (3 of 3), input 3 "
        "(3 of 3), input 4 (3 of 3), input 5 (3 of 3)."
    )


def test_runs_that_recorded_no_inputs_and_tables_of_few_columns_have_no_stability():
    table, used, rows, references = genes()
    for metrics, found in ((used, rows.head(0)), (used.head(0), rows), (used.assign(n=10), rows)):
        for draw in (stable, selected):
            with pytest.raises(Missing, match="recorded which inputs they use"):
                draw(table, metrics, found, references, LOOK)
    with pytest.raises(Missing):
        stable(table[table["seed"] == 0], used, rows, references, LOOK)
