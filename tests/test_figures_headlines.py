"""The sentences that open the overview: what is best, and what differs, with seeds, interval and verdict."""

from __future__ import annotations

import numpy as np
import pytest

from bench.figures import Missing, headlines
from tests.figure_data import LOOK, identifier, runs

DENSE, SSVI, RIGL = map(identifier, range(3))
REFERENCES = {DENSE: DENSE, SSVI: DENSE, RIGL: SSVI}


@pytest.fixture
def table():
    rng = np.random.default_rng(2)

    def one(mean, **more):
        scores = list(mean + 0.002 * rng.normal(size=6))
        return {"accuracy": scores, "nll": 0.3, "compression_vs_dense_vi": 12.0, "density": 0.1} | more

    return runs(
        one(0.95, method="dense_vi", density=1.0, compression_vs_dense_vi=1.0),
        one(0.93, sparsity=0.9),
        one(0.80, sparsity=0.9, method="rigl"),
        # the luckiest of all has one seed
        {"accuracy": 0.99, "nll": 0.3, "density": 1.0, "method": "dense_vi", "sparsity": 0.0},
    )


def test_what_is_best_is_said_with_its_interval_and_what_its_lead_is_worth(table):
    best, sparse, clearest = headlines(table, REFERENCES, "accuracy", LOOK)
    assert best.words.startswith("The best accuracy of 3 configurations with 6 seeds is that of Dense VI, 9")
    assert "% (n = 6); of the others 2 differ from it, 0 are equivalent" in best.words
    assert best.page == sparse.page == "leaderboard" and sparse.where == {"leaderboard_sparse": "true"}
    assert sparse.words.startswith(
        "Of the sparse ones, with at most 10 % of the weights, it is SSVI · 90 %, 9"
    )
    assert sparse.words.endswith("12 × smaller than dense VI: worse than the best.")
    assert clearest.words.startswith(
        "Of 2 comparisons with a reference the clearest is RigL · 90 % against SSVI"
    )
    assert "(n = 6 pairs), differs (p = " in clearest.words
    assert clearest.where == {"significance_one": "RigL · 90 %", "significance_other": "SSVI · 90 %"}


def test_the_correction_covers_the_suite_whatever_is_filtered(table):
    few = table[table["config_id"] == RIGL]
    assert len(headlines(few, REFERENCES, "accuracy", LOOK)) == 1  # its reference is filtered out
    both = headlines(table[table["config_id"] != DENSE], REFERENCES, "accuracy", LOOK)[-1].words
    among = headlines(few, REFERENCES, "accuracy", LOOK, table)[-1].words
    assert both.startswith("Of 1 comparison ") and among.startswith("Of 1 comparison ") and both != among


def test_without_references_or_results_there_is_less_to_say(table):
    assert len(headlines(table, {}, "accuracy", LOOK)) == 2
    with pytest.raises(Missing):
        headlines(table.assign(status="failed"), REFERENCES, "accuracy", LOOK)
