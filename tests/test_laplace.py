"""Laplace: curvature of the last layer, its prior by the marginal likelihood, samples of the posterior."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bench
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.run_folder import RunFolder
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training.trainer import Trainer
from methods.base import Task
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.laplace import PRECISIONS, Laplace, LaplaceOptions, LastLayer, best_precision

N, WIDTH, CLASSES = 7, 4, 3


def problem(n=N, bias=True):
    """A network in float64, inputs, and the features that its last layer gets."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES, bias=bias)).double()
    inputs = torch.randn(n, 2, dtype=torch.float64)
    return network, inputs, network[1](network[0](inputs)).detach()


def hessian(network, inputs, labels):
    """The Hessian of the summed cross-entropy in the weights of the last layer, (C, D, C, D), by autograd."""
    module = LastLayer(network, "network.2")

    def loss(weights):
        return F.cross_entropy(module.with_last(weights)(inputs), labels, reduction="sum")

    return torch.autograd.functional.hessian(loss, module.weights().clone())


def curvature(network, inputs, features, structure, batches=3):
    module = LastLayer(network, "network.2")
    for chosen in torch.arange(len(inputs)).chunk(batches):
        module.add(features[chosen], network(inputs[chosen]).detach(), structure)
    return module


@pytest.mark.parametrize("bias", [True, False])
def test_the_diagonal_is_that_of_the_hessian(bias):
    network, inputs, features = problem(bias=bias)
    whole = hessian(network, inputs, torch.arange(N) % CLASSES)
    module = curvature(network, inputs, features, "diag")
    expected = whole.reshape(module.diagonal.numel(), -1).diag().view_as(module.diagonal)
    assert torch.allclose(N * module.diagonal, expected, rtol=1e-10)
    module.finish(N, 0.3)
    assert torch.allclose(module.precision, expected + 0.3, rtol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_the_kronecker_product_is_the_hessian_for_one_example(bias):
    network, inputs, features = problem(1, bias)
    whole = hessian(network, inputs, torch.tensor([1]))
    module = curvature(network, inputs, features, "kron", 1)
    found = torch.einsum("ab,ij->aibj", module.logits, module.inputs)
    assert torch.allclose(found, whole, rtol=1e-10, atol=1e-14)


def test_its_factors_are_means_over_examples_of_those_of_one():
    """Traces of the Hessians of the examples one by one give both factors, each up to the other's trace."""
    network, inputs, features = problem()
    each = [hessian(network, inputs[n : n + 1], torch.tensor([0])) for n in range(N)]
    extended = torch.cat([features, torch.ones(N, 1, dtype=torch.float64)], 1)
    squares = extended.square().sum(1)
    logits = sum(torch.einsum("aibi->ab", h) / s for h, s in zip(each, squares, strict=True)) / N
    module = curvature(network, inputs, features, "kron")
    assert torch.allclose(module.logits, logits, rtol=1e-10, atol=1e-14)
    second = (
        sum(
            torch.einsum("aiaj->ij", h) / torch.einsum("aibi->ab", h).trace() * s
            for h, s in zip(each, squares, strict=True)
        )
        / N
    )
    assert torch.allclose(module.inputs, second, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_samples_have_the_inverse_curvature_as_covariance(structure):
    """Within five standard errors of 40,000 draws, in every entry."""
    network, inputs, features = problem()
    module = curvature(network, inputs, features, structure)
    if structure == "kron":
        precision = N * torch.kron(module.logits, module.inputs)
    else:
        precision = N * module.diagonal.reshape(-1).diag()
    expected = torch.linalg.inv(precision + 0.5 * torch.eye(len(precision), dtype=torch.float64))
    module.finish(N, 0.5)
    n, generator = 40_000, torch.Generator().manual_seed(1)
    drawn = torch.stack([module.sample(generator).reshape(-1) for _ in range(n)])
    spread = expected.diag()
    error = ((spread[:, None] * spread[None] + expected.square()) / n).sqrt()
    assert ((torch.cov(drawn.T) - expected).abs() <= 5 * error).all()
    assert ((drawn.mean(0) - module.weights().reshape(-1)).abs() <= 5 * (spread / n).sqrt()).all()


@pytest.mark.slow  # the package takes long to import
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_the_posterior_is_that_of_laplace_torch(structure, bias):
    """Of weights and of biases; of a weight and a bias that package leaves out the covariance."""
    import laplace

    network, inputs, features = problem(bias=bias)
    labels = torch.arange(N) % CLASSES
    of_structure = {"kron": laplace.KronLLLaplace, "diag": laplace.DiagLLLaplace}[structure]
    theirs = of_structure(network, "classification", prior_precision=0.3)
    theirs.fit(DataLoader(TensorDataset(inputs, labels), batch_size=N))
    ours = curvature(network, inputs, features, structure)
    ours.finish(N, 0.3)
    if structure == "kron":
        expected = theirs.posterior_precision.to_matrix()
        axes = torch.kron(ours.left, ours.right)
        found = axes @ ours.precision.reshape(-1).diag() @ axes.T
    else:
        expected = theirs.posterior_precision.diag()
        found = ours.precision.reshape(-1).diag()
    # there weights come first, then biases; here the bias is the last column of the weights
    order = torch.arange(CLASSES * (WIDTH + bias)).view(CLASSES, -1)
    weights, biases = order[:, :WIDTH].reshape(-1), order[:, WIDTH:].reshape(-1)
    own = torch.arange(len(weights)), torch.arange(len(weights), len(expected))
    for ours_at, theirs_at in zip((weights, biases), own, strict=True):
        assert torch.allclose(found[ours_at][:, ours_at], expected[theirs_at][:, theirs_at], atol=1e-10)


def test_the_prior_has_the_largest_marginal_likelihood():
    network, inputs, features = problem(40)
    module = curvature(network, inputs, features, "kron")
    whole = 40 * torch.kron(module.logits, module.inputs)
    weights = module.weights().reshape(-1)
    eye = torch.eye(len(whole), dtype=torch.float64)

    def evidence(d):
        prior = torch.distributions.MultivariateNormal(torch.zeros_like(weights), eye / d)
        return float(prior.log_prob(weights) - 0.5 * torch.logdet(whole + d * eye))

    best = max(PRECISIONS.tolist(), key=evidence)
    assert best_precision(torch.linalg.eigvalsh(whole).clamp(min=0), float(weights.square().sum())) == best
    assert PRECISIONS[0] < best < PRECISIONS[-1]
    module.finish(40, None)
    assert float(module.precision.min()) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("structure", ["kron", "diag"])
def test_a_run_sees_every_example_once_with_the_weights_that_it_keeps(structure, tmp_path, monkeypatch):
    chosen = {"dataset": "digits", "network": {"name": "cnn", "channels": [3, 5]}, "precision": "float64"}
    run = parse_spec(
        nest(chosen | {"epochs": 1, "method": "laplace", "structure": structure, "prior_precision": 2.0})
    )
    kept = {}
    finish = LastLayer.finish

    def note(self, examples, prior_precision):
        kept.update(seen=int(self.seen), inputs=self.inputs, logits=self.logits, diagonal=self.diagonal)
        finish(self, examples, prior_precision)

    monkeypatch.setattr(LastLayer, "finish", note)
    trained, done = make_problem(run), []
    trainer = Trainer(
        trained, RunFolder(tmp_path), stage_done=lambda module, stage: done.append(
            {name: value.clone() for name, value in module.network.state_dict().items()}
        ) or {}, stop=lambda: False, report=lambda at: None, checkpoint_seconds=float("inf"),
        started=time.perf_counter(),
    )  # fmt: skip
    module = trainer.run().eval()
    for name, value in done[0].items():  # weights and running statistics do not change in the second stage
        assert torch.equal(module.network.state_dict()[name], value), name
    inputs = torch.cat([x for x, _ in trained.batches(trained.splits.train, 100)])
    features = []
    hook = module.last.register_forward_hook(lambda _, given, output: features.append(given[0]))
    with torch.no_grad():
        logits = module(inputs)
    hook.remove()
    again = LastLayer(module.network, module._layer)
    again.add(features[0], logits, structure)
    assert kept["seen"] == trained.task.examples == len(inputs)
    for name in ("inputs", "logits", "diagonal"):
        assert torch.allclose(kept[name], getattr(again, name), rtol=1e-9, atol=1e-12), name
    again.finish(len(inputs), 2.0)
    assert torch.allclose(module.precision, again.precision, rtol=1e-6)


def test_a_network_that_ends_otherwise_is_refused():
    task, method = Task((2,), 3, 10), Laplace(LaplaceOptions())
    ends = nn.Sequential(nn.Linear(2, 3), nn.LogSoftmax(-1))
    with pytest.raises(UserError, match="outputs are not those of a linear layer"):
        method.build(ends, Streams(0), task)
    with pytest.raises(UserError, match="no linear layer"):
        Laplace.validate(LaplaceOptions(), nn.Sequential(nn.Conv2d(1, 3, 2)))
    alone = method.build(nn.Linear(2, 3), Streams(0), task)
    assert alone.last is alone.network


def test_a_curvature_larger_than_the_network_is_refused():
    wide = nn.Sequential(nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 3))
    with pytest.raises(
        UserError, match=r"kron would keep 101 x 101 numbers .* of the network; valid here: diag"
    ):
        Laplace.validate(LaplaceOptions(), wide)
    Laplace.validate(LaplaceOptions(structure="diag"), wide)


@pytest.mark.slow
def test_a_compiled_network_has_the_same_curvature(tmp_path):
    chosen = {
        "dataset": "digits",
        "network": {"name": "mlp", "hidden": [16]},
        "epochs": 1,
        "method": "laplace",
    }
    found = []
    for compiled in (False, True):
        store = Store(tmp_path / str(compiled), create=True)
        run = parse_spec(nest(chosen))
        assert execute(run, store, Execution(compile=compiled)) == "done"
        found.append(bench.load(run.run_id, store.root).module.state_dict()["precision"])
    assert torch.allclose(*found, rtol=1e-3)
