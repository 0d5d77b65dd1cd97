"""sparse_vd and lbbnn: their KL divergences against other ways to compute them, their rules, what is left."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, special
from torch import nn

import bench
from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from bench.training import checkpoints
from bench.training.checkpoints import CHECKPOINT
from bench.training.optimisers import make_optimiser
from methods.base import METHODS, Budget, Context, Progress, Stage, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.options import names
from methods.core.streams import Streams
from methods.layers.layer import VariationalLayer, variational_layers, variational_twin
from methods.layers.posterior import DenseGaussian, SparseGaussian
from methods.layers.spike_and_slab import SpikeAndSlab
from methods.sparse_vd import log_uniform_kl
from methods.subspace import pruning
from tests.test_training import EVERY_EPOCH, results
from tests.test_training import spec as toy_spec

BOTH = ["sparse_vd", "lbbnn"]
TASK = Task((1, 6, 6), 5, examples=60)


def gaussian(mean, std, scale_map="softplus", dtype=torch.float64):
    mean, std = (torch.as_tensor(v, dtype=dtype) for v in (mean, std))
    return DenseGaussian(mean.shape, mean, std.expand_as(mean), scale_map)


def spike_and_slab(mean, std, logit, prior_inclusion=0.1, scale_map="softplus", dtype=torch.float64):
    slab = gaussian(mean, std, scale_map, dtype)
    posterior = SpikeAndSlab(slab, 0.5, prior_inclusion)
    posterior.logit.data.copy_(torch.as_tensor(logit, dtype=dtype))
    return posterior


def gradients(value, posterior):
    parameters = [getattr(posterior, name) for name in posterior.PARAMETERS]
    found = torch.autograd.grad(value, parameters, materialize_grads=True)
    return dict(zip(posterior.PARAMETERS, found, strict=True))


def assert_gradients(function, posterior):
    """Of a scalar of the posterior, in every parameter, against central differences in float64."""
    found = gradients(function(posterior), posterior)
    for name, gradient in found.items():
        parameter = getattr(posterior, name).data.view(-1)
        for at in range(parameter.numel()):
            before, step = parameter[at].item(), 1e-6 * max(1.0, abs(parameter[at].item()))
            sides = []
            for side in (before + step, before - step):
                parameter[at] = side
                sides.append(function(posterior).item())
            parameter[at] = before
            difference = (sides[0] - sides[1]) / (2 * step)
            assert gradient.view(-1)[at].item() == pytest.approx(difference, rel=1e-5, abs=1e-7), (name, at)


# -- the KL of sparse variational dropout ------------------------------------------------


@np.vectorize
def exact_kl(ratio):
    """KL(N(mean, std^2) || log-uniform) at |mean|/std, above that at mean 0, by quadrature.

    Up to the prior's constant it is E log|w| - log std = E log|z + ratio|, with z standard normal, of which
    E log|z| = -(gamma + log 2)/2 is taken.
    """

    def integrand(distance):  # both sides of the singularity at w = 0
        sides = math.exp(-((distance - ratio) ** 2) / 2) + math.exp(-((distance + ratio) ** 2) / 2)
        return math.log(distance) * sides / math.sqrt(2 * math.pi)

    value, cuts = 0.0, sorted({0.0, 1e-3, max(ratio - 8, 1e-3), ratio, ratio + 8})
    for low, high in pairwise(cuts):
        part, error = integrate.quad(integrand, low, high)
        assert error < 1e-6
        value += part
    return value + (np.euler_gamma + math.log(2)) / 2


def test_the_fit_of_the_paper_is_close_to_the_exact_kl():
    """Over log alpha from -10 to 10, where the KL itself goes from 5.6 nats to 5e-5."""
    ratios = np.exp(np.linspace(-5, 5, 81))
    exact = exact_kl(ratios)
    fitted = np.array([log_uniform_kl(gaussian([r], [1.0])).item() for r in ratios])
    assert 0.009 < np.abs(fitted - exact).max() < 0.0095


def test_the_slope_of_the_fit_is_close_to_the_exact_one():
    """d/dt E log|z + t| is sqrt(2) times Dawson's integral of t/sqrt(2)."""
    ratios = torch.linspace(0, 12, 200, dtype=torch.float64)
    posterior = gaussian(ratios, 1.0)
    found = gradients(log_uniform_kl(posterior), posterior)["mean"].numpy()
    exact = math.sqrt(2) * special.dawsn(ratios.numpy() / math.sqrt(2))
    assert np.abs(found - exact).max() < 0.02


def test_it_is_equation_14_of_the_paper():
    mean, std = torch.tensor([0.3, -0.02, 1e-3], dtype=torch.float64), torch.tensor([0.1, 0.2, 0.05])
    log_alpha = torch.log(std.double() ** 2 / mean**2)
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    negative = k1 * torch.sigmoid(k2 + k3 * log_alpha) - 0.5 * torch.log1p(torch.exp(-log_alpha)) - k1
    assert log_uniform_kl(gaussian(mean, std)).item() == pytest.approx(-negative.sum().item(), rel=1e-12)


@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
def test_its_gradient_by_finite_differences(scale_map):
    mean = [0.3, -0.3, 0.02, -0.004, 2.0, 1e-5]
    assert_gradients(log_uniform_kl, gaussian(mean, [0.1, 0.02, 0.02, 0.5, 0.01, 0.3], scale_map))


def test_a_mean_of_zero_has_kl_zero_and_no_gradient():
    posterior = gaussian([0.0, -0.0], [0.1, 1e-12], dtype=torch.float32)
    kl = log_uniform_kl(posterior)
    assert 0 <= kl.item() < 1e-30
    assert all((gradient.abs() < 1e-30).all() for gradient in gradients(kl, posterior).values())


def test_it_is_finite_wherever_float32_is():
    means = torch.tensor([0, 1e-45, 1e-30, 1e-12, 1e-6, 1.0, 1e3])
    means = torch.cat([means, -means])
    for std in (1e-12, 1e-6, 1e-2, 1.0, 1e3):
        posterior = gaussian(means, std, "exp", torch.float32)
        kl = log_uniform_kl(posterior)
        assert kl.isfinite()
        assert all(gradient.isfinite().all() for gradient in gradients(kl, posterior).values())


# -- spike and slab ----------------------------------------------------------------------

WEIGHTS = {
    "mean": [0.3, -0.1, 0.02, 0.0, -0.5, 0.2],
    "std": [0.05, 0.2, 0.02, 0.1, 0.01, 0.3],
    "logit": [2.2, -1.0, 0.0, -6.0, 5.0, 0.3],
}


@torch.no_grad()
def test_its_kl_is_the_average_of_the_logarithm_of_the_ratio():
    """Monte Carlo over inclusions and slabs, weight by weight, within five standard errors."""
    n, prior_std, prior_inclusion = 200_000, 0.25, 0.2
    generator = torch.Generator().manual_seed(0)
    for mean, std, logit in zip(*WEIGHTS.values(), strict=True):
        posterior = spike_and_slab([mean], [std], [logit], prior_inclusion)
        inclusion = posterior.inclusion.item()
        included = torch.rand(n, generator=generator, dtype=torch.float64) < inclusion
        slab = mean + std * torch.randn(n, generator=generator, dtype=torch.float64)
        normal = torch.distributions.Normal
        log_ratio = normal(mean, std).log_prob(slab) - normal(0, prior_std).log_prob(slab)
        log_ratio = torch.where(
            included,
            log_ratio + math.log(inclusion / prior_inclusion),
            math.log((1 - inclusion) / (1 - prior_inclusion)),
        )
        error = log_ratio.std().item() / n**0.5
        assert error < 0.05
        assert abs(posterior.kl(prior_std).item() - log_ratio.mean().item()) < 5 * error


@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
def test_gradients_of_its_kl_by_finite_differences(scale_map):
    assert_gradients(lambda posterior: posterior.kl(0.25), spike_and_slab(**WEIGHTS, scale_map=scale_map))


def test_gradients_of_its_moments_by_finite_differences():
    weights = torch.linspace(-1, 1, 6, dtype=torch.float64)
    assert_gradients(lambda p: (weights * p.expected).sum(), spike_and_slab(**WEIGHTS))
    assert_gradients(lambda p: (weights * p.variance).sum(), spike_and_slab(**WEIGHTS))


def test_weights_that_are_certain_have_the_kl_and_the_moments_of_the_slab():
    certain = spike_and_slab(WEIGHTS["mean"], WEIGHTS["std"], [50.0] * 6, 1 - 1e-12)
    slab = gaussian(WEIGHTS["mean"], WEIGHTS["std"])
    assert certain.kl(0.25).item() == pytest.approx(slab.kl(0.25).item(), abs=1e-9)
    assert torch.allclose(certain.expected, slab.expected)
    assert torch.allclose(certain.variance, slab.variance)


def test_the_posterior_that_is_the_prior_has_no_kl():
    posterior = spike_and_slab([0.0, 0.0], [0.3, 0.3], [math.log(1 / 9)] * 2, 0.1)
    assert posterior.kl(0.3).item() == pytest.approx(0, abs=1e-12)


def test_extreme_inclusions_are_finite_in_float32():
    posterior = spike_and_slab([0.1] * 4, [0.1] * 4, [-200.0, -30.0, 30.0, 200.0], dtype=torch.float32)
    for value in (posterior.kl(0.1), posterior.expected.sum(), posterior.variance.sum()):
        assert value.isfinite()
        inputs = torch.autograd.grad(value, [posterior.mean, posterior.logit], retain_graph=True)
        assert all(gradient.isfinite().all() for gradient in inputs)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_local_noise_has_the_moments_of_sampled_weights(kind):
    """Of every output, of 4,000 draws each way, within 5 standard errors of the closed form."""
    torch.manual_seed(0)
    plain = (nn.Linear(8, 3) if kind == "linear" else nn.Conv2d(2, 3, 3, padding=1)).double()
    inputs = torch.randn((1, 8) if kind == "linear" else (1, 2, 4, 4), dtype=torch.float64)
    logits = torch.randn(plain.weight.shape, dtype=torch.float64)
    posterior = spike_and_slab(plain.weight.detach(), 0.1, logits)
    layer = variational_twin(plain, posterior, 0.0)
    mean = layer(inputs)
    variance = layer.contraction.forward(inputs.square(), posterior.variance, None)
    n, generator = 4000, torch.Generator().manual_seed(1)
    sampled, noisy = [], []
    for _ in range(n):
        with passes.weights({layer: layer.sample_weights(generator)}):
            sampled.append(layer(inputs))
        with passes.local_noise(generator):
            noisy.append(layer(inputs))
    for outputs in (torch.stack(sampled), torch.stack(noisy)):
        centred = outputs - outputs.mean(0)
        assert ((outputs.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
        error = ((centred**4).mean(0) - variance.square()).clamp(min=0).sqrt() / n**0.5
        assert ((centred.square().mean(0) - variance).abs() < 5 * error).all()


def test_a_draw_leaves_weights_out_as_often_as_they_are_not_included():
    posterior = spike_and_slab([1.0] * 4, [0.1] * 4, [-3.0, 0.0, 1.0, 60.0])
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([posterior.sample(generator) for _ in range(4000)])
    assert not draws.requires_grad
    share = (draws != 0).double().mean(0)
    inclusion = posterior.inclusion.detach()
    assert ((share - inclusion).abs() <= 5 * (inclusion * (1 - inclusion) / 4000).sqrt() + 1e-12).all()


# -- the rule ----------------------------------------------------------------------------


def built(name, network=None, **options):
    method = METHODS.get(name)(METHODS.get(name).Options(**options))
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5))
    return method, method.build(network or plain, Streams(0), TASK)


def leave(method, module, stage="train"):
    streams = Streams(0)
    progress = Progress(stage, 1, 1, 1, 1, TASK.examples, streams["noise"])
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    context = Context(module, optimiser, streams, TASK, progress, {}, lambda table, row: None)
    method.leave_stage(context, Stage(stage, 1))
    return context


def randomised(name, **options):
    """A module with means and logits on both sides of the rule."""
    method, module = built(name, **options)
    generator = torch.Generator().manual_seed(3)
    for layer in variational_layers(module):
        posterior = layer.posterior
        posterior.mean.data.normal_(std=0.02, generator=generator)
        if isinstance(posterior, SpikeAndSlab):
            posterior.logit.data.normal_(generator=generator)
    return method, module


def passing(name, posterior):
    """The flat coordinates that the papers keep."""
    if name == "lbbnn":
        kept = posterior.inclusion > 0.5
    else:
        kept = torch.log(posterior.std**2 / posterior.mean**2) < 3
    return kept.view(-1).nonzero().view(-1)


@pytest.mark.parametrize("name", BOTH)
def test_exactly_the_weights_that_pass_the_rule_stay(name):
    method, module = randomised(name)
    before = {
        n: layer.posterior for n, layer in module.named_modules() if isinstance(layer, VariationalLayer)
    }
    expected = {n: passing(name, before[n]) for n in ("2", "4")}
    share = method.monitor(module, leave_progress())["density_if_pruned"]
    context = leave(method, module)
    assert context.pruned
    for n, kept in expected.items():
        after = module.get_submodule(n).posterior
        assert type(after) is SparseGaussian
        assert 0 < len(kept) < before[n].shape.numel()
        assert torch.equal(after.index.long(), kept)
        assert torch.equal(after.mean, before[n].mean.view(-1)[kept])
        assert torch.equal(after.rho, before[n].rho.view(-1)[kept])
    assert module[0].posterior is before["0"]  # the first convolution keeps every weight
    total, size = sum(map(len, expected.values())), sum(before[n].shape.numel() for n in expected)
    assert share == method.monitor(module, leave_progress())["density_if_pruned"] == total / size


def leave_progress():
    return Progress("train", 1, 1, 1, 1, TASK.examples, torch.Generator())


@pytest.mark.parametrize("name", BOTH)
def test_the_end_of_a_stage_may_come_again(name):
    method, module = randomised(name)
    leave(method, module)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert not leave(method, module).pruned
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", BOTH)
def test_every_layer_keeps_its_best_weight(name):
    method, module = built(name, keep_dense=("4",))
    posterior = module[2].posterior
    posterior.mean.data.fill_(1e-6)
    posterior.mean.data.view(-1)[7] = 2e-6
    if name == "lbbnn":
        posterior.logit.data.fill_(-3.0)
        posterior.logit.data.view(-1)[7] = -2.0
    leave(method, module)
    assert module[2].posterior.index.tolist() == [7]
    assert type(module[4].posterior) is DenseGaussian  # kept dense, whatever the rule says


@pytest.mark.parametrize("name", BOTH)
def test_the_threshold_of_sparse_vd_and_no_other_is_an_option(name):
    if name == "sparse_vd":
        counts = []
        for threshold in (-2.0, 3.0, 50.0):
            method, module = randomised(name, log_alpha_max=threshold)
            leave(method, module)
            counts.append(module[2].posterior.active)
        assert counts[0] < counts[1] < counts[2] == 108
    else:
        with pytest.raises(TypeError):
            built(name, log_alpha_max=3.0)


# -- a requested sparsity ----------------------------------------------------------------


def lowest_by_hand(name, module, sparsity):
    """The flat coordinates that go, by layer: the least certain weights of both layers, in one ranking."""
    ranked = []
    for layer in ("2", "4"):
        posterior = module.get_submodule(layer).posterior
        if name == "lbbnn":
            scores = posterior.inclusion.detach().view(-1).tolist()
        else:
            scores = (-torch.log(posterior.std**2 / posterior.mean**2)).detach().view(-1).tolist()
        ranked += [(score, layer, at) for at, score in enumerate(scores)]
    go = sorted(ranked)[: sum(math.floor(sparsity * size) for size in (108, 80))]
    return {layer: {at for _, where, at in go if where == layer} for layer in ("2", "4")}


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.97])
@pytest.mark.parametrize("name", BOTH)
def test_a_requested_sparsity_removes_the_lowest_scores_of_all_layers(name, sparsity):
    method, module = randomised(name, sparsity=sparsity)
    expected, first = lowest_by_hand(name, module, sparsity), module[0].posterior
    share = method.monitor(module, leave_progress())["density_if_pruned"]
    assert leave(method, module).pruned
    active = 0
    for layer, gone in expected.items():
        after = module.get_submodule(layer).posterior
        assert type(after) is SparseGaussian and after.PARAMETERS == ("mean", "rho")
        assert set(after.index.tolist()) == set(range(after.shape.numel())) - gone
        active += after.active
    assert module[0].posterior is first
    assert active == 188 - sum(math.floor(sparsity * size) for size in (108, 80))
    assert share == method.monitor(module, leave_progress())["density_if_pruned"] == active / 188
    assert not leave(method, module).pruned  # the end of a stage may come again


@pytest.mark.parametrize("name", BOTH)
def test_a_layer_keeps_its_best_weight_at_a_requested_sparsity(name):
    method, module = randomised(name, sparsity=0.95)
    small = module[2].posterior
    small.mean.data.fill_(1e-9)
    small.mean.data.view(-1)[7] = 2e-9
    if name == "lbbnn":
        small.logit.data.fill_(-9.0)
        small.logit.data.view(-1)[7] = -8.0
    leave(method, module)
    assert module[2].posterior.index.tolist() == [7]
    assert module[4].posterior.active == 188 - 102 - 76 - 1


@pytest.mark.parametrize("name", BOTH)
def test_a_sparsity_that_empties_a_layer_is_refused(name):
    chosen = {"dataset": "digits", "network": "mlp", "network.hidden": [8, 8], "method": name}
    preflight.check(parse_spec(nest(chosen | {"sparsity": 0.99})))
    with pytest.raises(UserError, match=r"sparsity 0\.9999 leaves 3 weights for 3 layers|leaves"):
        preflight.check(parse_spec(nest(chosen | {"sparsity": 1 - 1e-13})))
    with pytest.raises(UserError, match=r"sparsity: 1\.0 lies outside \[0, 1\)"):
        parse_spec(nest(chosen | {"sparsity": 1}))


@pytest.mark.parametrize("name", BOTH)
def test_no_sparsity_is_the_outcome_of_the_rule_under_the_same_id(name):
    chosen = {"dataset": "digits", "network": "mlp", "method": name}
    plain = parse_spec(nest(chosen))
    assert parse_spec(nest(chosen | {"sparsity": None})).run_id == plain.run_id
    assert parse_spec(nest(chosen | {"sparsity": 0.5})).run_id != plain.run_id
    options = names(METHODS.get(name).Options)
    assert "allocation" not in options and ("prior_std" in options) == (name == "lbbnn")


@pytest.mark.parametrize("name", BOTH)
def test_a_dense_start_with_the_weights_of_dense_vi(name):
    _, module = built(name)
    _, dense = built("dense_vi")
    state, expected = module.state_dict(), dense.state_dict()
    assert {key for key in state if not key.endswith("logit")} == set(expected)
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    if name == "lbbnn":
        inclusions = torch.cat([module[n].posterior.inclusion.view(-1) for n in (2, 4)])
        assert torch.allclose(inclusions, torch.tensor(0.9))
        assert type(module[0].posterior) is DenseGaussian


@pytest.mark.parametrize("name", BOTH)
def test_a_freshly_built_module_loads_what_is_left(name):
    method, module = randomised(name)
    leave(method, module)
    _, fresh = built(name)
    method.unpack(fresh, method.pack(module))
    inputs = torch.randn(3, 1, 6, 6)
    assert torch.equal(fresh(inputs), module(inputs))


def test_scales_and_logits_take_the_learning_rate_for_scales():
    problem = make_problem(toy_spec("lbbnn", lr=0.1, lr_scale=3.0, weight_decay=0.1))
    module = problem.build(Streams(0))
    _, scales = make_optimiser(problem, module).param_groups
    assert scales["lr"] == 3.0 and scales["weight_decay"] == 0
    posteriors = [layer.posterior for layer in pruning.prunable(module).values()]
    assert {id(p) for p in scales["params"]} == {id(v) for p in posteriors for v in (p.rho, p.logit)}


# -- whole runs --------------------------------------------------------------------------

#: Settings by which a few epochs on the digits leave some weights out.
RUNS = {
    "sparse_vd": {"kl_factor": 1.0, "kl_warmup": 0.2, "lr": 0.1, "lr_scale": 10.0, "momentum": 0.9},
    "lbbnn": {"kl_factor": 0.1, "kl_warmup": 0.2, "optimiser": "adam", "lr": 0.01, "lr_scale": 0.1},
}


#: The same on the toys, whose few steps leave inclusions near where they begin.
TOYS = {
    "sparse_vd": RUNS["sparse_vd"] | {"kl_factor": 2.0},
    "lbbnn": RUNS["lbbnn"] | {"kl_factor": 2.0, "initial_inclusion": 0.6},
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run of each on the digits."""
    store, found = Store(tmp_path_factory.mktemp("adaptive") / "results", create=True), {}
    for name, options in RUNS.items():
        chosen = {"dataset": "digits", "network": "mlp", "network.hidden": [64], "method": name, "epochs": 15}
        run = parse_spec(nest(chosen | {"samples": 4} | options))
        assert execute(run, store, Execution()) == "done", store.run(run.run_id).read("status")
        found[name] = run
    return store, found


@pytest.mark.parametrize("name", BOTH)
def test_a_run_ends_sparse_and_still_predicts(name, digits):
    store, runs = digits
    folder = store.run(runs[name].run_id)
    costs, (stage,) = folder.read("costs"), folder.read("metrics")["stages"]
    packed = checkpoints.load(folder.path / "model.pt")
    active = sum(t.numel() for key, t in packed.items() if key.endswith("posterior.mean"))
    assert not any(key.endswith("logit") for key in packed)
    kernels = 64 * 64 + 64 * 10
    assert costs["density"] == stage["density"] == active / kernels
    assert 0.005 < costs["density"] < 0.5
    scored = {
        (r["predictor"], r["metric"]): r["value"]
        for r in folder.read("metrics")["metrics"]
        if r["split"] == "test"
    }
    assert scored["samples", "accuracy"] > 0.85 and scored["mean", "accuracy"] > 0.85
    # all of it was a dense phase, counted as dense VI's
    assert costs["train_flops"] == costs["dense_vi_train_flops"]


@pytest.mark.parametrize("name", BOTH)
def test_curves_tell_what_the_rule_would_leave(name, digits):
    store, runs = digits
    folder = store.run(runs[name].run_id)
    history = [row for row in folder.rows("history") if row["split"] == "train"]
    shares = [row["value"] for row in history if row["metric"] == "density_if_pruned"]
    assert len(shares) == 15 and shares[0] > shares[-1]
    assert shares[-1] == pytest.approx(
        folder.read("costs")["density"]
    )  # an MLP's kernels are all sparsifiable
    inclusions = [row["value"] for row in history if row["metric"] == "inclusion"]
    assert len(inclusions) == (15 if name == "lbbnn" else 0)
    assert all(0 < value < 1 for value in inclusions)


@pytest.mark.parametrize("name", BOTH)
def test_a_stored_model_predicts_what_the_run_did(name, digits):
    store, runs = digits
    run = runs[name]
    model = bench.load(run.run_id, store.root)
    split = make_problem(run).splits.test
    with np.load(store.run(run.run_id).path / "predictions.npz") as arrays:
        stored = arrays["samples/probabilities"]
    assert np.array_equal(model.predict(split.inputs).numpy(), stored)


@pytest.mark.parametrize(
    "network", [{"network": "mlp", "hidden": [32]}, {"network": "cnn", "channels": [4, 8]}]
)
@pytest.mark.parametrize("name", BOTH)
def test_a_run_has_the_requested_density_and_counts_what_it_cost(name, network, tmp_path):
    chosen = {"dataset": "digits", "method": name, "epochs": 4, "batch_size": 256, "samples": 2}
    run = parse_spec(nest(chosen | network | {"sparsity": 0.85, "finetune": 0.5}))
    store = Store(tmp_path, create=True)
    assert execute(run, store, Execution()) == "done"
    folder = store.run(run.run_id)
    costs, (train, finetune) = folder.read("costs"), folder.read("metrics")["stages"]
    problem = make_problem(run)
    module = problem.build(Streams(0))
    sizes = [layer.posterior.shape.numel() for layer in pruning.prunable(module).values()]
    kernels = sum(layer.posterior.shape.numel() for layer in variational_layers(module))
    active = kernels - sum(math.floor(0.85 * size) for size in sizes)
    assert costs["density"] == train["density"] == finetune["density"] == active / kernels
    packed = checkpoints.load(folder.path / "model.pt")
    assert sum(t.numel() for key, t in packed.items() if key.endswith("posterior.mean")) == active
    # half of the epochs were dense, and the others cost less, by no more than was planned
    dense = costs["dense_vi_train_flops"]
    planned = problem.task.examples * problem.method.training_flops(module, problem.budget)
    assert train["train_flops"] == dense / 2
    assert dense / 2 < costs["train_flops"] <= planned * (1 + 1e-9) < dense


@pytest.mark.parametrize(("finetune", "sparsity"), [(0.0, None), (0.5, None), (0.5, 0.8)])
@pytest.mark.parametrize("name", BOTH)
def test_stopped_anywhere_and_resumed_equals_uninterrupted(name, finetune, sparsity, tmp_path):
    """Before and after weights go, and where a checkpoint holds layers that are built dense."""
    run = toy_spec(name, **TOYS[name], finetune=finetune, sparsity=sparsity)
    whole, sliced = Store(tmp_path / "whole", create=True), Store(tmp_path / "sliced", create=True)
    assert execute(run, whole, EVERY_EPOCH) == "done"
    sizes, outcome = [], ""
    for patience in [1, 7, 7, 6, 8, 13, 1000]:
        asked = iter(range(patience))
        outcome = execute(run, sliced, EVERY_EPOCH, stop=lambda asked=asked: next(asked, None) is None)
        path = sliced.run(run.run_id).path / CHECKPOINT
        if outcome == "done":
            break
        if path.exists():
            state = checkpoints.load(path)["module"]
            sizes.append(sum(v.numel() for key, v in state.items() if key.endswith("posterior.mean")))
    assert outcome == "done" and len(sizes) > 2
    assert (min(sizes) < max(sizes)) == (finetune > 0)
    assert results(whole, run) == results(sliced, run)


@pytest.mark.parametrize("name", BOTH)
def test_fine_tuning_trains_what_is_left_with_the_kl_at_full_weight(name, tmp_path):
    run, store = toy_spec(name, **TOYS[name], finetune=0.25), Store(tmp_path, create=True)
    assert execute(run, store, EVERY_EPOCH) == "done"
    folder = store.run(run.run_id)
    train, finetune = folder.read("metrics")["stages"]
    assert (train["stage"], finetune["stage"]) == ("train", "finetune")
    assert (train["epochs_total"], finetune["epochs_total"]) == (3, 4)
    assert train["density"] == finetune["density"] < 1
    spent = finetune["train_flops"] - train["train_flops"]
    assert spent == pytest.approx(train["train_flops"] / 3 * train["density"])
    weights = [
        row["value"]
        for row in folder.rows("history")
        if (row["stage"], row["metric"]) == ("finetune", "kl_weight")
    ]
    assert weights == [2.0 / 90]


def test_stages_of_few_epochs():
    method, _ = built("lbbnn", finetune=0.01)
    assert [(s.name, s.epochs) for s in method.stages(Budget(10, 5))] == [("train", 9), ("finetune", 1)]
    assert [s.epochs for s in built("lbbnn", finetune=0.99)[0].stages(Budget(10, 5))] == [1, 9]
    with pytest.raises(UserError, match="at least two epochs"):
        method.stages(Budget(1, 5))


@pytest.mark.parametrize("name", BOTH)
def test_a_network_without_a_layer_to_make_sparse_is_refused(name):
    chosen = {"dataset": "digits", "network": "mlp", "network.hidden": [], "method": name}
    with pytest.raises(UserError, match="no layer to make sparse"):
        preflight.check(parse_spec(nest(chosen | {"keep_dense": ["classifier"]})))
