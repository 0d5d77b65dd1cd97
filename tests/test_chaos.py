"""Kill processes and cut files at random: a grid finishes, and its results are the same."""

from __future__ import annotations

import pytest

from tests.chaos import chaos

#: A short form of what ``make chaos`` does ten times as long.
KILLS, RUNS = 10, 30


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_grid_gets_through_chaos(tmp_path):
    outcome = chaos(tmp_path, kills=KILLS, runs=RUNS, seed=0)
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert outcome.done["workers killed"] + outcome.done["launchers killed"] >= KILLS
    assert min(outcome.done["workers killed"], outcome.done["launchers killed"]) > 0
    assert outcome.done["files cut short"] > 0
