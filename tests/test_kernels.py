"""Sparse kernels against float64: maps, noise, patterns, threads, builds, and networks that run by them."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from torch import nn

from bench.networks.base import NETWORKS
from methods.base import Task
from methods.core import passes
from methods.core.contractions import Conv2d, Linear
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams
from methods.dense_vi import DenseVI
from methods.families.variational import VariationalOptions
from methods.kernels import library as builds
from methods.kernels.blocks import LANES, Blocks, from_blocks, to_blocks
from methods.kernels.contraction import Kernel, geometry, sparse_map
from methods.kernels.library import LEVELS, absent, library, pointer
from methods.layers import costs, execution
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import DenseGaussian, SparseGaussian
from methods.layers.scale_maps import SCALE_MAPS
from methods.ssvi import SSVI, SSVIOptions
from tests.fuzzing import tries

ROOT = Path(__file__).resolve().parent.parent
HERE = torch.backends.cpu.get_cpu_capability()
pytestmark = pytest.mark.skipif(HERE not in LEVELS, reason="kernels need AVX2 or AVX-512")
#: The builds that this machine can run.
CAPABILITIES = ["AVX512", "AVX2"] if HERE == "AVX512" else ["AVX2"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


@contextmanager
def built_for(capability):
    """The kernels of the build for ``capability``."""
    with mock.patch.object(torch.backends.cpu, "get_cpu_capability", return_value=capability):
        builds._load.cache_clear()
        try:
            yield
        finally:
            builds._load.cache_clear()


@pytest.fixture
def fresh_library():
    """Which build there is, is found out in this test anew."""
    builds._load.cache_clear()
    yield
    builds._load.cache_clear()


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def layer_of(contraction, shape, density=0.3, *, bias=True, floor=0.0, holes=False, seed=0):
    """A sparse layer with a kernel. density: a share, or an integer number of weights.

    holes: with output channels and input channels that have no weight.
    """
    g, shape = generator(seed), torch.Size(shape)
    order = torch.randperm(shape.numel(), generator=g)
    chosen = torch.zeros(shape.numel(), dtype=torch.bool)
    chosen[order[: density if isinstance(density, int) else round(density * shape.numel())]] = True
    if holes:
        chosen.view(shape)[::2] = False
        chosen.view(shape)[:, 1::3] = False
    index = chosen.nonzero().view(-1)
    mean, std = torch.randn(len(index), generator=g), torch.rand(len(index), generator=g) + 0.05
    posterior = SparseGaussian(shape, index, mean, std, "softplus")
    layer = VariationalLayer(
        contraction, posterior, torch.randn(shape[0], generator=g) if bias else None, floor
    )
    layer.kernel, posterior.fused = Kernel(contraction, shape), True
    return layer


def drawn(seed, values):
    """The noise that a kernel draws for output in blocks like ``values``, from a generator with that seed."""
    key = int(torch.randint(2**63 - 1, (), generator=generator(seed)))
    return normals(key, 0, values.numel() // LANES).view(values.shape)


def normals(seed, first, count):
    out = torch.empty(count, LANES)
    library().standard_normals(seed, first, count, pointer(out))
    return out


def computed(layer, x, grad=None, noise=None, need_input=True):
    """Output and gradients by the kernels; slots are leaves, so that those of variances are seen too.

    noise: seed of the generator; None: the mean. grad: cotangent of the output, drawn where it is None.
    """
    x = x.detach().requires_grad_(need_input)
    leaves = {"dmean": layer.posterior.mean.detach().clone(), "dvariance": layer.posterior.variance.detach()}
    values, variance = (leaf.requires_grad_() for leaf in leaves.values())
    now = passes.Pass(noise=None if noise is None else generator(noise))
    out = sparse_map(Blocks.of(x), values, variance, layer, now)
    assert not out.values[-1, ..., (len(x) - 1) % LANES + 1 :].any()  # lanes that hold no example
    found = {"y": out.plain().detach()}
    if noise is not None:
        slope, found["z"] = out.values.grad_fn.saved_tensors[3], from_blocks(drawn(noise, out.values), len(x))
        found["slope"] = from_blocks(slope, len(x))
        assert not slope[-1, ..., (len(x) - 1) % LANES + 1 :].any()
    leaves |= {"dx": x} if need_input else {}
    leaves |= {} if layer.bias is None else {"dbias": layer.bias}
    grad = randn(*out.shape, seed=8) if grad is None else grad
    grads = torch.autograd.grad(
        out.plain(), leaves.values(), grad, allow_unused=True
    )  # no variances in the mean
    return found | {name: g for name, g in zip(leaves, grads, strict=True) if g is not None}


def formula(layer, grad, x, mean, variance, bias, z):
    """The same in float64, by torch and its autograd, with the noise held fixed."""
    leaves = {"dx": x, "dmean": mean, "dvariance": variance}
    leaves |= {} if bias is None else {"dbias": bias}
    leaves = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    x, mean, variance, bias = (leaves.get(name) for name in ("dx", "dmean", "dvariance", "dbias"))

    def dense(slots):
        index = getattr(layer.posterior, "index", None)
        if index is None:
            return slots
        flat = slots.new_zeros(layer.posterior.shape.numel())
        return flat.index_put((index.long(),), slots).view(layer.posterior.shape)

    y, found = layer.contraction.forward(x, dense(mean), bias), {}
    if z is not None:
        v = layer.contraction.forward(x.square(), dense(variance), None) + layer.variance_floor
        root = torch.where(v > 0, v, 1).sqrt()
        y = y + torch.where(v > 0, root * z, 0)
        found["slope"] = torch.where(v > 0, z / (2 * root), 0).detach()
    y.backward(grad.double())
    return found | {"y": y.detach()} | {name: leaf.grad for name, leaf in leaves.items()}


def assert_right(layer, x, found, grad=None, tolerance=3e-6):
    """Each number as near to that of float64 as float32 gets: of the sum of its terms without their signs."""
    grad = randn(*found["y"].shape, seed=8) if grad is None else grad
    terms = (x, layer.posterior.mean, layer.posterior.variance, layer.bias, found.get("z"))
    exact = formula(layer, grad, *terms)
    sizes = formula(layer, grad.abs(), *(None if t is None else t.detach().abs() for t in terms))
    assert found.keys() - {"z"} == {name for name, value in exact.items() if value is not None}
    for name in found.keys() - {"z"}:
        assert found[name].shape == exact[name].shape
        assert ((found[name] - exact[name]).abs() <= tolerance * sizes[name]).all(), name


def check(layer, x, noisy):
    found = computed(layer, x, noise=1 if noisy else None)
    assert_right(layer, x, found)
    return found


# -- one layer against float64 ----------------------------------------------------------------


@st.composite
def maps(draw):
    """A layer's geometry and an input that fits: contraction, weight and input shapes."""
    batch = draw(st.sampled_from([1, 2, 15, 16, 17, 33]))
    outputs, inputs = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    if draw(st.booleans()):
        return Linear(), (outputs, inputs), (batch, inputs)

    def pair(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, stride, padding, dilation = pair(1, 4), pair(1, 3), pair(0, 5), pair(1, 3)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [max(1, s - 2 * p) + more for s, p, more in zip(spans, padding, pair(0, 7), strict=True)]
    return Conv2d(stride, padding, dilation), (outputs, inputs, *kernel), (batch, inputs, *size)


@pytest.mark.parametrize("capability", CAPABILITIES)
@given(
    case=maps(),
    density=st.sampled_from([0, 1, 0.1, 0.4, 1.0]),
    holes=st.booleans(),
    bias=st.booleans(),
    floor=st.sampled_from([0.0, 0.0, 0.3]),
    noisy=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=tries(100))
def test_any_layer_against_float64(capability, case, density, holes, bias, floor, noisy, seed):
    contraction, shape, input_shape = case
    layer = layer_of(contraction, shape, density, bias=bias, floor=floor, holes=holes, seed=seed)
    noisy = noisy and layer.posterior.active > 0  # see test_noise_without_a_weight
    with built_for(capability):
        check(layer, randn(*input_shape, seed=seed + 1), noisy)


#: Layers of many tiles, strips and blocks of channels: weight, input height and width.
LARGE = {
    "channel blocks": (Conv2d(padding=(1, 1)), (7, 13, 3, 3), (6, 200)),
    "strided": (Conv2d((2, 2), (1, 1)), (7, 13, 3, 3), (13, 301)),
    "strided by 3 and 2": (Conv2d((3, 2), (2, 1)), (9, 10, 5, 3), (23, 250)),
    "not padded": (Conv2d((1, 2)), (7, 5, 3, 2), (9, 450)),
    "dilated": (Conv2d(padding=(2, 3), dilation=(2, 3)), (6, 12, 3, 3), (7, 200)),
    "wide": (Linear(), (7001, 3), ()),
}


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
@pytest.mark.parametrize("name", LARGE)
def test_layers_in_several_blocks(name, noisy, capability):
    contraction, shape, size = LARGE[name]
    plan = geometry(contraction, torch.Size(shape), size)
    assert plan.backward.blocks > 1
    assert (plan.forward.blocks > 1) != bool(plan.direct) == (name in ("not padded", "wide"))
    if size:
        assert plan.backward.rows < plan.phase_size[0]
        assert plan.direct or plan.forward.rows < plan.out_size[0]
    layer = layer_of(contraction, shape, 0.2, floor=1e-3)
    with built_for(capability):
        check(layer, randn(17 if size else 33, shape[1], *size, seed=1), noisy)


@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
@pytest.mark.parametrize("batch", [1, 2, 8, 15, 16, 17, 31, 33, 64])
def test_batches_that_fill_no_vector(batch, noisy):
    check(layer_of(Linear(), (19, 37)), randn(batch, 37, seed=1), noisy)
    check(layer_of(Conv2d((2, 1), (1, 0)), (5, 4, 3, 2)), randn(batch, 4, 6, 7, seed=1), noisy)


@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
def test_every_number_of_positions_is_tiled(noisy):
    for width in range(1, 20):
        check(layer_of(Conv2d(padding=(0, 1)), (2, 3, 1, 3)), randn(3, 3, 1, width, seed=width), noisy)
        check(layer_of(Conv2d(), (2, 3, 1, 1)), randn(40, 3, 1, width, seed=width), noisy)


@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3),
        lambda x: x[:, :, 1:, ::2],
        lambda x: x[:1].expand(18, -1, -1, -1),
    ],
    ids=["channels last", "transposed", "a part", "expanded"],
)
def test_any_memory_layout_of_the_input(view, noisy):
    x = view(randn(18, 4, 6, 6))
    assert not x.is_contiguous()
    check(layer_of(Conv2d(padding=(1, 1)), (5, 4, 3, 3)), x, noisy)


def test_a_gradient_that_is_not_contiguous():
    layer, x = layer_of(Conv2d(), (5, 4, 3, 3)), randn(18, 4, 6, 6)
    for grad in (torch.ones(()).expand(18, 5, 4, 4), randn(18, 4, 4, 5).movedim(-1, 1)):
        assert_right(layer, x, computed(layer, x, grad), grad)


@pytest.mark.parametrize("noise", [None, 1])
@pytest.mark.parametrize("name", ["channel blocks", "strided", "wide"])
def test_what_needs_no_gradient_has_none_and_the_others_keep_their_bits(name, noise):
    contraction, shape, size = LARGE[name]
    layer, x = layer_of(contraction, shape, 0.1), randn(5, shape[1], *size)
    all_of_them, others = (computed(layer, x, noise=noise, need_input=need) for need in (True, False))
    assert "dx" not in others and others.keys() == all_of_them.keys() - {"dx"}
    assert all(torch.equal(value, all_of_them[key]) for key, value in others.items())


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("floor", [0.0, 1e-2])
def test_output_and_saved_derivative_are_of_one_draw(floor, capability):
    """y = m + 2 v dy/dv; and dy/dv = z / (2 sqrt v)."""
    layer = layer_of(Conv2d(padding=(1, 1)), (5, 4, 3, 3), floor=floor)
    x = randn(17, 4, 6, 6)
    with built_for(capability):
        found = computed(layer, x, noise=3)
    weight, variance = (
        layer.posterior.scatter(p).double() for p in (layer.posterior.mean, layer.posterior.variance)
    )
    m = F.conv2d(x.double(), weight, layer.bias.double(), padding=1)
    v = F.conv2d(x.double().square(), variance, padding=1) + floor
    torch.testing.assert_close(found["y"].double(), m + 2 * v * found["slope"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["z"].double(), 2 * v.sqrt() * found["slope"], rtol=1e-5, atol=1e-5)
    assert found["z"].std().item() == pytest.approx(1, abs=0.05)


def test_noise_is_new_each_time_and_is_repeated_from_the_same_generator():
    layer, x = layer_of(Linear(), (7, 9)), randn(5, 9)

    def draws(seed):
        with passes.local_noise(generator(seed)):
            return [layer(x), layer(x)]

    first, second = draws(0)
    assert not torch.equal(first, second)
    assert all(map(torch.equal, draws(0), (first, second)))
    assert not torch.equal(draws(1)[0], first)


@pytest.mark.parametrize("name", ["channel blocks", "strided", "not padded", "wide"])
def test_a_fixed_sample_of_the_weights(name):
    contraction, shape, size = LARGE[name]
    layer, x = layer_of(contraction, shape, 0.2), randn(17, shape[1], *size)
    draw = layer.sample_weights(generator(5))
    with passes.weights({layer: draw}), torch.no_grad():
        out = layer(x)
    weight = layer.posterior.scatter(draw).double()
    wanted = contraction.forward(x.double(), weight, layer.bias.double()).detach()
    assert (out - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
@pytest.mark.parametrize("name", ["channel blocks", "strided", "wide"])
def test_a_layer_with_all_its_weights(name, noisy):
    contraction, shape, size = LARGE[name]
    std = torch.rand(shape, generator=generator(1)) + 0.05
    posterior = DenseGaussian(shape, randn(*shape), std, "exp")
    layer = VariationalLayer(contraction, posterior, randn(shape[0], seed=2))
    layer.kernel = Kernel(contraction, posterior.shape)
    check(layer, randn(17, shape[1], *size), noisy)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
def test_the_layer_s_own_parameters_have_these_gradients(kind, scale_map):
    layer = layer_of(Conv2d(padding=(1, 1)), (5, 4, 3, 3))
    if kind == "dense":
        std = torch.rand(5, 4, 3, 3, generator=generator(1)) + 0.05
        layer.posterior = DenseGaussian(std.shape, randn(5, 4, 3, 3), std, scale_map)
    layer.posterior.scale_map = scale_map
    x = randn(18, 4, 5, 5).requires_grad_()
    wanted = computed(layer, x, noise=2)
    layer.zero_grad()
    with passes.local_noise(generator(2)):
        out = layer(x)
    out.backward(randn(*out.shape, seed=8))
    assert torch.equal(out, wanted["y"]) and torch.equal(x.grad, wanted["dx"])
    assert torch.equal(layer.posterior.mean.grad, wanted["dmean"])
    assert torch.equal(layer.bias.grad, wanted["dbias"])
    std = layer.posterior.std
    slope = SCALE_MAPS[scale_map].slope(layer.posterior.rho.detach(), std)
    torch.testing.assert_close(layer.posterior.rho.grad, 2 * std * slope * wanted["dvariance"])


def test_tokens_and_single_rows():
    layer = layer_of(Linear(), (5, 7))
    weight = layer.posterior.scatter(layer.posterior.mean).detach()
    for shape in ((2, 9, 7), (3, 2, 4, 7), (7,), (20, 7)):
        x = randn(*shape).requires_grad_()
        out = layer(x)
        wanted = F.linear(x, weight, layer.bias)
        torch.testing.assert_close(out, wanted)
        grad = torch.autograd.grad(out.square().sum(), x)
        torch.testing.assert_close(grad, torch.autograd.grad(wanted.square().sum(), x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "shape",
    [
        (0, 7),
        (0, 4, 7),
    ],
)
def test_no_rows(shape):
    layer = layer_of(Linear(), (5, 7))
    x = torch.zeros(shape, requires_grad=True)
    out = layer(x)
    assert out.shape == (*shape[:-1], 5)
    out.sum().backward()
    assert x.grad.shape == shape and not layer.posterior.mean.grad.any() and not layer.bias.grad.any()


@pytest.mark.parametrize(
    "noisy",
    [
        False,
        True,
    ],
    ids=["mean", "noise"],
)
def test_no_images(noisy):
    layer = layer_of(Conv2d(padding=(1, 1)), (20, 10, 3, 3))
    x = torch.zeros(0, 10, 3, 3, requires_grad=True)
    with passes.local_noise(generator()) if noisy else passes.mean():
        out = layer(x)
    gone = [torch.full((layer.posterior.active,), torch.nan) for _ in range(3)]
    del gone
    out.sum().backward()
    assert out.shape == (0, 20, 3, 3) and not layer.posterior.mean.grad.any()
    if noisy:
        assert not layer.posterior.rho.grad.any()


def test_what_kernels_do_not_know_is_computed_by_torch():
    layer = layer_of(Conv2d(padding=(1, 1)), (5, 4, 3, 3))
    weight = layer.posterior.scatter(layer.posterior.mean).detach()
    image = randn(4, 6, 6)
    wanted = F.conv2d(image, weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(image), wanted)  # without a batch
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(image[None]).dtype == torch.bfloat16
    layer.double()
    torch.testing.assert_close(layer(image[None].double())[0], wanted.double(), rtol=1e-4, atol=1e-4)


def test_a_part_of_a_network_under_autocast():
    layer = layer_of(Linear(), (5, 7))
    layer.keeps_layout = True
    blocks = Blocks.of(randn(20, 7))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(blocks)
    out = out.plain() if isinstance(out, Blocks) else out
    weight = layer.posterior.scatter(layer.posterior.mean).detach()
    torch.testing.assert_close(out.float(), F.linear(blocks.plain(), weight, layer.bias), rtol=0.1, atol=0.1)


def test_an_input_that_is_too_small_is_named():
    layer = layer_of(Conv2d(), (5, 4, 3, 3))
    with pytest.raises(ValueError, match=r"no kernel for a weight \(5, 4, 3, 3\) and an input \(2, 6\)"):
        layer(randn(1, 4, 2, 6))


def test_no_weight_in_several_blocks():
    contraction, shape, size = LARGE["channel blocks"]
    layer, x = layer_of(contraction, shape, 0), randn(2, 13, *size)
    with ThreadPoolExecutor(1) as fresh:  # a thread that holds no memory yet
        out = fresh.submit(layer, x).result()
    assert torch.equal(out, layer.bias.view(-1, 1, 1).expand_as(out))


@pytest.mark.parametrize("floor", [0.0, 1e-2])
def test_noise_without_a_weight(floor):
    """There is nothing for a kernel to do: torch does it."""
    layer, x = layer_of(Linear(), (50, 4), 0, floor=floor), randn(33, 4)
    with passes.local_noise(generator()):
        out = layer(x).detach() - layer.bias
    assert out.std().item() == pytest.approx(floor**0.5, rel=0.1)


# -- zeros, and what is not finite ------------------------------------------------------------


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", ["channel blocks", "strided", "not padded"])
def test_without_variance_the_output_is_the_mean_exactly(name, capability):
    contraction, shape, size = LARGE[name]
    layer = layer_of(contraction, shape, 0.2, holes=True)
    x = randn(5, shape[1], *size)
    x[1] = 0
    x[2, :, 2:] = 0
    with built_for(capability):
        mean, noisy = computed(layer, x), computed(layer, x, noise=1)
    zero = contraction.forward(x.square(), layer.posterior.scatter(layer.posterior.variance), None) == 0
    assert zero[:, ::2].all() and zero[1].all() and not zero[0, 1].any()
    assert torch.equal(noisy["y"][zero], mean["y"][zero]) and not noisy["slope"][zero].any()
    assert (noisy["y"] != mean["y"])[~zero].float().mean() > 0.99
    assert all(value.isfinite().all() for value in noisy.values())


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("noise", [None, 1])
def test_what_is_not_finite_stays_in_its_example(bad, noise, capability):
    for contraction, shape, rest in (
        (Linear(), (9, 20), (20,)),
        (Conv2d(padding=(1, 1)), (3, 4, 3, 3), (4, 5, 5)),
        (Conv2d((2, 2)), (3, 4, 3, 3), (4, 7, 7)),
    ):
        layer, x = layer_of(contraction, shape), randn(20, *rest)
        spoilt = x.clone()
        spoilt[[3, 18]] = bad
        others = [i for i in range(20) if i not in (3, 18)]
        with built_for(capability):
            clean, found = (computed(layer, given, noise=noise) for given in (x, spoilt))
        for key in ("y", "dx"):
            assert torch.equal(found[key][others], clean[key][others]), key
        assert not found["y"][[3, 18]].isfinite().any(dim=0).all()
        if bad != bad:
            assert found["y"][3].isnan().any()


@pytest.mark.parametrize("noise", [None, 1])
def test_weights_that_are_not_there_multiply_nothing(noise):
    """Infinity times zero is not a number; infinity times nothing is nothing."""
    layer = layer_of(Linear(), (9, 20), holes=True)
    x = randn(20, 20)
    x[:, 1::3] = 0  # inputs that no weight meets
    infinite = x.clone()
    infinite[:, 1::3] = torch.inf
    zero, found = (computed(layer, given, noise=noise) for given in (x, infinite))
    for key in ("y", "dmean", "dvariance", "dbias"):
        assert key not in zero or torch.equal(zero[key], found[key])
    # one weight in the middle of a kernel: of the output, one position sees the infinite one
    posterior = SparseGaussian(
        torch.Size((1, 1, 3, 3)), torch.tensor([4]), torch.tensor([2.0]), torch.tensor([0.1]), "exp"
    )
    layer = VariationalLayer(Conv2d(padding=(1, 1)), posterior, None)
    layer.kernel = Kernel(layer.contraction, posterior.shape)
    image = randn(2, 1, 5, 5)
    image[1, 0, 2, 3] = torch.inf
    out = computed(layer, image, noise=noise)["y"]
    assert (~out.isfinite()).nonzero().tolist() == [[1, 0, 2, 3]]


# -- threads and processes --------------------------------------------------------------------


@cache
def subjects():
    """Layers and inputs of sizes that are shared out among threads, and a posterior."""
    layers = []
    for contraction, shape, size, batch in (
        (Conv2d(padding=(1, 1)), (5, 7, 3, 3), (5, 6), 33),
        (Conv2d((2, 2), (1, 1)), (6, 3, 3, 3), (7, 9), 20),
        (Conv2d(), (4, 5, 3, 2), (6, 5), 50),
        (Linear(), (30, 40), (), 50),
    ):
        layers.append((layer_of(contraction, shape), randn(batch, shape[1], *size)))
    return layers, gaussian(20_000)


def core():
    """Numbers of every kind that kernels give.

    torch's own part in it is too small to be shared out: its threads hang in a forked child.
    """
    layers, posterior = subjects()
    found = []
    for layer, x in layers:
        for noise in (None, 1):
            found += [value for key, value in computed(layer, x, noise=noise).items() if key != "z"]
    norm, x, r = nn.BatchNorm2d(5), randn(20, 5, 6, 6).requires_grad_(), randn(20, 5, 6, 6).requires_grad_()
    out = F.relu(norm(Blocks.of(x)) + Blocks.of(r)).plain()
    out.backward(randn(*out.shape))
    found += [out.detach(), x.grad, r.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()]
    found += [to_blocks(randn(3, 9001)), normals(1, 5, 7)]
    kl, variance = posterior.kl(0.1), posterior.variance
    found += [kl.detach(), *torch.autograd.grad(kl, [posterior.mean, posterior.rho])]
    return [*found, variance.detach(), *torch.autograd.grad(variance, posterior.rho, randn(20_000))]


def same(first, second):
    """Bit by bit, and not by torch, as it may be in a forked child."""
    return [t.numpy().tobytes() for t in first] == [t.numpy().tobytes() for t in second]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_bits_do_not_depend_on_the_number_of_threads(capability):
    with built_for(capability):
        found = []
        for count in (1, 2, 3, 5):
            with threads(count):
                found.append(core())
        assert all(same(found[0], other) for other in found[1:])


@pytest.mark.parametrize("noise", [None, 1])
@pytest.mark.parametrize("name", LARGE)
def test_bits_of_large_layers_do_not_depend_on_the_number_of_threads(name, noise):
    contraction, shape, size = LARGE[name]
    layer, x = layer_of(contraction, shape, 0.1), randn(17, shape[1], *size)
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(list(computed(layer, x, noise=noise).values()))
    # the bias has torch's own sum
    assert same(found[0][:-1], found[1][:-1]) and same(found[0][:-1], found[2][:-1])


def test_two_threads_of_python_at_once():
    """One has the pool of threads, the other works alone."""
    with threads(3), ThreadPoolExecutor(2) as pool:
        wanted = core()
        for _ in range(4):
            assert all(same(wanted, found) for found in pool.map(lambda _: core(), range(2)))


#: Run where torch, and so the library, is told to use AVX2 only. Then a child is forked, and a child of that.
APART = """
import os, signal, sys, torch
from tests.test_kernels import core, same
signal.alarm(50)
torch.set_num_threads(3)
before = len(os.listdir("/proc/self/task"))
wanted = core()
print(torch.backends.cpu.get_cpu_capability(), open("/proc/self/maps").read())
torch.save(wanted, sys.argv[1])
assert len(os.listdir("/proc/self/task")) > before, "no threads of its own"
sys.stdout.flush()
for generation in range(3):
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        good = status == 0 and same(core(), wanted)
        os._exit(0 if good else 1)
    signal.alarm(20)  # a child that hangs is not left behind
    if not same(core(), wanted) or len(os.listdir("/proc/self/task")) == 1:
        os._exit(1)
os._exit(0)
"""


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """What that process gave, and the numbers that it computed."""
    path = tmp_path_factory.mktemp("apart") / "core"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", APART, path],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done, torch.load(path) if path.exists() else None


def test_a_forked_child_has_threads_of_its_own_and_the_same_bits(apart):
    done, found = apart
    assert found is not None and done.returncode == 0, done.stderr


# -- noise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    ("counter", "key", "result"),
    [
        ((0, 0), (0, 0), (0x9D1C5EC6, 0x8BD50731)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0xFD36D048, 0x2D17272C)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xBA3E4725, 0xF27D669E)),
    ],
)
def test_known_answers_of_threefry(counter, key, result, capability):
    """Those of Random123's kat_vectors for threefry2x32 with 13 rounds."""
    numbers = np.array(counter, dtype=np.uint32)
    with built_for(capability):
        library().threefry_2x32(numbers.ctypes.data, *key)
    assert tuple(numbers) == result
    assert tuple(int(n[0]) for n in threefry(*(np.uint32([c]) for c in counter), *key)) == result


def threefry(x, y, k0, k1):
    keys = [np.uint32(k) for k in (k0, k1, 0x1BD11BDA ^ k0 ^ k1)]
    turns = (13, 15, 26, 6, 17, 29, 16, 24)
    x, y = x + keys[0], y + keys[1]
    for step in range(13):
        x = x + y
        turn = turns[step % 8]
        y = (y << np.uint32(turn) | y >> np.uint32(32 - turn)) ^ x
        if step % 4 == 3:
            group = step // 4 + 1
            x, y = x + keys[group % 3], y + keys[(group + 1) % 3] + np.uint32(group)
    return x, y


def box_muller(seed, first, count):
    """What ``normal.h`` computes, in float64 from the same bits."""
    counter = 8 * np.arange(first, first + count, dtype=np.uint64)[:, None] + np.arange(8, dtype=np.uint64)
    low, high = ((counter >> np.uint64(s)).astype(np.uint32) for s in (0, 32))
    a, b = threefry(low, high, seed & 0xFFFFFFFF, seed >> 32)
    # the smallest is 2^-25; in float32, as above 1/2 neighbours coincide
    u = (a >> np.uint32(8)).astype(np.float32) * np.float32(2**-24) + np.float32(2**-25)
    radius, angle = np.sqrt(-2 * np.log(u.astype(np.float64))), b.astype(np.float64) * (2 * np.pi / 2**32)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    ("seed", "first"), [(0, 0), (1, 0), (2**63 - 2, 12345), (0x123456789ABCDEF, 2**29 - 50), (7, 2**40)]
)
def test_normals_are_those_of_box_muller(seed, first, capability):
    with built_for(capability):
        found = normals(seed, first, 20_000).numpy()
    wanted = box_muller(seed, first, 20_000)
    assert np.abs(found - wanted).max() < 2e-6
    assert np.abs(wanted).max() > 4.2


def test_vectors_at_any_place_are_drawn_alike():
    """Whether drawn one by one, or side by side in a layer."""
    assert torch.equal(normals(3, 0, 40)[25:], normals(3, 25, 15))
    values = torch.empty(2, 5, 4, 4, LANES)
    x = torch.ones(32, 1, 4, 4)
    layer = layer_of(Conv2d(), (5, 1, 1, 1), 1.0, bias=False)
    found = computed(layer, x, noise=1)
    v = layer.posterior.scatter(layer.posterior.variance).view(-1, 1, 1)
    torch.testing.assert_close(
        2 * v.sqrt() * found["slope"], from_blocks(drawn(1, values), 32), rtol=1e-5, atol=1e-6
    )


@pytest.fixture(scope="module")
def many():
    """(n, 16) of them, 2.1 million, in float64."""
    return normals(20250101, 0, 2**17).double().numpy()


def test_moments(many):
    n = many.size
    # the standard deviation of z^k is sqrt(E z^2k - (E z^k)^2)
    for power, mean, spread in (
        (1, 0, 1),
        (2, 1, 2**0.5),
        (3, 0, 15**0.5),
        (4, 3, 96**0.5),
        (6, 15, 10170**0.5),
    ):
        assert abs((many**power).mean() - mean) < 4 * spread / n**0.5, power
    lanes = many.mean(0), (many**2).mean(0)
    assert np.abs(lanes[0]).max() < 4 * len(many) ** -0.5
    assert np.abs(lanes[1] - 1).max() < 4 * (2 / len(many)) ** 0.5


def chi_square(counts):
    """The chance of counts as uneven as these, along the last axis."""
    mean = counts.mean(-1, keepdims=True)
    return special.chdtrc(counts.shape[-1] - 1, ((counts - mean) ** 2 / mean).sum(-1))


def test_distribution(many):
    uniform = special.ndtr(many)
    assert 1e-4 < chi_square(np.bincount((uniform.ravel() * 1000).astype(int), minlength=1000)) < 1 - 1e-4
    lanes = np.stack([np.bincount((lane * 50).astype(int), minlength=50) for lane in uniform.T])
    assert chi_square(lanes).min() > 1e-4 / LANES
    # Kolmogorov and Smirnov
    ranks = np.arange(uniform.size + 1) / uniform.size
    ordered = np.sort(uniform.ravel())
    distance = max((ranks[1:] - ordered).max(), (ordered - ranks[:-1]).max())
    assert special.kolmogorov(distance * uniform.size**0.5) > 1e-4


def test_tails(many):
    for sign in (-1, 1):
        for beyond in (3, 4, 4.5, 5):
            mean = many.size * special.ndtr(-beyond)
            assert abs((sign * many > beyond).sum() - mean) < 4 * mean**0.5 + 1, (sign, beyond)
    assert np.isfinite(many).all()
    assert 4.8 < np.abs(many).max() < 5.9  # sqrt(2 log 2^25) = 5.89


def correlation(a, b):
    """In standard deviations of what independent numbers have."""
    a, b = a - a.mean(0), b - b.mean(0)
    return np.abs((a * b).mean(0) / np.sqrt((a**2).mean(0) * (b**2).mean(0))).max() * len(a) ** 0.5


@pytest.mark.parametrize("of", [lambda z: z, np.square], ids=["numbers", "squares"])
def test_neighbours_are_not_correlated(many, of):
    z = of(many)
    for distance in range(1, LANES):  # lanes; the halves of Box-Muller are 8 apart
        assert correlation(z, np.roll(z, distance, axis=1)) < 4.5, distance
    for distance in (1, 2, 3, 4, 8, 16, 64, 1024):  # positions, rows, channels
        assert correlation(z[:-distance], z[distance:]) < 4.5, distance
    for seed in (20250102, 20250100, 20250101 + 2**32):  # as other layers or steps may have
        assert correlation(z, of(normals(seed, 0, len(z)).double().numpy())) < 4.5, seed


def test_no_vector_is_drawn_twice(many):
    firsts = np.concatenate([many[:, :2], normals(20250102, 0, len(many)).numpy()[:, :2]])
    assert len(np.unique(firsts, axis=0)) == len(firsts)


# -- patterns that move -----------------------------------------------------------------------


def by_torch(layer, x):
    kernel, layer.kernel = layer.kernel, None
    try:
        return layer(x)
    finally:
        layer.kernel = kernel


@pytest.mark.parametrize("name", ["channel blocks", "strided", "not padded"])
def test_the_pattern_is_arranged_anew_when_it_changes(name):
    contraction, shape, size = LARGE[name]
    layer, x = layer_of(contraction, shape, 0.2), randn(3, shape[1], *size)
    check(layer, x, True)
    before = layer(x)
    other = layer_of(contraction, shape, 0.2, seed=1).posterior
    with torch.no_grad():
        layer.posterior.index.copy_(other.index)  # in place, as an update of the subspace does it
    check(layer, x, True)
    assert not torch.allclose(layer(x), before)

    larger = layer_of(contraction, shape, 0.5, seed=2).posterior
    layer.posterior.set_slots(larger.index, mean=larger.mean.detach(), rho=larger.rho.detach())
    check(layer, x, True)

    layer.load_state_dict(
        layer_of(contraction, shape, 0.1, seed=3).state_dict()
    )  # of another number of slots
    check(layer, x, True)
    layer.load_state_dict(layer_of(contraction, shape, 0.1, seed=4).state_dict())  # of the same
    check(layer, x, True)


def test_inputs_of_several_sizes_have_patterns_of_their_own():
    layer = layer_of(Conv2d(padding=(1, 1)), (5, 4, 3, 3))
    for size in ((5, 5), (7, 4), (1, 1), (5, 5)):
        check(layer, randn(3, 4, *size), True)
    x = randn(3, 4, 5, 5).requires_grad_()
    first = layer(x)
    second = layer(F.pad(x, (1, 1, 1, 1)))
    (first.sum() + second.sum()).backward()  # after another size was seen
    wanted = x.detach().clone().requires_grad_()
    (by_torch(layer, wanted).sum() + by_torch(layer, F.pad(wanted, (1, 1, 1, 1))).sum()).backward()
    torch.testing.assert_close(x.grad, wanted.grad, rtol=1e-5, atol=1e-5)


def test_a_copy_is_a_layer_of_its_own():
    layer, x = layer_of(Conv2d(padding=(1, 1)), (5, 4, 3, 3)), randn(3, 4, 5, 5)
    out = layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), out)
    with torch.no_grad():
        twin.posterior.index.copy_(layer_of(Conv2d(), (5, 4, 3, 3), seed=1).posterior.index)
    check(twin, x, True)
    assert torch.equal(layer(x), out)
    del layer
    check(twin, x, True)


def test_a_layer_that_was_called_is_pickled():
    """As torch.save and multiprocessing do it."""
    layer, x = layer_of(Conv2d(padding=(1, 1)), (5, 4, 3, 3)), randn(3, 4, 5, 5)
    out = layer(x)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), out)


# -- dense gradients --------------------------------------------------------------------------


@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
@pytest.mark.parametrize("name", ["strided", "not padded", "wide", "tokens", "called twice"])
def test_dense_gradients_are_those_of_torch(name, noisy):
    contraction, shape, size = LARGE.get(name, (Linear(), (7, 5), ()))
    layer = layer_of(contraction, shape, 0.2)
    x = randn(3, 4, shape[1]) if name == "tokens" else randn(5, shape[1], *size)

    def delivered():
        seen = []
        consumer = passes.dense_gradients(lambda layer, gradient: seen.append((layer, gradient.clone())))
        draw = passes.local_noise(generator()) if noisy else passes.mean()
        with consumer, draw:
            out = layer(x) + (layer(2 * x) if name == "called twice" else 0)
        out.backward(randn(*out.shape, seed=8))
        assert [s[0] for s in seen] == [layer]
        return seen[0][1]

    ours, kernel, layer.kernel = delivered(), layer.kernel, None
    theirs, layer.kernel = delivered(), kernel
    assert ours.shape == layer.posterior.shape and ours.is_contiguous()
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    # what slots have is a part of it
    layer.zero_grad()
    layer(x).backward(randn(*layer(x).shape, seed=8))
    if name != "called twice":
        part = layer.posterior.gather(ours)
        assert (layer.posterior.mean.grad - part).abs().max() <= 1e-5 * part.abs().max()


def test_no_dense_gradient_without_a_backward_pass_that_is_kept():
    layer, x = layer_of(Linear(), (7, 5)), randn(3, 5)
    seen = []
    with passes.dense_gradients(lambda *_: seen.append(1)) as gradients:
        with torch.no_grad():
            layer(x)
        out = layer(x)
    out.sum().backward()
    gradients.finish()
    layer(x).sum().backward()
    assert seen == [1]


# -- variances and divergences ----------------------------------------------------------------


def gaussian(count, scale_map="softplus", seed=0):
    g = generator(seed)
    mean, std = torch.randn(count, generator=g), torch.rand(count, generator=g) + 1e-3
    posterior = SparseGaussian(torch.Size((count,)), torch.arange(count), mean, std, scale_map)
    posterior.fused = True
    return posterior


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("scale_map", ["softplus", "exp"])
@pytest.mark.parametrize("count", [0, 1, 15, 17, 1000, 16385, 50_000])
def test_variances_and_divergences_against_float64(count, scale_map, capability):
    ours = gaussian(count, scale_map)
    with torch.no_grad():
        wide = min(count // 2, 60)
        ours.rho[:wide] = torch.linspace(-30, 15, wide)
    exact = copy.deepcopy(ours).double()
    found = []
    with built_for(capability):
        for posterior in (ours, exact):
            grad = randn(count).to(posterior.mean.dtype)
            variance, kl = posterior.variance, posterior.kl(0.3)
            by_variance = torch.autograd.grad(variance, posterior.rho, grad)
            by_kl = torch.autograd.grad(3 * kl, [posterior.mean, posterior.rho])
            found.append([variance, *by_variance, kl, *by_kl])
    for name, a, b in zip(("variance", "its gradient", "kl", "in means", "in scales"), *found, strict=True):
        near_zero = 3e-6 if name == "in scales" else 0  # where the scale is the prior's
        torch.testing.assert_close(
            a.double(), b, rtol=2e-5, atol=near_zero, msg=lambda m, n=name: f"{n}: {m}"
        )


# -- builds -----------------------------------------------------------------------------------


def test_this_machine_has_its_kernels():
    assert absent() is None


def test_torch_s_capability_chooses_the_build_and_builds_agree(apart):
    done, found = apart
    assert (
        done.stdout.startswith("AVX2") and "x86_64_v3.so" in done.stdout and "x86_64_v4.so" not in done.stdout
    )
    for capability in CAPABILITIES:
        with built_for(capability):
            here = core()
        for a, b in zip(here, found, strict=True):
            assert (a.double() - b.double()).abs().max() <= 1e-5 * a.abs().max()


def test_kernels_that_are_missing_are_one_line(fresh_library, monkeypatch, tmp_path):
    monkeypatch.setattr(builds, "file_of", lambda level: tmp_path / f"{level}.so")
    reason = absent()
    assert reason is not None and "\n" not in reason
    assert f"({LEVELS[HERE]}.so is missing): install this package again" in reason
    with pytest.raises(RuntimeError) as caught:
        library()
    assert str(caught.value) == reason


def test_kernels_older_than_their_source_are_one_line(fresh_library, monkeypatch):
    monkeypatch.setattr(builds, "digest", lambda source: "another")
    reason = absent()
    assert reason is not None and "\n" not in reason
    assert f"({LEVELS[HERE]}.so) are older than their source" in reason


def test_kernels_without_a_function_are_older_too(fresh_library, monkeypatch):
    monkeypatch.setitem(builds._FUNCTIONS, "no_such_function", (None, ()))
    assert "older than their source" in absent()


def test_machines_without_the_instructions_are_one_line(fresh_library, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NO AVX")
    assert absent() == "sparse kernels need Linux and AVX2 or AVX-512, not Linux and NO AVX"


@pytest.mark.parametrize("damage", ["cut short", "a changed byte", "of something else", "no digest"])
def test_a_damaged_file_is_one_line(damage, fresh_library, monkeypatch, tmp_path):
    """To load what is cut short would end the process; and a changed byte computes."""
    whole = builds.file_of(LEVELS[HERE])
    made, digest = tmp_path / "made.so", tmp_path / "made.sha256"
    content = bytearray(whole.read_bytes())
    if damage == "cut short":
        content = content[:4000]
    elif damage == "a changed byte":
        content[len(content) // 2] ^= 1
    elif damage == "of something else":
        content = b"\x7fELF and nothing more"
    made.write_bytes(content)
    if damage != "no digest":
        digest.write_text(whole.with_suffix(".sha256").read_text())
    monkeypatch.setattr(builds, "file_of", lambda level: made)
    assert absent().startswith("sparse kernels (made.so) are damaged: install this package again")


# -- which layers have a kernel ---------------------------------------------------------------

SMALL = Task((2, 8, 8), 10, 100)


class Unused(nn.Module):
    """With a layer that nothing calls."""

    def __init__(self, network):
        super().__init__()
        self.network, self.unused = network, nn.Linear(30, 20)

    def forward(self, x):
        return self.network(x)


def cnn(*between):
    """Convolutions, one of them grouped, with ``between`` after the second."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 8, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(8, 16, 3, padding=1, bias=False),
            norm2=nn.BatchNorm2d(16),
            **{f"between{i}": module for i, module in enumerate(between)},
            relu2=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
            grouped=nn.Conv2d(16, 16, 3, groups=2),
            flatten=nn.Flatten(),
            classifier=nn.Linear(64, 10),
        )
    )


def built(network, task=SMALL, sparsity=0.8):
    torch.manual_seed(0)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(getattr(module, "p", None), float):
            module.p = 0.0  # what dropout draws depends on the layout, and on the precision
    module = SSVI(SSVIOptions(sparsity=sparsity)).build(network, Streams(0), task)
    costs.trace(module, task.input_shape)
    return module


def kernels_of(module):
    return {
        name for name, m in module.named_modules() if isinstance(m, VariationalLayer) and m.kernel is not None
    }


def keep_layout(module):
    return [m.keeps_layout for m in module.modules() if isinstance(m, VariationalLayer)]


def test_every_sparse_layer_has_a_kernel_that_can():
    module = built(Unused(cnn()))
    execution.choose(module, "sparse", SMALL.input_shape, 32)
    report = execution.report(module)
    assert set(report) == {"unused", *(f"network.{n}" for n in ("conv1", "conv2", "grouped", "classifier"))}
    assert report["network.conv2"] == report["network.classifier"] == "sparse"
    assert report["network.grouped"] == "dense: 2 groups"
    assert report["unused"] == "dense: not called"
    # the first convolution has all its weights: a kernel where it gains, beside those of others
    assert kernels_of(module) == {name for name, how in report.items() if how == "sparse"}
    assert execution.summary(module) == "mixed"  # for the layer that is not called is sparse too
    assert all(keep_layout(module))


def test_nothing_is_sparse_where_that_is_asked_for():
    module = built(cnn())
    execution.choose(module, "sparse", SMALL.input_shape, 32)
    execution.choose(module, "dense", SMALL.input_shape, 32)
    assert set(execution.report(module).values()) == {"dense: asked for"}
    assert execution.summary(module) == "dense" and not kernels_of(module) and not any(keep_layout(module))
    assert isinstance(module(randn(2, *SMALL.input_shape)), torch.Tensor)


def test_auto_leaves_to_torch_what_it_does_faster():
    mlp = nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), wide=nn.Linear(128, 4000), narrow=nn.Linear(4000, 20), out=nn.Linear(20, 10)
        )
    )
    module = built(mlp, sparsity=0.05)
    execution.choose(module, "auto", SMALL.input_shape, 32)
    report = execution.report(module)
    assert report["narrow"] == "dense: torch is faster at density 0.95 and 4000 inputs an output"
    assert execution.summary(module) in ("dense", "mixed")
    execution.choose(module, "sparse", SMALL.input_shape, 32)
    assert execution.summary(module) == "sparse" and kernels_of(module) == {"wide", "narrow", "out"}

    module = built(cnn(), sparsity=0.95)
    execution.choose(module, "auto", SMALL.input_shape, 32)
    assert execution.report(module)["conv2"] == "sparse"
    execution.choose(module, "auto", SMALL.input_shape, 1)  # 15 of 16 lanes hold nothing
    assert execution.report(module)["conv2"].startswith("dense: torch is faster at density 0.05")


@pytest.mark.parametrize(
    ("altered", "reason"),
    [
        (
            lambda module, monkeypatch: monkeypatch.setattr(execution, "absent", lambda: "none here"),
            "none here",
        ),
        (lambda module, monkeypatch: module.double(), "kernels are for float32, not for float64"),
        (lambda module, monkeypatch: module.to("meta"), "kernels are for CPUs, not for meta"),
    ],
    ids=["absent", "float64", "another device"],
)
def test_where_there_are_no_kernels_sparse_is_refused_and_auto_is_dense(altered, reason, monkeypatch):
    module = built(cnn())
    altered(module, monkeypatch)
    with pytest.raises(UserError) as caught:
        execution.choose(module, "sparse", SMALL.input_shape, 32)
    assert str(caught.value) == f"execution sparse: {reason}"
    execution.choose(module, "auto", SMALL.input_shape, 32)
    assert set(execution.report(module).values()) == {f"dense: {reason}"}
    assert execution.summary(module) == "dense" and not kernels_of(module)
    execution.choose(module, "dense", SMALL.input_shape, 32)  # which needs none


def test_without_a_sparse_layer_nothing_has_a_kernel():
    module = DenseVI(VariationalOptions()).build(cnn(), Streams(0), SMALL)
    costs.trace(module, SMALL.input_shape)
    for how in ("auto", "sparse"):
        execution.choose(module, how, SMALL.input_shape, 32)
        assert set(execution.report(module).values()) == {"dense: no layer is sparse"}
        assert execution.summary(module) == "dense" and not kernels_of(module)


def test_the_layout_may_be_kept_within_layers():
    module = built(cnn())
    execution.choose(module, "sparse", SMALL.input_shape, 32, in_layout=False)
    assert kernels_of(module) and not any(keep_layout(module))


def test_a_later_choice_is_the_one_that_holds():
    module = built(cnn())
    execution.choose(module, "sparse", SMALL.input_shape, 32)
    execution.choose(module, "sparse", SMALL.input_shape, 32, in_layout=False)
    assert kernels_of(module) and not any(keep_layout(module))


def test_a_choice_leaves_no_trace_but_kernels():
    module = built(cnn())
    before = copy.deepcopy(module.state_dict())
    state = torch.get_rng_state()
    execution.choose(module, "sparse", SMALL.input_shape, 32)
    assert module.training and module.conv2.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


# -- networks ---------------------------------------------------------------------------------


def outcome(module, task, dtype=torch.float32, batch=18):
    """Mean network in evaluation and in training: logits, gradients of the latter, running statistics."""
    x, grad = (randn(batch, *shape, seed=1).to(dtype) for shape in (task.input_shape, (task.classes,)))
    with torch.no_grad():
        found = {"evaluation": module.eval()(x)}
    found["training"] = logits = module.train()(x)
    assert isinstance(logits, torch.Tensor) and isinstance(found["evaluation"], torch.Tensor)
    logits.backward(grad)
    found |= {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    found |= {name: b for name, b in module.named_buffers() if not name.endswith("index")}
    return {name: value.detach().double() for name, value in found.items()}


def same_in_every_mode(module, task=SMALL, layout=True):
    """As near to float64 as torch in float32 is, or nearly; a ReLU may fall on the other side."""
    exact = outcome(copy.deepcopy(module).double(), task, torch.float64)
    sparse, dense = copy.deepcopy(module), copy.deepcopy(module)
    execution.choose(sparse, "sparse", task.input_shape, 18)
    execution.choose(dense, "dense", task.input_shape, 18)
    assert execution.summary(sparse) == "sparse"
    assert all(keep_layout(sparse)) if layout else not any(keep_layout(sparse))
    ours, theirs = outcome(sparse, task), outcome(dense, task)
    assert ours.keys() == theirs.keys() == exact.keys()
    for name, value in exact.items():
        allowed = 1e-2 * value.norm() + 10 * (theirs[name] - value).norm() + 1e-9
        assert (ours[name] - value).norm() <= allowed, name
    for name in ("evaluation", "training"):
        assert (ours[name] - exact[name]).norm() <= 1e-4 * exact[name].norm(), name


def network(name, task, **options):
    made = NETWORKS.get(name)
    return made(parse(made.Options, options)).initialised(task, Streams(0), "")


COLOUR = Task((3, 32, 32), 10, 100)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": [64, 32]}),
        ("cnn", {}),
        ("lenet5", {}),
        ("resnet18", {"width": 8, "blocks": [1, 1]}),
        ("wide_resnet", {"depth": 10, "widen": 1}),
        ("vit", {"width": 12, "depth": 2}),
        ("torchvision", {"model": "mobilenet_v3_small"}),
        ("torchvision", {"model": "squeezenet1_1"}),
        *(
            pytest.param("torchvision", {"model": model}, marks=pytest.mark.slow)
            for model in ("vgg11_bn", "resnet18", "efficientnet_b0", "googlenet")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("model", ""),
)
def test_networks_are_the_same_by_kernels(name, options):
    same_in_every_mode(built(network(name, COLOUR, **options), COLOUR), COLOUR)


def test_a_network_of_one_layer():
    same_in_every_mode(built(nn.Sequential(nn.Flatten(), nn.Linear(128, 10))))


def test_a_network_with_all_that_is_done_in_place():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1)
            self.norm = nn.BatchNorm2d(16)

        def forward(self, x):
            out = self.norm(self.conv(x))
            out += x
            out += 1
            return F.relu(out, inplace=True)

    same_in_every_mode(built(cnn(nn.ReLU(inplace=True), Residual(), nn.AvgPool2d(3, 1, 1), nn.Hardswish())))


class Looks(nn.Module):
    def forward(self, x):
        return 2 * x if isinstance(x, torch.Tensor) else x


class Refuses(nn.Module):
    def forward(self, x):
        if not isinstance(x, torch.Tensor):
            raise TypeError("a tensor is wanted")
        return x


class Changes(nn.Module):
    """In place by a method that the layout doesn't have, and goes on with what was changed."""

    def forward(self, x):
        x.mul_(0.5)
        return x


class Assigns(nn.Module):
    def forward(self, x):
        x = x + 0
        x[:, 0] = 0
        return x


@pytest.mark.parametrize("kind", [Looks, Refuses])
def test_a_network_that_looks_at_its_activations_is_given_plain_tensors(kind):
    same_in_every_mode(built(cnn(kind())), layout=False)


@pytest.mark.parametrize("kind", [Changes, Assigns])
def test_a_network_that_changes_its_activations_is_the_same(kind):
    same_in_every_mode(built(cnn(kind())))


class InTraining(nn.Module):
    """Does in training only what the layout is not made for."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x) if self.training else x


class Writes(nn.Module):
    def forward(self, x):
        x[:, 0].zero_()
        return x


def test_a_network_that_writes_through_views_is_the_same():
    same_in_every_mode(built(cnn(Writes())))


@pytest.mark.parametrize("kind", [Looks, Refuses, Writes])
def test_a_network_that_looks_at_its_activations_in_training_only(kind):
    module = built(cnn(InTraining(kind())))
    sparse, dense = copy.deepcopy(module), copy.deepcopy(module)
    execution.choose(sparse, "sparse", SMALL.input_shape, 18)
    x = randn(18, *SMALL.input_shape)
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-4, atol=1e-4)


def test_noise_through_a_network_has_the_spread_of_torch_s():
    module, x = built(cnn()).eval(), randn(1, *SMALL.input_shape).expand(3000, -1, -1, -1)
    with torch.no_grad():
        for layer in (m for m in module.modules() if isinstance(m, VariationalLayer)):
            layer.posterior.rho.fill_(-2.0)
    found = []
    for how in ("dense", "sparse"):
        execution.choose(module, how, SMALL.input_shape, 32)
        with torch.no_grad(), passes.local_noise(generator(0)):
            found.append(module(x))
    means, spreads = ([f.mean(0) for f in found], [f.std(0) for f in found])
    assert ((means[0] - means[1]).abs() < 5 * spreads[0] * (2 / 3000) ** 0.5).all()
    torch.testing.assert_close(*spreads, rtol=0.1, atol=0)


def test_trained_by_kernels_a_network_learns_and_repeats_its_bits():
    labels = torch.arange(32) % 10
    images = randn(10, *SMALL.input_shape)[labels] + 0.3 * randn(32, *SMALL.input_shape, seed=1)

    def trained(count):
        module = built(cnn())
        execution.choose(module, "sparse", SMALL.input_shape, 32)
        optimiser = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
        noise, losses = generator(0), []
        with threads(count):
            for _ in range(25):
                optimiser.zero_grad()
                with passes.local_noise(noise):
                    loss = F.cross_entropy(module(images), labels)
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
        return losses

    losses = trained(1)
    assert losses[-1] < 0.3 * losses[0]
    assert trained(1) == losses
    counted = Counter(trained(3)[i] == losses[i] for i in range(3))
    assert counted[True] == 3
