"""The free energy before and after updates: right values, and nothing else changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.layers.layer import gaussians, sparse_layers
from methods.subspace import free_energy
from tests import toys  # noqa: F401  (registers the toys)

MEASURED = ("free_energy_before", "free_energy_after")
TOY = {
    "dataset": "toy_blobs", "network": "toy_network", "epochs": 4, "batch_size": 16, "lr": 0.05,
    "sparsity": 0.5, "replace_every": 3,
}  # fmt: skip


def run(folder, **options):
    """Return the finished run in its folder."""
    spec, store = parse_spec(nest(TOY | options)), Store(folder, create=True)
    assert execute(spec, store, Execution()) == "done"
    return store.run(spec.run_id)


def measured(folder):
    """Return the values before and after, by step."""
    rows = [row for row in folder.rows("history") if row["metric"] in MEASURED]
    before, after = ({r["step"]: r["value"] for r in rows if r["metric"] == name} for name in MEASURED)
    assert list(before) == list(after)
    return {step: (before[step], after[step]) for step in before}


@pytest.mark.parametrize("method", ["ssvi", "rigl"])
def test_it_is_measured_before_and_after_some_updates(method, tmp_path):
    values = measured(run(tmp_path, method=method))
    steps = {row["step"] for row in run(tmp_path, method=method).rows("layers")}
    assert len(values) == 2 and set(values) == {min(steps), max(steps)}
    assert all(math.isfinite(value) for pair in values.values() for value in pair)
    assert all(before != after for before, after in values.values())


@pytest.mark.parametrize("options", [{"dropout": 0.4}, {"addition": "grad_averaged"}], ids=str)
def test_nothing_else_changes(options, tmp_path, monkeypatch):
    """Batch-norm statistics, dropout, noise and weights are those of a run that does not measure."""
    whole = run(tmp_path / "measured", method="ssvi", **options)
    monkeypatch.setattr(free_energy, "of_minibatch", lambda *_: 0.0)
    plain = run(tmp_path / "not", method="ssvi", **options)
    assert measured(plain) and not any(map(any, measured(plain).values()))
    stored = [torch.load(folder.path / "model.pt", weights_only=True) for folder in (whole, plain)]
    assert all(torch.equal(stored[0][key], stored[1][key]) for key in stored[0])
    assert whole.read("metrics")["metrics"] == plain.read("metrics")["metrics"]
    assert whole.read("costs")["train_flops"] == plain.read("costs")["train_flops"]


def test_it_is_the_loss_of_the_mean_plus_the_kl_where_scales_are_nothing(tmp_path, monkeypatch):
    """Computed again from dense weights, for a linear network whose noise cannot be seen."""
    kept, original = [], free_energy.of_minibatch

    @torch.no_grad()
    def beside(loss, context):
        value = original(loss, context)
        ((_, layer, posterior),) = sparse_layers(context.module)
        weight = torch.zeros(posterior.shape.numel())
        weight[posterior.index.long()] = posterior.mean
        x, y = context.batch
        nll = functional.cross_entropy(
            functional.linear(x.flatten(1), weight.view(posterior.shape), layer.bias), y
        )
        mean, std, prior = posterior.mean.double(), posterior.std.double(), 0.5
        kl = (math.log(prior) - std.log() + (std**2 + mean**2) / (2 * prior**2) - 0.5).sum()
        assert len(list(gaussians(context.module))) == 1
        weight_of_kl = 1 / context.progress.examples
        kept.append((value, float(nll) + weight_of_kl * float(kl)))
        return value

    monkeypatch.setattr(free_energy, "of_minibatch", beside)
    options = {"initial_std": 1e-6, "prior_std": 0.5, "kl_factor": 1.0, "kl_warmup": 0.0}
    options |= {"dataset": "digits", "network": "mlp", "network.hidden": [], "lr_scale": 1e-6, "epochs": 1}
    run(tmp_path, method="ssvi", **options)
    assert len(kept) == 2
    assert [value for value, _ in kept] == pytest.approx([expected for _, expected in kept], rel=1e-4)


def test_the_noise_is_the_same_at_each_call(tmp_path, monkeypatch):
    """So that the difference between two calls is that of the subspace alone."""
    pairs, original = [], free_energy.of_minibatch

    def twice(loss, context):
        pairs.append((original(loss, context), original(loss, context)))
        return pairs[-1][0]

    monkeypatch.setattr(free_energy, "of_minibatch", twice)
    run(tmp_path, method="ssvi", initial_std=0.3, dropout=0.2)
    assert pairs and all(first == second for first, second in pairs)
