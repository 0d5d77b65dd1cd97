"""SWAG: moments of the weights that training visits, and samples of the Gaussian that they describe."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from bench.experiment import preflight
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.run_folder import RunFolder
from bench.training.trainer import Trainer
from methods.core.errors import UserError
from methods.core.options import to_dict
from methods.layers.layer import sparse_layers
from methods.swag import SWAG, Moments, SWAGOptions

BASE = {"dataset": "digits", "network": {"name": "mlp", "hidden": [12]}, "epochs": 4, "method": "swag"}


def spec(**options):
    return parse_spec(nest(BASE | options))


def trained(run, folder, monkeypatch):
    """The module after a training of ``run``, and the vector of weights and learning rate after each step."""
    visited, rates = [], []
    after = SWAG.after_step

    def note(self, context):
        after(self, context)
        visited.append(context.module.vector())
        rates.append(context.optimiser.param_groups[0]["lr"])

    monkeypatch.setattr(SWAG, "after_step", note)
    trainer = Trainer(
        make_problem(run), RunFolder(folder), stage_done=lambda *_: {}, stop=lambda: False,
        report=lambda at: None, checkpoint_seconds=float("inf"), started=time.perf_counter(),
    )  # fmt: skip
    return trainer.run().eval(), visited, rates


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
@pytest.mark.parametrize(("snapshots", "rank"), [(6, 4), (9, 20), (1000, 3), (5, 0)])
def test_moments_are_those_of_the_weights_visited(sparsity, snapshots, rank, tmp_path, monkeypatch):
    run = spec(sparsity=sparsity, snapshots=snapshots, rank=rank, precision="float64", lr=0.05)
    module, visited, rates = trained(run, tmp_path, monkeypatch)
    steps = len(visited)
    late = visited[steps * 3 // 4 :]  # `collect` is a quarter
    ends = [len(late) * k / snapshots for k in range(1, snapshots + 1)]
    due = late if snapshots >= len(late) else [late[-int(-end // 1) - 1] for end in ends]
    weights = torch.stack(due)
    assert int(module.count) == len(due)
    assert torch.allclose(module.first, weights.mean(0), rtol=0, atol=1e-12)
    second = (weights - weights.mean(0)).square().mean(0)[: module.second.numel()]
    assert torch.allclose(module.second, second, rtol=0, atol=1e-12)
    means = torch.stack([weights[: k + 1].mean(0) for k in range(len(due))])
    last = [(weights - means)[k] for k in range(len(due))][-rank:] if rank else []
    kept = sorted(module.deviations.tolist())
    assert len(kept) == len(last)
    for one, other in zip(kept, sorted(row.tolist() for row in last), strict=True):
        assert one == pytest.approx(other, abs=1e-12)
    # they have the size of the active weights
    active = sum(posterior.active for *_, posterior in sparse_layers(module))
    others = 64 * 12 + 12 * 10 if sparsity == 0 else active
    assert module.first.numel() == others + 12 + 10
    assert rates[steps * 3 // 4 :] == [pytest.approx(0.2 * 0.05)] * len(late)


def test_samples_have_the_covariance_of_the_paper():
    """Half the variances plus half of D D' / (K - 1), within five standard errors of 40,000 draws."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)).double()
    module = Moments(network)
    for _ in range(6):
        with torch.no_grad():
            for value in (*network.parameters(), network[1].running_mean, network[1].running_var):
                value.add_(0.3 * torch.randn(value.shape, dtype=value.dtype))
        module.take(4)
    n, generator = 40_000, torch.Generator().manual_seed(1)
    drawn = torch.stack([module.sample(0.5, generator) for _ in range(n)])
    variance = module.second
    assert (variance > 0).all() and module.deviations.shape == (4, 5)
    expected = 0.5 * torch.diag(variance) + 0.5 * module.deviations.T @ module.deviations / 3
    # running statistics are those of the mean in every sample
    assert torch.equal(drawn[:, 5:], module.first[5:].expand(n, 2))
    spread = torch.diag(expected)
    error = ((spread[:, None] * spread[None] + expected.square()) / n).sqrt()
    drawn = drawn[:, :5]
    assert ((torch.cov(drawn.T) - expected).abs() <= 5 * error + 1e-12).all()
    assert ((drawn.mean(0) - module.first[:5]).abs() <= 5 * (spread / n).sqrt() + 1e-12).all()


@pytest.mark.parametrize("spread", [1e-2, 1e-5])
def test_a_small_spread_around_large_weights_is_not_lost_to_rounding(spread):
    torch.manual_seed(0)
    module = Moments(torch.nn.Linear(50, 4))
    visited = 1 + spread * torch.randn(40, 204)
    for row in visited:
        torch.nn.utils.vector_to_parameters(row, module.parameters())
        module.take(0)
    found = (module.second / visited.double().var(0, correction=0)).sqrt()
    assert (found - 1).abs().max() < 0.05


def test_without_pruning_its_options_change_nothing():
    options = SWAGOptions(prune_from=0.1, prune_every=7, rank=3)
    same = SWAG.equivalent(options)
    assert same is not None and same.options == to_dict(SWAGOptions(rank=3))
    assert SWAG.equivalent(SWAGOptions(rank=3)) is None
    assert SWAG.equivalent(replace(options, sparsity=0.5)) is None


def test_without_a_low_rank_part_the_diagonal_has_all_of_the_variance():
    module = Moments(torch.nn.Linear(3, 2).double())
    for _ in range(3):
        with torch.no_grad():
            module.network.weight.add_(torch.randn(2, 3, dtype=torch.float64))
        module.take(0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([module.sample(0.5, generator) for _ in range(40_000)])
    assert torch.allclose(drawn.var(0), module.second, rtol=5 * (2 / 40_000) ** 0.5, atol=1e-12)


def test_the_mean_network_has_the_averaged_weights(tmp_path, monkeypatch):
    run = spec(sparsity=0.7, snapshots=5)
    module, _, _ = trained(run, tmp_path, monkeypatch)
    problem = make_problem(run)
    inputs, _ = next(problem.batches(problem.splits.test, 50))
    with torch.no_grad():
        found = problem.method.mean(module)(inputs)
        for name, value in module.tensors(module.first).items():
            module.get_parameter(name).copy_(value)
        assert torch.allclose(found, module(inputs), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prune_until": 0.8}, "prune_until: 0.8 comes after the beginning of collection, at 0.75"),
        ({"prune_from": 0.7}, "prune_from: 0.7 comes after prune_until, 0.6"),
        ({"keep_dense": ["nothing"]}, "keep_dense: 'nothing' matches no sparsifiable layer"),
    ],
)
def test_what_can_not_be_pruned_before_collection_is_refused(options, words):
    with pytest.raises(UserError, match=words):
        preflight.check(spec(sparsity=0.5, **options))
