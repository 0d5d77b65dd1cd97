"""Cyclical Langevin samples: the sampler on a Gaussian, cycles, and the samples that are kept."""

from __future__ import annotations

import copy
import itertools
import math
import time

import pytest
import torch

from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.run_folder import RunFolder
from bench.training.trainer import Trainer
from methods.core.options import to_dict
from methods.csgld import CSGLD, CSGLDOptions, langevin_step
from methods.deterministic import Deterministic
from methods.layers.layer import sparse_layers

BASE = {"dataset": "digits", "network": {"name": "mlp", "hidden": [12]}, "epochs": 4, "batch_size": 32}
SPARSE = {"sparsity": 0.8, "replace_every": 5}


def spec(**options):
    return parse_spec(nest(BASE | {"method": "csgld"} | options))


def trained(run, folder, monkeypatch):
    """The trainer after a training, and after each step: a copy of the network, and the learning rate."""
    visited = []
    after = CSGLD.after_step

    def note(self, context):
        after(self, context)
        group = context.optimiser.param_groups[0]
        visited.append((copy.deepcopy(context.module.network), group["lr"] / group["initial_lr"]))

    monkeypatch.setattr(CSGLD, "after_step", note)
    trainer = looped(run, folder)
    trainer.run().eval()
    return trainer, visited


def looped(run, folder):
    """A trainer of ``run`` that scores nothing."""
    return Trainer(
        make_problem(run), RunFolder(folder), stage_done=lambda *_: {}, stop=lambda: False,
        report=lambda at: None, checkpoint_seconds=float("inf"), started=time.perf_counter(),
    )  # fmt: skip


def test_langevin_steps_have_the_moments_of_a_gaussian():
    """Within five standard errors, in 20,000 chains.

    The density is proportional to exp(-U / T), for U = N (h (w - m)^2 / 2 + decay w^2 / 2). A step of length
    lr shrinks by a = 1 - lr (h + decay) and adds noise of variance 2 lr T / N. So the stationary variance is
    2 lr T / N / (1 - a^2), which for small lr is T / (N (h + decay)).
    """
    chains, examples, temperature, lr, decay = 20_000, 50, 0.7, 0.1, 0.2
    for h, m in ((0.8, 1.0), (3.0, -2.0)):
        w = torch.nn.Parameter(torch.zeros(chains, dtype=torch.float64))
        idle = torch.nn.Parameter(torch.ones(2))  # has no gradient, so it stays
        optimiser = torch.optim.SGD([w, idle], lr=lr, weight_decay=decay)
        generator = torch.Generator().manual_seed(0)
        for _ in range(200):
            w.grad = h * (w.detach() - m)
            langevin_step(optimiser, examples, temperature, generator)
        shrink = 1 - lr * (h + decay)
        variance = 2 * lr * temperature / examples / (1 - shrink**2)
        assert variance == pytest.approx(temperature / (examples * (h + decay)), rel=lr * (h + decay))
        mean = h * m / (h + decay)
        assert abs(float(w.detach().mean()) - mean) <= 5 * math.sqrt(variance / chains)
        assert abs(float(w.detach().var()) - variance) <= 5 * variance * math.sqrt(2 / chains)
        assert torch.equal(idle.detach(), torch.ones(2))


@pytest.mark.parametrize("cycles", [1, 3, 4])
def test_a_cycle_explores_then_samples(cycles, tmp_path, monkeypatch):
    run = spec(sparsity=0.0, cycles=cycles, cycle_samples=2, exploration=0.75)
    trainer, visited = trained(run, tmp_path, monkeypatch)
    steps, cut = len(visited), [-(-c * len(visited) // cycles) for c in range(cycles + 1)]
    kept = []
    for begin, end in itertools.pairwise(cut):
        for step in range(begin, end):
            expected = 0.5 * (1 + math.cos(math.pi * (step - begin) / (end - begin)))
            assert visited[step][1] == pytest.approx(expected)
        sampling = end - begin - math.ceil(0.75 * (end - begin))
        kept += [end - sampling + math.ceil(sampling / 2) - 1, end - 1]
    assert steps == trainer.problem.steps(4)
    inputs, _ = next(trainer.problem.batches(trainer.problem.splits.test, 20))
    with torch.no_grad():
        draws = [draw(inputs) for draw in trainer.problem.method.draws(trainer.state.module, 1, None)]
        expected = [visited[step][0].eval()(inputs) for step in reversed(kept)]
    assert len(draws) == 2 * cycles
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(draws, expected, strict=True))


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_samples_are_the_networks_that_were_kept(moving, allocation, tmp_path, monkeypatch):
    """Each on the subspace that it had, although the subspace has moved since."""
    extra = {} if moving else {"replace_fraction": 0.0}
    run = spec(**SPARSE, allocation=allocation, cycles=3, cycle_samples=2, **extra)
    trainer, visited = trained(run, tmp_path, monkeypatch)
    module, method = trainer.state.module, trainer.problem.method
    cycles = method._cycles(len(visited))
    kept = [
        step for _, sampling, end in cycles for step in (sampling + -(-(end - sampling) // 2) - 1, end - 1)
    ]
    inputs, _ = next(trainer.problem.batches(trainer.problem.splits.test, 20))
    with torch.no_grad():
        draws = [draw(inputs) for draw in method.draws(module, 1, None)]
        expected = [visited[step][0].eval()(inputs) for step in reversed(kept)]
        again = [draw(inputs) for draw in method.draws(module, 1, None)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(draws, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))

    def subspace(step):
        return [posterior.index.tolist() for *_, posterior in sparse_layers(visited[step][0])]

    for _, sampling, end in cycles:  # samples of a cycle share the subspace
        assert all(subspace(step) == subspace(sampling - 1) for step in range(sampling, end))
    assert (subspace(kept[0]) != subspace(kept[-1])) == moving
    assert len(module.index) == (6 if moving else 0)


def test_at_temperature_zero_sampling_is_gradient_descent(tmp_path, monkeypatch):
    """On one cosine, as the plain network is trained with the same learning rates, up to rounding."""
    common = {"precision": "float64", "momentum": 0.0, "weight_decay": 0.01}
    cold = {"sparsity": 0.0, "cycles": 1, "exploration": 0.5}
    found = []
    for number, temperature in enumerate((0.0, 1.0)):
        run = spec(**common, **cold, temperature=temperature)
        with monkeypatch.context() as patched:
            trainer, _ = trained(run, tmp_path / str(number), patched)
        found.append(trainer.state.module.network.state_dict())

    def before_step(self, context):
        share = (context.progress.step - 1) / context.progress.steps
        for group in context.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * 0.5 * (1 + math.cos(math.pi * share))

    monkeypatch.setattr(Deterministic, "before_step", before_step)
    plain = parse_spec(nest(BASE | {"method": "deterministic"} | common))
    expected = looped(plain, tmp_path / "plain").run().state_dict()
    for name, value in expected.items():
        assert torch.allclose(found[0][name], value, rtol=1e-9, atol=1e-12), name
        assert not torch.isclose(found[1][name], value, rtol=1e-6, atol=0).any(), name


@pytest.mark.parametrize("cycles", [1, 4, 7])
@pytest.mark.parametrize("exploration", [0.0, 0.5, 0.8])
def test_the_flops_of_a_training_are_those_that_it_takes(cycles, exploration, tmp_path, monkeypatch):
    run = spec(**SPARSE, cycles=cycles, exploration=exploration)
    trainer, _ = trained(run, tmp_path, monkeypatch)
    problem = trainer.problem
    planned = problem.method.training_flops(trainer.state.module, problem.budget) * problem.task.examples
    assert trainer.state.counters.flops == pytest.approx(planned, rel=1e-9)


@pytest.mark.parametrize("steps", range(1, 13))
def test_every_cycle_has_a_step_that_samples(steps):
    method = CSGLD(CSGLDOptions(cycles=4))
    cycles = method._cycles(steps)
    assert [end for *_, end in cycles][-1] == steps and len(cycles) == min(4, steps)
    assert all(first <= sampling < end for first, sampling, end in cycles)
    places = [method._place(step, steps) for step in range(1, steps + 1)]
    assert sum(place.number > 0 for place in places) >= len(cycles)


def test_without_a_subspace_its_options_change_nothing():
    options = CSGLDOptions(sparsity=0.0, growth="random", replace_every=7, cycles=2)
    same = CSGLD.equivalent(options)
    assert same is not None and same.options == to_dict(CSGLDOptions(sparsity=0.0, cycles=2))
    assert CSGLD.equivalent(CSGLDOptions(sparsity=0.0, cycles=2)) is None
    assert CSGLD.equivalent(CSGLDOptions(growth="random")) is None
