"""Selected features: stability against hand values, recovery against what runs hold."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bench.figures import Missing, answers, examples_needed, recovery
from bench.statistics import kuncheva
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
