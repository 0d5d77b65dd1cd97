"""``same_noise``: one sample of the weights for a minibatch, in place of local reparameterisation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import METHODS, Progress, Task
from methods.core import passes
from methods.core.options import parse
from methods.core.streams import Streams
from methods.layers import costs, execution
from methods.layers.layer import sparse_layers, variational_layers
from tests import toys  # noqa: F401  (registers the toys)

TASK = Task((1, 8, 8), 5, examples=100)
METHODS_OF_GAUSSIANS = [
    "ssvi",
    "static_vi",
    "dense_vi",
    "magnitude_vi",
    "lottery_ticket",
    "sparse_vd",
    "lbbnn",
]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 2),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def built(method="ssvi", dtype=torch.float64, **options):
    """A method and its module, of widely spread scales."""
    chosen = METHODS.get(method)
    options = {"same_noise": True, "initial_std": 0.1, "sparsity": 0.6} | options
    known = {key: value for key, value in options.items() if hasattr(chosen.Options(), key)}
    method = chosen(parse(chosen.Options, known))
    module = method.build(network().to(dtype), Streams(0), TASK)
    for layer in variational_layers(module):
        layer.posterior.rho.data += torch.randn(layer.posterior.rho.shape).to(dtype)
    return method, module


def progress(seed=1):
    return Progress("train", 1, 10, 1, 100, TASK.examples, torch.Generator().manual_seed(seed))


def batch(n=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 1, 8, 8, generator=generator, dtype=dtype), torch.arange(n) % 5


def full(posterior, values):
    return posterior.scatter(values) if hasattr(posterior, "index") else values


@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
@pytest.mark.parametrize("method", ["ssvi", "dense_vi"])
def test_a_minibatch_sees_one_sample_of_the_weights(method, scale_map):
    """Loss and all gradients, those of inactive means too, are autograd's through the plain network."""
    method, module = built(method, scale_map=scale_map)
    inputs, labels = batch()
    seen = {}
    with passes.dense_gradients(lambda layer, gradient: seen.__setitem__(layer, gradient.clone())):
        loss = method.loss(module, (inputs, labels), progress())
    loss.backward()

    noise, plain, weights, kl = torch.Generator().manual_seed(1), network().double(), {}, 0.0
    leaves = {}
    for name, layer in module.named_modules():
        if layer not in variational_layers(module):
            continue
        posterior, prior = layer.posterior, method.options.prior_std
        mean, rho = (getattr(posterior, key).detach().clone().requires_grad_() for key in ("mean", "rho"))
        std = {"softplus": F.softplus, "exp": torch.exp, "abs": torch.abs}[scale_map](rho)
        drawn = torch.randn(mean.shape, generator=noise, dtype=mean.dtype)
        weight = full(posterior, mean + std * drawn)
        weight.retain_grad()
        weights[f"{name}.weight"] = weight
        leaves[layer] = mean, rho, weight
        kl = kl + ((prior / std).log() + (std**2 + mean**2) / (2 * prior**2) - 0.5).sum()
    expected = F.cross_entropy(functional_call(plain, weights, (inputs,)), labels)
    expected = expected + method.kl_weight(progress()) * kl
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for layer, (mean, rho, weight) in leaves.items():
        torch.testing.assert_close(layer.posterior.mean.grad, mean.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(layer.posterior.rho.grad, rho.grad, rtol=1e-9, atol=1e-12)
        if layer in seen:
            torch.testing.assert_close(seen[layer], weight.grad, rtol=1e-9, atol=1e-12)
    assert set(seen) == {layer for _, layer, _ in sparse_layers(module)}
    torch.testing.assert_close(module[5].bias.grad, plain[5].bias.grad)


def outputs_of_equal_examples(**options):
    """Standard deviation over copies of one example of what the first layer passes on."""
    method, module = built(**options)
    inputs, labels = batch()
    found = []
    module[0].register_forward_hook(lambda layer, given, output: found.append(output))
    method.loss(module, (inputs[:1].expand(7, -1, -1, -1), labels), progress())
    return found[0].std(0).max()


def test_equal_examples_have_equal_activations_and_under_local_reparameterisation_other_ones():
    assert outputs_of_equal_examples(same_noise=True) < 1e-12
    assert outputs_of_equal_examples(same_noise=False) > 1e-2


def test_kernels_and_torch_compute_the_same_from_the_same_noise():
    """Unlike local noise, which kernels draw in another way, a weight sample is drawn outside them."""
    found = {}
    for how in ("dense", "sparse"):
        method, module = built(dtype=torch.float32)
        costs.trace(module, TASK.input_shape)
        execution.choose(module, how, TASK.input_shape, 7)
        assert (len(execution.by_kernels(module)) >= 2) == (how == "sparse")
        loss = method.loss(module, batch(dtype=torch.float32), progress())
        loss.backward()
        found[how] = [loss.detach(), *(parameter.grad for parameter in module.parameters())]
    for exact, by_kernel in zip(*found.values(), strict=True):
        torch.testing.assert_close(by_kernel, exact, rtol=1e-4, atol=1e-5)


def test_activations_stay_in_the_layout_of_the_kernels():
    _, module = built(dtype=torch.float32)
    costs.trace(module, TASK.input_shape)
    execution.choose(module, "sparse", TASK.input_shape, 7)
    assert any(layer.keeps_layout for layer in variational_layers(module))


def test_nothing_of_dense_size_is_kept_for_backward():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(128, 64), nn.Linear(64, 3))
    chosen = METHODS.get("ssvi")
    method = chosen(parse(chosen.Options, {"same_noise": True, "sparsity": 0.95}))
    module, kept = method.build(wide, Streams(0), Task((128,), 3, 100)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        method.loss(module, (torch.randn(2, 128), torch.tensor([0, 1])), progress())
    assert kept and max(kept) < 128 * 64 / 4, kept


def test_a_step_contracts_each_layer_once_as_counted_by_hand():
    _, module = built()
    costs.trace(module, TASK.input_shape)
    # convolutions have outputs of 3 x 3 and 2 x 2 positions; the first stays dense
    first, second, last = 9 * 54, 4 * (96 - math.floor(0.6 * 96)), 80 - math.floor(0.6 * 80)
    assert costs.flops(module, "step") == 2 * 3 * (first + second + last)
    assert costs.flops(module, "noisy_pass") == 2 * (
        3 * (first + second + last) + 4 * 96 - second + 80 - last
    )
    _, local = built(same_noise=False)
    costs.trace(local, TASK.input_shape)
    assert costs.flops(local, "step") == 2 * costs.flops(module, "step")


@pytest.mark.parametrize("method", METHODS_OF_GAUSSIANS)
def test_every_method_with_gaussians_learns_with_one_sample(method, tmp_path):
    settings = {"dataset": "toy_blobs", "network": "toy_network", "method": method, "same_noise": True}
    settings |= {
        "epochs": 8,
        "batch_size": 16,
        "optimiser": "adam",
        "lr": 0.02,
        "lr_scale": 0.02,
        "samples": 4,
    }
    if "sparsity" in vars(METHODS.get(method).Options()):
        settings["sparsity"] = 0.5
    run = parse_spec(nest(settings))
    store = Store(tmp_path, create=True)
    assert execute(run, store, Execution()) == "done", store.run(run.run_id).read("status")
    losses = [row["value"] for row in store.run(run.run_id).rows("history") if row["metric"] == "loss"]
    assert losses[-1] < 0.7 * losses[0]
    module = make_problem(run).build(Streams(0))
    assert {layer.contractions for layer in variational_layers(module)} == {1}
