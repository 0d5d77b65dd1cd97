"""What is recorded of a moving subspace, against plain computations."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from methods.core.style import Style
from methods.criteria.base import CRITERIA, Criterion
from methods.criteria.moments import Moments
from methods.layers.posterior import SparseGaussian
from methods.subspace import recording, surgery


def recorder():
    """A context that keeps rows as (table, row), at step 7 of a stage."""
    rows = []
    progress = SimpleNamespace(stage="train", epoch=2, step=7)
    context = SimpleNamespace(
        progress=progress, memory={}, record=lambda table, row: rows.append((table, row))
    )
    return context, rows


def slots(n=400, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(n, generator=g), 0.01 + 0.1 * torch.rand(n, generator=g)


@pytest.mark.parametrize("n", [1, 37, 400])
def test_pairs_compare_the_sets_and_ranks_of_the_criteria(n):
    (mean, std), (context, rows) = slots(), recorder()
    recording.record_criteria(context, "hidden", Moments(mean, std, 2.0), "snr", n)
    found = {(row["criterion_a"], row["criterion_b"]): row for _, row in rows}
    names = ["abs_mean", "snr", "mean_abs", "mean_exp", "snr_exp"]
    assert list(found) == list(combinations(names, 2))
    for (a, b), row in found.items():
        first, second = (CRITERIA.get(name)().score(Moments(mean, std, 2.0)).numpy() for name in (a, b))
        gone = [set(np.argsort(score, kind="stable")[:n].tolist()) for score in (first, second)]
        assert row["iou"] == pytest.approx(len(gone[0] & gone[1]) / len(gone[0] | gone[1]))
        assert row["rank_correlation"] == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)
        assert (row["step"], row["layer"], row["criterion_used"]) == (7, "hidden", "snr")


class Foreign(Criterion):
    """A criterion of another package."""

    name = "foreign"
    style = Style("Foreign", hue="#000000", hue_dark="#ffffff")
    formula, latex, source = "-std", r"-\sigma", "nowhere"

    def score(self, moments):
        return -moments.std


def test_a_criterion_of_others_is_compared_in_runs_of_its_own_alone(monkeypatch):
    monkeypatch.setitem(CRITERIA._registered, "foreign", Foreign)
    names = {}
    for used in ("snr", "foreign"):
        context, rows = recorder()
        recording.record_criteria(context, "hidden", Moments(*slots()), used, 9)
        names[used] = list(dict.fromkeys(row[f"criterion_{side}"] for side in "ab" for _, row in rows))
    assert names["snr"] == ["abs_mean", "snr", "mean_abs", "mean_exp", "snr_exp"]
    assert names["foreign"] == [*names["snr"], "foreign"]


def test_a_large_layer_is_ranked_on_an_even_sample():
    (mean, std), (context, rows) = slots(4 * recording.RANKED), recorder()
    recording.record_criteria(context, "hidden", Moments(mean, std), "snr", 100)
    sample = spearmanr(mean.abs()[::4], (mean.abs() / std)[::4]).statistic
    assert rows[0][1]["rank_correlation"] == pytest.approx(sample, abs=1e-6)


def test_one_slot_has_no_rank_correlation():
    (mean, std), (context, rows) = slots(1), recorder()
    recording.record_criteria(context, "hidden", Moments(mean, std), "snr", 1)
    assert {row["rank_correlation"] for _, row in rows} == {None}
    assert {row["iou"] for _, row in rows} == {1.0}


def test_nothing_removed_is_nothing_to_compare():
    context, rows = recorder()
    recording.record_criteria(context, "hidden", Moments(*slots()), "snr", 0)
    assert rows == []


def test_a_change_is_described_by_its_sets_and_scores():
    mean, std = slots(5)
    index = torch.tensor([1, 4, 6, 9, 15], dtype=torch.int32)
    posterior = SparseGaussian((4, 4), index.clone(), mean, std, "softplus")
    context, rows = recorder()
    context.memory["initial/hidden"] = torch.tensor([1, 2, 4, 6, 8], dtype=torch.int32)
    change = surgery.Change(keep=torch.tensor([0, 2, 3]), add=torch.tensor([5, 12]))
    before = torch.tensor([10.0, 1.0, 20.0, 30.0, 2.0], dtype=torch.float64)
    optimiser = torch.optim.SGD(posterior.parameters(), lr=0.1)
    surgery.apply(posterior, change, optimiser)  # slots 1 5 6 9 12
    after = torch.tensor([10.0, 0.25, 20.0, 30.0, 0.5], dtype=torch.float64)
    recording.record_change(context, "hidden", posterior, change, before, after)
    ((table, row),) = rows
    assert table == "layers"
    assert (row["slots"], row["replaced"], row["removed"]) == (5, 2, 2)
    assert row["iou_previous"] == pytest.approx(3 / 7)
    assert row["iou_initial"] == pytest.approx(2 / 8)  # 1 and 6 of 1 2 4 6 8 and 1 5 6 9 12
    assert [row[f"kept_q{q}"] for q in (10, 50, 90)] == [10.0, 20.0, 20.0]
    assert [row[f"removed_q{q}"] for q in (10, 50, 90)] == [1.0, 1.0, 1.0]
    assert [row[f"added_q{q}"] for q in (10, 50, 90)] == [0.25, 0.25, 0.25]


def test_quantiles_are_order_statistics_and_none_of_nothing():
    values = torch.randperm(101, generator=torch.Generator().manual_seed(0)).double()
    assert recording._quantiles(values) == [10.0, 50.0, 90.0]
    assert recording._quantiles(values[:0]) == [None] * 3


@pytest.mark.parametrize(
    ("updates", "steps", "least", "most"),
    [(586, 78_200, 17, 20), (13, 360, 7, 9), (2, 50, 2, 2), (1, 10, 1, 1), (0, 3, 0, 0)],
)
def test_snapshots_are_few_and_span_all_updates(updates, steps, least, most):
    chosen = recording.snapshots(updates, steps)
    assert least <= len(chosen) <= most
    if updates:
        assert {1, updates} <= chosen <= set(range(1, updates + 1))
