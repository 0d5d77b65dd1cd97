"""Kill processes and cut files at random: a grid finishes, and its results are the same."""

from __future__ import annotations

import pytest

from tests.chaos import chaos


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_grid_gets_through_chaos(tmp_path):
    outcome = chaos(tmp_path, kills=20, runs=60, seed=0)
    assert not outcome.wrong, "\n".join(outcome.wrong)
    assert outcome.done["workers killed"] + outcome.done["launchers killed"] >= 20
    assert min(outcome.done["workers killed"], outcome.done["launchers killed"]) > 0
    assert outcome.done["files cut short"] > 0
