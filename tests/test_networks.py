"""The architectures: shapes, sizes, initial weights, random streams, conversion, bad options."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bench.networks.base import NETWORKS
from methods.base import Progress, Task
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams
from methods.layers import convert, costs
from methods.ssvi import SSVI, SSVIOptions

DIGITS = Task((1, 8, 8), 10, 1097)
COLOUR = Task((3, 32, 32), 100, 50_000)


def make(name, task=DIGITS, seed=0, salt="", **options):
    network = NETWORKS.get(name)
    return network(parse(network.Options, options)).initialised(task, Streams(seed), salt)


def kernels(module):
    return {name: p for name, p in module.named_parameters() if p.dim() > 1}


SMALL = {
    "mlp": {},
    "cnn": {},
    "lenet5": {},
    "resnet18": {"width": 4},
    "wide_resnet": {"depth": 10, "widen": 1},
    "vit": {"width": 12, "depth": 2},
    "torchvision": {"model": "shufflenet_v2_x0_5"},
}


@pytest.mark.parametrize("task", [DIGITS, Task((1, 28, 28), 10, 1), COLOUR], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_outputs_have_the_task_s_shape_and_are_finite(name, task):
    network = make(name, task, **SMALL[name])
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
    ("name", "task", "parameters"),
    [
        ("lenet5", Task((1, 28, 28), 10, 1), 61_706),
        ("lenet5", Task((3, 32, 32), 10, 1), 62_006),
        ("resnet18", Task((3, 32, 32), 10, 1), 11_173_962),
        ("wide_resnet", Task((3, 32, 32), 10, 1), 36_479_194),
    ],
    ids=str,
)
def test_sizes_are_those_of_the_literature(name, task, parameters):
    assert sum(p.numel() for p in make(name, task).parameters()) == parameters


def test_resnet18_takes_the_multiply_adds_of_the_literature():
    network = make("resnet18", COLOUR)
    costs.trace(network, COLOUR.input_shape)
    without_classifier = costs.flops(network, "inference") / 2 - 512 * 100
    assert without_classifier == pytest.approx(555_417_600, rel=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_every_kernel_but_the_first_convolution_and_grouped_ones_is_sparsifiable(name):
    network = make(name, COLOUR, **SMALL[name])
    layers = [n for n, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    expected = layers[1:] if isinstance(network.get_submodule(layers[0]), nn.Conv2d) else layers
    grouped = {n for n in expected if getattr(network.get_submodule(n), "groups", 1) > 1}
    assert list(convert.sparsifiable(network)) == [n for n in expected if n not in grouped]
    assert bool(grouped) == (name == "torchvision")


@pytest.mark.parametrize("name", SMALL)
def test_ssvi_trains_on_every_architecture(name):
    method = SSVI(SSVIOptions(sparsity=0.5))
    network = make(name, COLOUR, **SMALL[name])
    module = method.build(network, Streams(0), COLOUR)
    batch = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    progress = Progress("train", 1, 1, 0, 10, 50_000, torch.Generator().manual_seed(0))
    method.loss(module, batch, progress).backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 8)], ids=str)
def test_vit_cuts_the_image_into_its_patches(shape):
    network = make("vit", Task(shape, 10, 1), width=12, depth=1)
    image = torch.arange(math.prod(shape), dtype=torch.float32).view(1, *shape)
    seen = []
    network.embed.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][0]))
    network(image)
    tiles = [image[0, :, r : r + 4, c : c + 4] for r in range(0, shape[1], 4) for c in range(0, shape[2], 4)]
    assert torch.equal(seen[0], torch.stack([tile.flatten() for tile in tiles]))


def test_vit_attends_as_torch_does():
    network = make("vit", DIGITS, width=12, depth=1)
    block, reference = network.blocks[0], nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        parts = (block.query, block.key, block.value)
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.weight.copy_(block.out.weight)
        for part in (block.fc1, block.fc2):
            nn.init.zeros_(part.weight)
    x = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0))
    normed = block.norm1(x)
    torch.testing.assert_close(block(x), x + reference(normed, normed, normed)[0])


@pytest.mark.parametrize("model", ["googlenet", "inception_v3", "swin_t", "vit_b_32"])
@pytest.mark.slow
def test_models_of_torchvision_with_a_will_of_their_own(model, recwarn):
    size = 96 if model == "inception_v3" else 32
    network = make("torchvision", Task((3, size, size), 7, 1), model=model)
    for mode in (True, False):  # auxiliary classifiers would make tuples of the outputs in training
        assert network.train(mode)(torch.randn(2, 3, size, size)).shape == (2, 7)
    assert [str(warning.message) for warning in recwarn] == []


def test_grey_images_are_repeated_to_three_channels():
    grey = make("torchvision", Task((1, 32, 32), 10, 1), model="resnet18").eval()
    colour = make("torchvision", Task((3, 32, 32), 10, 1), model="resnet18").eval()
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)))
    assert sum(p.numel() for p in grey.parameters()) == 11_181_642


@pytest.mark.parametrize(
    ("model", "task", "words"),
    [
        ("resnet19", DIGITS, "unknown model 'resnet19' (did you mean 'resnet18'?)"),
        ("ResNet18", DIGITS, "unknown model 'ResNet18' (did you mean 'resnet18'?)"),
        ("xyz", DIGITS, "unknown model 'xyz'; valid: resnet18, vgg11_bn"),
        ("vit_b_16", DIGITS, "vit_b_16 for 8x8: Input shape indivisible by patch size!"),
        ("vit_b_16", Task((3, 32, 16), 10, 1), "vit_b_16 takes square images, got 32x16"),
        ("vgg11", DIGITS, "network torchvision: does not take inputs of 1x8x8: "),
        ("resnet18", Task((4, 32, 32), 10, 1), "takes images of 1 or 3 channels, got 4"),
    ],
    ids=str,
)
def test_models_of_torchvision_that_do_not_fit_are_named(model, task, words):
    with pytest.raises(UserError) as caught:
        make("torchvision", task, model=model)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": [600, 300]}),
        ("cnn", {"channels": [64, 96]}),
        ("lenet5", {}),
        ("resnet18", {"width": 32, "blocks": [1, 1]}),
        ("wide_resnet", {"depth": 10, "widen": 2}),
    ],
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
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    biases = [layer.bias for layer in layers if layer.bias is not None]
    assert all((bias == 0).all() for bias in biases)
    assert biases


@pytest.mark.parametrize("name", SMALL)
def test_weights_depend_on_seed_and_salt_and_nothing_else(name):
    torch.manual_seed(1)
    first = make(name, seed=3, **SMALL[name])
    torch.manual_seed(2)
    torch.randn(10)
    again = make(name, seed=3, **SMALL[name])
    others = [make(name, seed=s, salt=salt, **SMALL[name]) for s, salt in ((4, ""), (3, "/second"))]
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
        ("mlp", {"width": 3}, "unknown key 'width'.*; valid: convert, hidden"),
        ("cnn", {"channels": [-1]}, r"channels: -1 lies outside \[1, inf\)"),
        ("cnn", {"channels": []}, "channels: needs at least one convolution"),
        ("resnet18", {"blocks": []}, "blocks: needs at least one stage"),
        ("wide_resnet", {"depth": 29}, "depth: 29 is not 6 n"),
        ("vit", {"patch": 3}, "patch: 3 does not divide the image, 8x8"),
        ("vit", {"heads": 5}, "heads: 5 does not divide the width, 192"),
    ],
)
def test_bad_options_are_named(name, options, words):
    with pytest.raises(UserError, match=words):
        make(name, **options)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "mlp"])
def test_convolutions_and_patches_take_images_only(name):
    words = rf"network {name}: takes images \(channels, height, width\), got inputs of \(20,\)"
    with pytest.raises(UserError, match=words):
        make(name, Task((20,), 2, 100))
