"""Variational layers: gradients, moments, passes, and what is kept between forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from methods.core import passes
from methods.core.contractions import Conv2d, Linear
from methods.layers import convert
from methods.layers.layer import VariationalLayer, variational_twin
from methods.layers.posterior import DenseGaussian, SparseGaussian
from methods.layers.scale_maps import SCALE_MAPS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posteriors(shape, density=0.3, dtype=torch.float64, scale_map="softplus", seed=0):
    """A sparse posterior, and a dense one whose inactive coordinates are (almost) exactly zero."""
    g, size = generator(seed), torch.Size(shape).numel()
    index = torch.randperm(size, generator=g)[: max(1, round(density * size))].sort().values
    mean = torch.randn(index.numel(), generator=g, dtype=dtype)
    std = torch.rand(index.numel(), generator=g, dtype=dtype) + 0.1
    sparse = SparseGaussian(shape, index, mean, std, scale_map)
    full_std = torch.full(shape, 1e-12, dtype=dtype)
    full_std.view(-1)[index] = std
    dense = DenseGaussian(shape, sparse.scatter(mean), full_std, scale_map)
    return sparse, dense


GEOMETRIES = {
    "linear": (Linear(), (5, 7), (3, 7)),
    "linear over tokens": (Linear(), (5, 7), (2, 4, 7)),
    "conv": (Conv2d(padding=(1, 1)), (4, 3, 3, 3), (2, 3, 5, 6)),
    "strided": (Conv2d(stride=(2, 2), padding=(1, 1)), (4, 3, 3, 3), (2, 3, 6, 5)),
    "1x1": (Conv2d(stride=(2, 2)), (4, 3, 1, 1), (2, 3, 5, 5)),
    "dilated": (Conv2d(dilation=(2, 1)), (2, 3, 3, 2), (2, 3, 7, 6)),
    "grouped": (Conv2d(groups=2, padding=(1, 0)), (4, 2, 3, 3), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
def test_gradients_against_finite_differences(name, noisy):
    contraction, shape, input_shape = GEOMETRIES[name]
    sparse, _ = posteriors(shape)
    bias = torch.randn(shape[0], generator=generator(3), dtype=torch.float64)
    layer = VariationalLayer(contraction, sparse, bias)
    x = torch.randn(input_shape, generator=generator(1), dtype=torch.float64, requires_grad=True)

    def run(x, mean, rho, bias):
        state = {"posterior.mean": mean, "posterior.rho": rho, "bias": bias}
        if not noisy:
            return torch.func.functional_call(layer, state, (x,))
        with passes.local_noise(generator(2)):
            return torch.func.functional_call(layer, state, (x,))

    assert torch.autograd.gradcheck(run, (x, sparse.mean, sparse.rho, layer.bias), check_undefined_grad=False)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_slots_equal_the_dense_layer(name):
    contraction, shape, input_shape = GEOMETRIES[name]
    sparse, dense = posteriors(shape)
    x = torch.randn(input_shape, generator=generator(1), dtype=torch.float64)
    found = []
    for posterior in (sparse, dense):
        inputs = x.clone().requires_grad_()
        with passes.local_noise(generator(2)):
            out = VariationalLayer(contraction, posterior, None)(inputs)
        out.square().sum().backward()
        found.append(
            (out.detach(), inputs.grad, posterior.mean.grad.reshape(-1), posterior.rho.grad.reshape(-1))
        )
    index = sparse.index.long()
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found[0][2], found[1][2][index], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found[0][3], found[1][3][index], rtol=1e-8, atol=1e-8)


def test_nothing_of_dense_size_is_kept_for_backward():
    """saved_tensors_hooks sees everything autograd keeps: slots and activations, never the weight."""
    sparse, _ = posteriors((64, 128), density=0.05, dtype=torch.float32)
    layer = VariationalLayer(Linear(), sparse, torch.zeros(64))
    kept = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t),
        passes.local_noise(generator()),
    ):
        layer(torch.randn(2, 128, requires_grad=True)).sum()
    assert kept
    assert max(kept) < 64 * 128 / 4, kept


def test_dense_gradient_is_handed_out_only_on_request():
    sparse, _ = posteriors((5, 7))
    layer = VariationalLayer(Linear(), sparse, None)
    x = torch.randn(3, 7, dtype=torch.float64)
    seen = []
    with passes.dense_gradients(lambda layer, gradient: seen.append((layer, gradient.clone()))):
        out = layer(x)
    out.square().sum().backward()
    layer(x).square().sum().backward()
    assert [s[0] for s in seen] == [layer]
    weight = sparse.scatter(sparse.mean.detach()).requires_grad_()
    nn.functional.linear(x, weight).square().sum().backward()
    torch.testing.assert_close(seen[0][1], weight.grad)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_local_reparameterisation_has_the_moments_of_sampled_weights(kind):
    sparse, dense = posteriors((4, 6), density=0.5)
    layer = VariationalLayer(Linear(), sparse if kind == "sparse" else dense, None)
    x = torch.randn(1, 6, generator=generator(5), dtype=torch.float64)
    n = 40_000
    with torch.no_grad():
        with passes.local_noise(generator(6)):
            local = layer(x.expand(n, 6))
        g = generator(7)
        sampled = []
        for _ in range(4000):
            with passes.weights({layer: layer.sample_weights(g)}):
                sampled.append(layer(x)[0])
        sampled = torch.stack(sampled)
        mean = layer(x)[0]
    std = local.std(0)
    assert ((local.mean(0) - mean).abs() <= 5 * std / n**0.5 + 1e-9).all()
    assert ((sampled.mean(0) - mean).abs() <= 5 * std / 4000**0.5 + 1e-9).all()
    torch.testing.assert_close(sampled.std(0), std, rtol=0.06, atol=1e-6)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_zero_variance_is_the_mean_with_finite_gradients(kind):
    sparse, dense = posteriors((4, 6), dtype=torch.float32)
    posterior = sparse if kind == "sparse" else dense
    with torch.no_grad():
        posterior.rho.fill_(-300.0)
    layer = VariationalLayer(Linear(), posterior, None)
    x = torch.randn(2, 6, generator=generator()).requires_grad_()
    with passes.local_noise(generator()):
        out = layer(x)
    # two products of the same matrices may differ in the last bit, by how their memory is aligned
    torch.testing.assert_close(out, layer(x), rtol=1e-6, atol=1e-9)
    out.sum().backward()
    assert all(torch.isfinite(t.grad).all() for t in (x, posterior.mean, posterior.rho))


def test_variance_floor_adds_noise_where_there_is_no_variance():
    sparse, _ = posteriors((4, 6))
    layer = VariationalLayer(Linear(), sparse, None, variance_floor=1e-8)
    with passes.local_noise(generator()):
        out = layer(torch.zeros(1000, 6, dtype=torch.float64))
    assert out.std().item() == pytest.approx(1e-4, rel=0.1)


def test_no_mode_is_left_behind():
    sparse, _ = posteriors((4, 6))
    layer = VariationalLayer(Linear(), sparse, None)
    x = torch.randn(2, 6, dtype=torch.float64)
    before = layer(x)
    with pytest.raises(RuntimeError), passes.local_noise(generator()):
        assert not torch.equal(layer(x), before)
        raise RuntimeError
    with passes.local_noise(generator()), passes.mean():
        assert torch.equal(layer(x), before)
    assert torch.equal(layer(x), before)
    assert passes.current() == passes.MEAN


@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
def test_kl_against_torch_distributions(scale_map):
    sparse, dense = posteriors((4, 6), scale_map=scale_map)
    for posterior in (sparse, dense):
        q = torch.distributions.Normal(posterior.mean, posterior.std)
        p = torch.distributions.Normal(torch.zeros_like(posterior.mean), 0.3)
        expected = torch.distributions.kl_divergence(q, p).sum()
        torch.testing.assert_close(posterior.kl(0.3), expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
def test_gradients_of_kl_and_variance_by_hand_are_those_of_autograd(scale_map):
    for posterior in posteriors((4, 6), scale_map=scale_map):
        mean, rho = posterior.mean, posterior.rho
        if scale_map == "abs":  # scales as they are after some of rho have passed through 0
            rho.data.view(-1)[::2].neg_()
        std = SCALE_MAPS[scale_map].std(rho)
        prior = torch.distributions.Normal(torch.zeros_like(mean), 0.3)
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, std), prior).sum()
        for found, expected in ((posterior.kl(0.3), kl), (posterior.variance.sum(), std.square().sum())):
            wanted = torch.autograd.grad(3.0 * expected, (mean, rho), allow_unused=True, retain_graph=True)
            gradients = torch.autograd.grad(3.0 * found, (mean, rho), allow_unused=True)
            torch.testing.assert_close(gradients, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
def test_slopes_of_scale_maps(scale_map):
    functions = SCALE_MAPS[scale_map]
    rho = torch.linspace(-30, 30, 121, dtype=torch.float64, requires_grad=True)
    std = functions.std(rho)
    (slope,) = torch.autograd.grad(std.sum(), rho)
    torch.testing.assert_close(functions.slope(rho.detach(), std.detach()), slope, rtol=1e-8, atol=0)


@pytest.mark.parametrize("scale_map", ["softplus", "exp", "abs"])
@pytest.mark.parametrize("std", [1e-6, 6e-4, 0.1, 1.0, 50.0])
def test_scale_maps_invert(scale_map, std):
    value = torch.full((3,), std)
    posterior = DenseGaussian(torch.Size((3,)), torch.zeros(3), value, scale_map)
    torch.testing.assert_close(posterior.std, value, rtol=2e-5, atol=0)


def test_twin_of_a_plain_layer_computes_the_same():
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    linear = nn.Linear(5, 4, bias=False)
    for plain, x in ((conv, torch.randn(2, 4, 8, 9)), (linear, torch.randn(3, 5))):
        posterior = DenseGaussian(plain.weight.shape, plain.weight, torch.full_like(plain.weight, 0.1), "exp")
        torch.testing.assert_close(variational_twin(plain, posterior, 0.0)(x), plain(x))


def test_sparsifiable_set_leaves_out_the_first_convolution_only():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 10)
    )
    assert list(convert.sparsifiable(network)) == ["2", "4"]
    assert list(convert.sparsifiable(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))) == [
        "0",
        "2",
    ]


def test_checkpoint_with_other_slot_counts_loads():
    sparse, _ = posteriors((5, 7), density=0.3)
    other, _ = posteriors((5, 7), density=0.6, seed=9)
    sparse.load_state_dict(other.state_dict())
    assert sparse.active == other.active
    assert torch.equal(sparse.index, other.index)
    assert torch.equal(sparse.mean, other.mean)
    assert sparse.mean.requires_grad
