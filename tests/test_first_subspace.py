"""``subspace_init``: scores of SNIP, GraSP and SynFlow against plain autograd, and runs that use them."""

from __future__ import annotations

import gc
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, hessian

from bench.checking.held import numbers_held
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS
from bench.results.run_folder import RunFolder
from bench.training.trainer import Stopped, Trainer
from methods.base import Task
from methods.core.options import parse
from methods.core.streams import Streams
from methods.layers import convert
from methods.layers.layer import sparse_layers
from methods.subspace import allocation, foresight

TASK = Task((1, 4, 4), 3, examples=40)
RULES = ["snip", "grasp", "synflow"]


def problem(name="mlp", **options):
    """A small network in float64, its sparsifiable weights, a minibatch, and the loss of it."""
    cls = NETWORKS.get(name)
    network = cls(parse(cls.Options, options)).initialised(TASK, Streams(3)).double()
    weights = {each: network.get_submodule(each).weight for each in convert.sparsifiable(network)}
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, *TASK.input_shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (12,), generator=generator)
    return network, weights, inputs, lambda: F.cross_entropy(network(inputs), labels), labels


def test_snip_is_the_sensitivity_to_a_factor_of_each_weight():
    network, weights, inputs, loss, labels = problem(hidden=[5, 4])
    factors = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    masked = {f"{name}.weight": factors[name] * weight.detach() for name, weight in weights.items()}
    F.cross_entropy(functional_call(network, masked, (inputs,)), labels).backward()
    for name, score in foresight.snip(weights, loss).items():
        torch.testing.assert_close(score, factors[name].grad.abs(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "options"),
    [("mlp", {"hidden": [5, 4]}), ("vit", {"patch": 2, "width": 4, "depth": 1, "heads": 2, "ratio": 1})],
)
def test_grasp_is_the_product_with_the_whole_hessian(name, options):
    network, weights, inputs, loss, labels = problem(name, **options)
    sizes = [weight.numel() for weight in weights.values()]
    flat = torch.cat([weight.detach().flatten() for weight in weights.values()])

    def of(vector):
        parts = zip(weights.items(), vector.split(sizes), strict=True)
        named = {f"{name}.weight": part.view_as(weight) for (name, weight), part in parts}
        return F.cross_entropy(functional_call(network, named, (inputs,)), labels)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = flat * (hessian(of)(flat) @ torch.func.grad(of)(flat))
    found = torch.cat([score.flatten() for score in foresight.grasp(weights, loss).values()])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("together", [False, True])
def test_synflow_follows_products_of_absolute_weights(together):
    network, weights, inputs, _, _ = problem(hidden=[6, 5])
    with torch.no_grad():
        network.fc1.bias.fill_(3.0)  # biases carry no flow
    matrices = {name: weight.detach().abs().numpy().copy() for name, weight in weights.items()}
    sizes = {name: matrix.size for name, matrix in matrices.items()}
    keep = 30 if together else {"fc1": 20, "fc2": 7, "classifier": 6}
    alive = {name: matrix > -1 for name, matrix in matrices.items()}
    for step in range(1, foresight.ROUNDS + 1):
        first, second, third = ((matrices[name] * alive[name]) for name in ("fc1", "fc2", "classifier"))
        before = first.sum(1)
        scores = {
            "fc1": (third.sum(0) @ second)[:, None] * first,
            "fc2": third.sum(0)[:, None] * second * before[None],
            "classifier": third * (second @ before)[None],
        }
        total = [score.sum() for score in scores.values()]
        assert total == pytest.approx([total[0]] * 3, rel=1e-9)  # as much flows through each layer
        for name, score in scores.items():
            score[~alive[name]] = -1
        share = step / foresight.ROUNDS
        if together:
            count = max(keep, round(sum(sizes.values()) * (keep / sum(sizes.values())) ** share))
            cut = sorted(value for score in scores.values() for value in score.flat)[-count]
            alive = {name: score >= cut for name, score in scores.items()}
        else:
            for name, score in scores.items():
                count = max(keep[name], round(sizes[name] * (keep[name] / sizes[name]) ** share))
                alive[name] = score >= sorted(score.flat)[-count]
    kept = foresight.synflow(network, weights, inputs[:1], keep)
    assert sum(int(marked.sum()) for marked in kept.values()) == (30 if together else 33)
    for name, marked in kept.items():
        assert torch.equal(marked, torch.from_numpy(alive[name]).flatten())


BASE = {"dataset": "digits", "network": {"name": "mlp", "hidden": [24, 16]}, "epochs": 3, "batch_size": 64}


def spec(**options):
    return parse_spec(nest(BASE | {"sparsity": 0.8} | options))


def trainer(run, folder, stop=lambda: False):
    """A trainer that scores nothing and stores no checkpoint until it is stopped."""
    return Trainer(
        make_problem(run), RunFolder(folder), stage_done=lambda *_: {}, stop=stop,
        report=lambda at: None, checkpoint_seconds=float("inf"), started=time.perf_counter(),
    )  # fmt: skip


def seen_first(run, folder, monkeypatch):
    """What training begins with: index and mean of each sparse layer before the first forward pass."""
    problem, found = make_problem(run), {}
    cls = type(problem.method)
    loss = cls.loss

    def note(self, module, batch, progress):
        if progress.step == 1:
            for name, _, posterior in sparse_layers(module):
                found[f"{progress.stage}/{name}"] = posterior.index.clone(), posterior.mean.detach().clone()
        return loss(self, module, batch, progress)

    monkeypatch.setattr(cls, "loss", note)
    trained = trainer(run, folder)
    trained.run()
    return found, trained


@pytest.mark.parametrize(
    ("method", "allocated", "rule"),
    [
        ("ssvi", "uniform", "snip"),
        ("static_vi", "uniform", "synflow"),
        ("static_vi", "erk", "grasp"),
        ("rigl", "erk", "synflow"),
        ("ssvi", "global", "grasp"),
        ("rigl", "global", "snip"),
        ("ssvi", "global", "synflow"),
    ],
)
def test_training_begins_with_the_best_weights_of_the_network(method, allocated, rule, tmp_path, monkeypatch):
    run = spec(method=method, subspace_init=rule, allocation=allocated, epochs=1)
    found, trained = seen_first(run, tmp_path, monkeypatch)
    problem, streams = trained.problem, Streams(run.seed)
    network = problem.network(streams)
    batch = next(iter(problem.training_batches(streams)))
    weights = {name: network.get_submodule(name).weight for name in convert.sparsifiable(network)}
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    shapes = {name: weight.shape for name, weight in weights.items()}
    keep = (
        allocation.total(shapes, 0.8)
        if allocated == "global"
        else allocation.allocate(allocated, shapes, 0.8, torch.Generator())
    )
    expected = foresight.choose(
        rule, network, weights, lambda: F.cross_entropy(network(batch[0]), batch[1]), batch[0][:1], keep
    )
    assert {name.removeprefix("train/") for name in found} == set(expected)
    for name, index in expected.items():
        at, mean = found[f"train/{name}"]
        assert torch.equal(at.long(), index)
        squares = start[name].square().sum()
        torch.testing.assert_close(mean.square().sum(), squares)  # outputs keep their variance
        values = start[name].flatten()[index]
        torch.testing.assert_close(mean, values * (squares / values.square().sum()) ** 0.5)
    if method != "static_vi":
        initial = {key: value for key, value in trained.state.memory.items() if key.startswith("initial/")}
        assert all(torch.equal(initial[f"initial/{name}"].long(), index) for name, index in expected.items())
    budget, flops = problem.budget, trained.state.counters.flops
    module = problem.build(Streams(run.seed))
    planned = problem.method.training_flops(module, budget) * problem.task.examples
    assert trained.state.counters.events["dense_pass"] == foresight.passes(rule, 64)
    if allocated == "global":
        assert flops <= planned * (1 + 1e-9)
    else:
        assert flops == pytest.approx(planned, rel=1e-9)


def test_members_and_samples_begin_with_it_too(tmp_path, monkeypatch):
    options = {"subspace_init": "snip", "epochs": 1}
    cyclical, _ = seen_first(spec(method="csgld", **options), tmp_path / "csgld", monkeypatch)
    alone, _ = seen_first(spec(method="rigl", **options), tmp_path / "rigl", monkeypatch)
    members = {"method": "ensemble", "members": 2, "member": "rigl", "epochs": 1}
    chosen = spec(**members, member_options={"subspace_init": "snip"})
    monkeypatch.undo()
    found, trained = seen_first(chosen, tmp_path / "ensemble", monkeypatch)
    assert len(alone) == 3
    for name, (index, mean) in alone.items():
        for other in (cyclical[name.replace("/", "/network.")], found[name.replace("/", "/0.")]):
            assert torch.equal(index, other[0]) and torch.equal(mean, other[1])
    index, mean = found["member 2/1.fc1"]  # of a network that has other initial weights
    start = trained.problem.network(Streams(0))[1].get_submodule("fc1").weight.detach().flatten()
    values = start[index.long()]
    torch.testing.assert_close(mean, values * (start.square().sum() / values.square().sum()) ** 0.5)


@pytest.mark.parametrize("after", [1, 5])
def test_a_run_stopped_after_its_choice_has_the_same_bits(after, tmp_path):
    run = spec(method="ssvi", subspace_init="grasp", allocation="global", replace_every=4)
    whole = trainer(run, tmp_path / "whole")
    whole.run()
    calls = iter(range(10**6))
    with pytest.raises(Stopped):
        trainer(run, tmp_path / "stopped", lambda: next(calls) == after and "enough").run()
    resumed = trainer(run, tmp_path / "stopped")
    resumed.run()
    first, second = whole.state.module.state_dict(), resumed.state.module.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert whole.state.counters.flops == resumed.state.counters.flops


@pytest.mark.parametrize("rule", RULES)
def test_nothing_dense_is_left_after_the_first_step(rule, tmp_path):
    sizes, held = [], []

    def stop():
        gc.collect()
        # other tests of this process may have left tensors of other types, whose sizes are symbols
        tensors = (found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter))
        sizes.append(sum(found.shape in {(509, 64), (10, 509)} for found in tensors))
        return len(sizes) % 2 == 0 and "enough"

    for each in ("random", rule):
        run = spec(method="ssvi", subspace_init=each, network={"name": "mlp", "hidden": [509]})
        stopped = trainer(run, tmp_path / each, stop)
        with pytest.raises(Stopped):
            stopped.run()
        state, method = stopped.state, stopped.problem.method
        held.append(sum(numbers_held(state.module, state.optimiser, state.memory, method).values()))
    assert sizes == [0] * 4
    assert held[0] == held[1]


def test_a_layer_that_begins_at_zero_stays_finite(tmp_path, monkeypatch):
    """Residual branches may: then no score prefers any of its weights."""
    run = spec(method="ssvi", subspace_init="snip", epochs=1)
    build = NETWORKS.get("mlp").build

    def zeroed(self, task):
        network = build(self, task)
        nn.init.zeros_(network.fc2.weight)
        return network

    monkeypatch.setattr(NETWORKS.get("mlp"), "build", zeroed)
    found, _ = seen_first(run, tmp_path, monkeypatch)
    assert found["train/fc2"][1].abs().max() == 0
    assert all(mean.isfinite().all() for _, mean in found.values())
