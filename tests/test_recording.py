"""What is recorded of a moving subspace, against plain computations."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from methods.core.style import Style
from methods.criteria.base import CRITERIA, Criterion
from methods.criteria.moments import Moments
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import SparseGaussian
from methods.subspace import lifetimes, recording, surgery


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


class Fixed(VariationalLayer):
    """A layer that only has a posterior."""

    def __init__(self, posterior):
        nn.Module.__init__(self)
        self.posterior = posterior


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
    context.module = nn.ModuleDict({"hidden": Fixed(posterior)})
    lifetimes.begin(context)
    surgery.apply(posterior, change, optimiser)  # slots 1 5 6 9 12
    after = torch.tensor([10.0, 0.25, 20.0, 30.0, 0.5], dtype=torch.float64)
    recording.record_change(context, "hidden", posterior, change, index, before, after)
    ((table, row),) = rows
    assert (row["regrown"], row["age_q50"], row["removed_age_q50"]) == (0, 7, 7)
    assert table == "layers"
    assert (row["slots"], row["replaced"], row["removed"]) == (5, 2, 2)
    assert row["iou_previous"] == pytest.approx(3 / 7)
    assert row["iou_initial"] == pytest.approx(2 / 8)  # 1 and 6 of 1 2 4 6 8 and 1 5 6 9 12
    assert [row[f"kept_q{q}"] for q in (10, 50, 90)] == [10.0, 20.0, 20.0]
    assert [row[f"removed_q{q}"] for q in (10, 50, 90)] == [1.0, 1.0, 1.0]
    assert [row[f"added_q{q}"] for q in (10, 50, 90)] == [0.25, 0.25, 0.25]


def test_quantiles_are_order_statistics_and_none_of_nothing():
    values = np.random.default_rng(0).permutation(101).astype(float)
    assert recording._quantiles(values) == [10.0, 50.0, 90.0]
    assert recording._quantiles(values[:0]) == [None] * 3


@pytest.mark.parametrize(
    ("updates", "steps", "least", "most"),
    [(586, 78_200, 17, 20), (13, 360, 3, 3), (2, 50, 2, 2), (1, 10, 1, 1), (0, 3, 0, 0)],
)
def test_snapshots_are_few_and_span_all_updates(updates, steps, least, most):
    chosen = recording.snapshots(updates, steps)
    assert least <= len(chosen) <= most
    if updates:
        assert {1, updates} <= chosen <= set(range(1, updates + 1))


def moved(context, posteriors, change_of, optimiser):
    """Make an update of every layer and return the columns that follow lives, by layer."""
    found = {}
    for name, posterior in posteriors.items():
        before, change = posterior.index.numpy().copy(), change_of(posterior)
        surgery.apply(posterior, change, optimiser)
        keep, add, index = change.keep.numpy(), change.add.numpy(), posterior.index.numpy()
        left = np.setdiff1d(np.arange(len(before)), keep)
        found[name] = lifetimes.follow(
            context, name, posterior, keep, add, before, left, np.searchsorted(index, add)
        )
    return found


@pytest.mark.parametrize("grows", [False, True])
def test_ages_and_weights_that_come_back_are_those_of_a_replay(grows):
    """Sets of Python, over 60 updates of two layers; with ``grows`` one layer gets weights of the other."""
    g = torch.Generator().manual_seed(4)
    context, rows = recorder()
    posteriors = {}
    for name, (size, count) in {"first": (40, 12), "second": (30, 9)}.items():
        index = torch.randperm(size, generator=g)[:count].sort().values.int()
        posteriors[name] = SparseGaussian((size,), index, torch.zeros(count), torch.ones(count), "softplus")
    context.module = nn.ModuleDict({name: Fixed(posterior) for name, posterior in posteriors.items()})
    context.progress.step = 0
    lifetimes.begin(context)
    born = {name: dict.fromkeys(p.index.tolist(), 0) for name, p in posteriors.items()}
    gone = {name: [] for name in posteriors}
    visited = {}
    for step in range(3, 183, 3):
        context.progress.step = step
        shift = {"first": 1, "second": -1} if grows and step < 13 else {"first": 0, "second": 0}
        expected = {}

        def change_of(posterior, step=step, shift=shift, expected=expected):
            name = next(each for each, other in posteriors.items() if other is posterior)
            size, slots = posterior.shape.numel(), posterior.active
            keep = torch.randperm(slots, generator=g)[: slots - 3].sort().values
            free = [at for at in range(size) if at not in set(posterior.index.tolist())]
            some = torch.randperm(len(free), generator=g)[: 3 + shift[name]].tolist()
            add = torch.tensor(sorted(free[at] for at in some))
            kept = {posterior.index.tolist()[at] for at in keep.tolist()}
            removed = [at for at in born[name] if at not in kept]
            lives = sorted(step - born[name].pop(at) for at in removed)
            back = [at for at in add.tolist() if at in gone[name]]
            gone[name] = [at for at in gone[name] if at not in back] + sorted(removed)
            born[name] |= dict.fromkeys(add.tolist(), step)
            gone[name] = gone[name][-len(born[name]) :]
            ages = sorted(step - at for at in born[name].values())
            middle = [values[(len(values) - 1) // 2] for values in (ages, lives)]
            expected[name] = {"regrown": len(back), "age_q50": middle[0], "removed_age_q50": middle[1]}
            return surgery.Change(keep, add)

        optimiser = torch.optim.SGD(context.module.parameters(), lr=0.1)
        assert moved(context, posteriors, change_of, optimiser) == expected
        if step % 9 == 0:
            lifetimes.pass_by(context)
            visited[step] = {name: set(p.index.tolist()) for name, p in posteriors.items()}
    assert any(found["regrown"] for found in expected.values())
    final = {name: set(p.index.tolist()) for name, p in posteriors.items()}
    lifetimes.record_final(context)
    assert [row["step"] for _, row in rows] == list(visited)
    for table, row in rows:
        sets = visited[row["step"]]
        common = sum(len(sets[name] & final[name]) for name in final)
        union = sum(len(sets[name] | final[name]) for name in final)
        assert (table, row["metric"], row["value"]) == ("history", "iou_final", common / union)


def test_large_subspaces_are_compared_on_a_sample():
    g = torch.Generator().manual_seed(0)
    first, second = (torch.randperm(400_000, generator=g)[:100_000].sort().values.int() for _ in range(2))
    posterior = SparseGaussian(
        (400_000,), first.clone(), torch.zeros(100_000), torch.ones(100_000), "softplus"
    )
    context, rows = recorder()
    context.module = nn.ModuleDict({"hidden": Fixed(posterior)})
    lifetimes.begin(context)
    lifetimes.pass_by(context)
    held = context.memory["passed"][7]["sets"]["hidden"].numel()
    assert held == pytest.approx(lifetimes.COMPARED, rel=0.1)
    posterior.index.copy_(second)
    lifetimes.record_final(context)
    ((_, row),) = rows
    exact = len(np.intersect1d(first, second)) / len(np.union1d(first, second))
    assert row["value"] == pytest.approx(exact, abs=4 * (exact / held) ** 0.5)
