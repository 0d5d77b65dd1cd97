"""What runs are said to cost: FLOPs beside torch's own counter, and the published figures of ResNet-18."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS
from bench.runner.costs import reference
from methods.base import METHODS, Context, Progress, Task
from methods.core import passes
from methods.core.options import parse
from methods.core.streams import Streams
from methods.layers import costs
from methods.layers.layer import sparse_layers
from methods.layers.posterior import SparseGaussian

BATCH = 2
#: Networks with every kind of layer: name, options, input shape.
NETWORK = {
    "mlp": ({"hidden": (12, 7)}, (1, 8, 8)),
    "cnn": ({"channels": (4, 6, 5)}, (1, 8, 8)),
    "lenet5": ({}, (1, 28, 28)),
    "resnet18": ({"width": 4}, (3, 32, 32)),
    "wide_resnet": ({"depth": 10, "widen": 1}, (3, 16, 16)),
    "vit": ({"width": 12, "depth": 2, "heads": 3}, (3, 8, 8)),
}


def plain(name):
    options, shape = NETWORK[name]
    task = Task(shape, 5, 100)
    network = NETWORKS.get(name)
    return network(parse(network.Options, options)).initialised(task, Streams(0)), task


def built(name, method="ssvi", **options):
    """A method, its module and a context for a step on random images."""
    network, task = plain(name)
    chosen = METHODS.get(method)
    chosen = chosen(parse(chosen.Options, options))
    streams = Streams(0)
    module = chosen.build(network, streams, task)
    costs.trace(module, task.input_shape)
    progress = Progress("train", 1, 4, 20, 200, task.examples, streams["noise"])
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    context = Context(module, optimiser, streams, task, progress, {}, lambda table, row: None)
    images = torch.randn(BATCH, *task.input_shape)
    context.batch = images, torch.arange(BATCH) % task.classes
    return chosen, module, context


def counted(call):
    """FLOPs of the kernels in ``call()``, an example: all that torch counts but the products of attention."""
    with FlopCounterMode(display=False) as counter:
        call()
    found = counter.get_flop_counts()["Global"]
    return sum(n for op, n in found.items() if "scaled_dot_product" not in str(op)) / BATCH


def layer_flops(name):
    """FLOPs of a forward pass through each layer of the plain network, an example, by torch's counter."""
    network, task = plain(name)
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(BATCH, *task.input_shape))
    found = {
        layer: sum(counter.get_flop_counts()[f"{type(network).__name__}.{layer}"].values()) / BATCH
        for layer, _ in costs.kernel_layers(network)
    }
    assert all(found.values())
    return found


def dense_layers(module):
    """Names of the variational layers that store every weight in a tensor of the kernel's shape."""
    return [
        name for name, layer in costs.kernel_layers(module) if not isinstance(layer.posterior, SparseGaussian)
    ]


def consume(layer, gradient):
    assert gradient.shape == layer.posterior.shape


@pytest.mark.parametrize("name", NETWORK)
@pytest.mark.parametrize("method", ["dense_vi", "static_vi", "ssvi"])
def test_flops_are_what_torch_counts_at_density_one(name, method):
    """Less what the conventions count though it is never computed: a step needs no gradient of the images.

    The counter sees dense contractions, as sparse layers scatter their slots.
    """
    options = {} if method == "dense_vi" else {"sparsity": 0.0}
    chosen, module, context = built(name, method, **options)
    each = layer_flops(name)
    total, first = sum(each.values()), next(iter(each.values()))
    # an extra pass asks for no gradient of the scales; layers without slots then leave it out
    unscaled = sum(each[layer] for layer in dense_layers(module))
    images, labels = context.batch

    def step():
        chosen.loss(module, context.batch, context.progress).backward()

    def dense_step():
        with passes.dense_gradients(consume):
            step()

    def noisy_loss():
        with passes.local_noise(context.streams["subspace"]):
            return torch.nn.functional.cross_entropy(module(images), labels)

    def mean_loss():
        return torch.nn.functional.cross_entropy(module(images), labels)

    assert counted(lambda: module(images)) == costs.flops(module, "inference") == total
    assert counted(step) == costs.flops(module, "step") - 2 * first
    assert costs.flops(module, "step") == 6 * total
    assert counted(dense_step) == counted(step)
    assert costs.flops(module, "dense_gradient") == 0
    noisy = counted(lambda: context.extra_pass(noisy_loss, consume, "noisy_pass"))
    assert noisy == costs.flops(module, "noisy_pass") - 2 * first - unscaled
    assert costs.flops(module, "noisy_pass") == 6 * total
    mean = counted(lambda: context.extra_pass(mean_loss, consume, "mean_pass"))
    assert mean == costs.flops(module, "mean_pass") - first
    assert costs.flops(module, "mean_pass") == 3 * total


@pytest.mark.parametrize("name", NETWORK)
def test_the_plain_network_costs_three_forward_passes_a_step(name):
    network, task = plain(name)
    costs.trace(network, task.input_shape)
    each = layer_flops(name)
    total, first = sum(each.values()), next(iter(each.values()))
    images = torch.randn(BATCH, *task.input_shape)
    assert costs.flops(network, "inference") == total
    assert costs.flops(network, "step") == 3 * total
    assert counted(lambda: network(images).sum().backward()) == 3 * total - first


@pytest.mark.parametrize("name", NETWORK)
def test_sparse_flops_are_densities_times_layers(name):
    _, module, _ = built(name, sparsity=0.8)
    each, density = layer_flops(name), dict.fromkeys(layer_flops(name), 1.0)
    for layer, _, posterior in sparse_layers(module):
        density[layer] = len(posterior.index) / posterior.shape.numel()
    first_convolution = {"mlp": [], "vit": []}.get(name, ["conv1"])
    assert [layer for layer, d in density.items() if d == 1] == first_convolution
    sparse = sum(density[layer] * flops for layer, flops in each.items())
    dense = sum(each.values())
    expected = {
        "inference": sparse,
        "step": 6 * sparse,
        "dense_gradient": dense - sparse,
        "noisy_pass": 5 * sparse + dense,
        "mean_pass": 2 * sparse + dense,
    }
    assert {event: costs.flops(module, event) for event in expected} == pytest.approx(expected, rel=1e-12)


def test_the_dense_gradient_of_an_update_is_computed_for_the_mean_alone():
    """A step with an update contracts as often as one without: it keeps a gradient that is there anyhow."""
    chosen, module, context = built("mlp", sparsity=0.8, replace_every=20)
    context.memory["updates"] = 0
    chosen.before_step(context)
    seen = []

    def step():
        with passes.dense_gradients(lambda layer, gradient: seen.append(gradient.shape)):
            chosen.loss(module, context.batch, context.progress).backward()

    assert context.events == ["dense_gradient"]
    total, first = sum(layer_flops("mlp").values()), next(iter(layer_flops("mlp").values()))
    assert counted(step) == 6 * total - 2 * first
    assert sorted(seen) == sorted(p.shape for _, _, p in sparse_layers(module))


def test_what_a_network_costs_without_sparsity_is_found_once_a_process(monkeypatch):
    def problem(**options):
        return make_problem(parse_spec(nest({"dataset": "digits", "network": "mlp", "epochs": 1} | options)))

    first = reference(problem(method="ssvi", seed=1))
    built_before = METHODS.get("dense_vi").build
    monkeypatch.setattr(METHODS.get("dense_vi"), "build", None)  # it is not built again
    assert reference(problem(method="static_vi", sparsity=0.5, seed=2)) == first
    monkeypatch.setattr(METHODS.get("dense_vi"), "build", built_before)
    smaller = reference(problem(method="ssvi", hidden=[9]))
    wider = reference(problem(method="ssvi", precision="float64"))
    assert smaller.inference < first.inference == wider.inference
    assert wider.dense_vi_bytes > 1.9 * first.dense_vi_bytes


# -- published figures ---------------------------------------------------------------------------

#: ResNet-18 on CIFAR-10 by density: active weights, inference and RigL's training ratio, MB (10^6 bytes).
RESNET18 = {
    0.2: (2_234_262, 0.2025, 0.2052, None),
    0.1: (1_118_000, 0.1029, 0.1058, 10.3),
    0.05: (559_869, 0.0530, 0.0562, 5.9),
    0.01: (113_363, 0.0132, 0.0164, None),
}


@pytest.mark.parametrize("density", RESNET18)
def test_resnet18_on_cifar_costs_what_is_published(density):
    """Li et al. 2024 and RigL's convention, uniform density, first layer dense, an update every 100 steps."""
    task = Task((3, 32, 32), 10, 45_000)
    network = NETWORKS.get("resnet18")().initialised(task, Streams(0))
    costs.trace(network, task.input_shape)
    dense = costs.flops(network, "inference")
    method = METHODS.get("ssvi")
    method = method(parse(method.Options, {"sparsity": 1 - density, "replace_every": 100}))
    module = method.build(network, Streams(0), task)
    costs.trace(module, task.input_shape)
    active, inference, training, megabytes = RESNET18[density]
    counts, sparse = method.counts(module), method.flops(module, "inference")
    assert (counts.kernel, counts.active) == (11_164_352, active)
    assert dense / 2e6 == pytest.approx(555.4, abs=0.05)
    # to the digits published, and what rounding each layer to whole weights adds
    assert sparse / dense == pytest.approx(inference, abs=5e-5 + 4e-6)
    assert costs.rigl_ratio(sparse, dense, method.update_period()) == pytest.approx(training, abs=5e-5 + 4e-6)
    if megabytes is None:
        return
    # two numbers an active weight, a bit a position; batch normalisation is not in the published figure
    kernels = [t for name, t in method.pack(module).items() if "posterior" in name]
    size = sum(t.numel() * t.element_size() for t in kernels)
    assert size == pytest.approx(8 * active + 11_164_352 / 8, abs=64 + 1728 / 8)
    assert size / 1e6 == pytest.approx(megabytes, abs=0.05)
    assert pytest.approx(89.3, abs=0.05) == 8 * 11_164_352 / 1e6
    assert 8 * 11_164_352 / size == pytest.approx({0.05: 15.2, 0.1: 8.6}[density], abs=0.05)
