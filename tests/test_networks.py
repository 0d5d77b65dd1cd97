"""The multilayer perceptron and the small CNN: shapes, initial weights, random streams, bad options."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bench.networks.base import NETWORKS
from methods.base import Task
from methods.errors import UserError
from methods.options import parse
from methods.streams import Streams

DIGITS = Task((1, 8, 8), 10, 1097)
COLOUR = Task((3, 32, 32), 100, 50_000)


def make(name, task=DIGITS, seed=0, salt="", **options):
    network = NETWORKS.get(name)
    return network(parse(network.Options, options)).initialised(task, Streams(seed), salt)


def kernels(module):
    return {name: p for name, p in module.named_parameters() if p.dim() > 1}


@pytest.mark.parametrize("task", [DIGITS, Task((1, 28, 28), 10, 1), COLOUR], ids=str)
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_outputs_have_the_task_s_shape_and_are_finite(name, task):
    network = make(name, task)
    inputs = torch.randn(5, *task.input_shape, generator=torch.Generator().manual_seed(0))
    for mode in (True, False):
        logits = network.train(mode)(inputs)
        assert logits.shape == (5, task.classes)
        assert logits.isfinite().all()


def test_mlp_layers_are_readable_and_follow_the_options():
    assert {n: tuple(p.shape) for n, p in make("mlp").named_parameters()} == {
        "fc1.weight": (256, 64), "fc1.bias": (256,),
        "fc2.weight": (256, 256), "fc2.bias": (256,),
        "classifier.weight": (10, 256), "classifier.bias": (10,),
    }  # fmt: skip
    assert {n: tuple(p.shape) for n, p in kernels(make("mlp", hidden=[])).items()} == {
        "classifier.weight": (10, 64)
    }


def test_cnn_layers_are_readable_and_follow_the_options():
    assert {n: tuple(p.shape) for n, p in kernels(make("cnn", COLOUR, channels=[4, 6, 8, 8])).items()} == {
        "conv1.weight": (4, 3, 3, 3),
        "conv2.weight": (6, 4, 3, 3),
        "conv3.weight": (8, 6, 3, 3),
        "conv4.weight": (8, 8, 3, 3),
        "classifier.weight": (100, 8),
    }


def test_cnn_halves_the_image_once():
    network = make("cnn")
    sizes = []
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[-2:])))
    network(torch.zeros(1, 1, 8, 8))
    assert sizes == [(8, 8), (4, 4), (4, 4)]


@pytest.mark.parametrize(
    ("name", "options"), [("mlp", {"hidden": [600, 300]}), ("cnn", {"channels": [64, 96]})]
)
def test_kernels_are_he_normal_and_biases_zero(name, options):
    network = make(name, COLOUR, **options)
    for parameter, weights in kernels(network).items():
        std = math.sqrt(2 / weights[0].numel())
        error = 5 / math.sqrt(weights.numel())  # five standard errors of the mean, seven of the deviation
        assert weights.mean().item() == pytest.approx(0, abs=std * error), parameter
        assert weights.std().item() == pytest.approx(std, rel=error), parameter
        fourth = (weights / std).pow(4).mean().item()
        assert fourth == pytest.approx(3, rel=4 * error), parameter  # a uniform law has 1.8
    biases = [p for n, p in network.named_parameters() if n.endswith("bias")]
    assert all((bias == 0).all() for bias in biases)
    assert biases


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_weights_depend_on_seed_and_salt_and_nothing_else(name):
    torch.manual_seed(1)
    first = make(name, seed=3)
    torch.manual_seed(2)
    torch.randn(10)
    again = make(name, seed=3)
    others = [make(name, seed=4), make(name, seed=3, salt="/second")]
    for parameter, weights in kernels(first).items():
        assert torch.equal(weights, kernels(again)[parameter])
        assert not any(torch.equal(weights, kernels(other)[parameter]) for other in others)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_building_leaves_the_global_stream_and_the_run_s_streams_alone(name):
    streams = Streams(0)
    before, order = torch.get_rng_state(), streams["order"].get_state()
    NETWORKS.get(name)().initialised(DIGITS, streams)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(streams["order"].get_state(), order)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mlp", {"hidden": [256, 0]}, r"hidden: 0 lies outside \[1, inf\)"),
        ("mlp", {"hidden": "256"}, "hidden: expected list of integer, got '256'"),
        ("mlp", {"width": 3}, "unknown key 'width'; valid: hidden"),
        ("cnn", {"channels": [-1]}, r"channels: -1 lies outside \[1, inf\)"),
        ("cnn", {"channels": []}, "channels: needs at least one convolution"),
    ],
)
def test_bad_options_are_named(name, options, words):
    with pytest.raises(UserError, match=words):
        make(name, **options)


def test_cnn_takes_images_only():
    with pytest.raises(
        UserError, match=r"network cnn: takes images \(channels, height, width\), got inputs of \(20,\)"
    ):
        make("cnn", Task((20,), 2, 100))
