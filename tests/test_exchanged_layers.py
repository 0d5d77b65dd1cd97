"""What a layer keeps when a method exchanges it: its bias as it was, and all that code may read of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from methods.base import METHODS, Progress, Task
from methods.core import passes
from methods.core.streams import Streams
from methods.layers import costs
from methods.layers.attention import Attention, separate
from methods.layers.layer import VariationalLayer
from methods.layers.parameter_report import report
from methods.mc_dropout import Dropout

TASK = Task((6,), 3, 50)
OPTIONS = {"ssvi": {"sparsity": 0.5}, "rigl": {"sparsity": 0.5}, "dense_vi": {}, "mc_dropout": {"rate": 0.2}}


class Net(nn.Module):
    """One hidden layer, made by ``make``."""

    def __init__(self, make=nn.Linear):
        super().__init__()
        self.hidden, self.norm, self.head = make(6, 6), nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.hidden(x))))


def converted(network, name="ssvi"):
    chosen = METHODS.get(name)
    costs.trace(network, TASK.input_shape)
    return chosen(chosen.Options(**OPTIONS[name])).build(network, Streams(0), TASK)


def trained(module, name="ssvi", steps=3):
    chosen = METHODS.get(name)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5, weight_decay=0.1)
    for step in range(steps):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        progress = Progress("train", 1, 1, step, steps, 50, torch.Generator().manual_seed(step))
        loss = chosen(chosen.Options(**OPTIONS[name])).loss(module, (x, torch.arange(8) % 3), progress)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module


@pytest.mark.parametrize("name", OPTIONS)
def test_a_frozen_bias_stays_as_it_is(name):
    network = Net()
    network.hidden.bias.requires_grad_(False)
    before = network.hidden.bias.clone()
    module = trained(converted(network, name), name)
    assert torch.equal(module.hidden.bias, before)
    assert not torch.equal(module.head.bias, torch.zeros(3))


def test_a_bias_keeps_its_hooks_and_what_was_set_on_it():
    network = Net()
    bias = network.hidden.bias
    bias.no_decay = True
    module = converted(network)
    assert isinstance(module.hidden, VariationalLayer)
    assert module.hidden.bias is bias and bias.no_decay


class Positive(nn.Module):
    def forward(self, x):
        return x.abs() + 0.1


def parametrised(layer):
    parametrize.register_parametrization(layer, "bias", Positive())
    return layer


def buffered(layer):
    bias = layer.bias.detach().clone()
    del layer.bias
    layer.register_buffer("bias", bias)
    return layer


def hooked(tensor):
    def make(layer):
        getattr(layer, tensor).register_hook(lambda gradient: 0 * gradient)
        return layer

    return make


def hooked_state(layer):
    layer.register_state_dict_post_hook(lambda *_: None)
    return layer


class WithState(nn.Linear):
    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        pass


class OwnCall(nn.Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


COMPUTED = "its {} is not a parameter, or is computed from others"
LOST = "its {} has hooks, which would be lost"
LEFT = {
    "parametrised bias": (lambda: parametrised(nn.Linear(6, 6)), COMPUTED.format("bias")),
    "orthogonal weight": (lambda: parametrizations.orthogonal(nn.Linear(6, 6)), None),
    "a bias that is a buffer": (lambda: buffered(nn.Linear(6, 6)), COMPUTED.format("bias")),
    "hook of the weight": (lambda: hooked("weight")(nn.Linear(6, 6)), LOST.format("weight")),
    "hook of the bias": (lambda: hooked("bias")(nn.Linear(6, 6)), LOST.format("bias")),
    "hook of the state": (lambda: hooked_state(nn.Linear(6, 6)), "it has hooks, which would be lost"),
    "extra state": (lambda: WithState(6, 6), "WithState has a state or call of its own, which would be lost"),
    "own call": (lambda: OwnCall(6, 6), "OwnCall has a state or call of its own, which would be lost"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kind", LEFT)
def test_a_layer_that_would_lose_something_stays_and_the_report_says_why(kind, name):
    make, reason = LEFT[kind]
    network = Net(lambda *_: make())
    layer, x = network.hidden, torch.randn(4, 6)
    expected = copy.deepcopy(network)(x)
    module = converted(network, name)
    assert module.hidden is layer
    with passes.mean():
        if name != "ssvi" and name != "rigl":  # the head of these is sparse
            torch.testing.assert_close(module(x), expected)
    rows = {row.name: row for row in report(module)}
    if reason is not None:
        assert (rows["hidden.weight"].kind, rows["hidden.weight"].reason) == ("deterministic", reason)
    trained(module, name)


def test_a_parametrised_bias_obeys_after_training():
    module = trained(converted(Net(lambda *_: parametrised(nn.Linear(6, 6)))))
    assert (module.hidden.bias >= 0.1).all()


def test_biases_that_share_memory_are_tied():
    network = Net()
    network.hidden.bias = nn.Parameter(network.norm.bias.data)
    module = trained(converted(network))
    reasons = {row.name: row.reason for row in report(module)}
    assert reasons["hidden.weight"] == "tied: used under several names"
    assert module.hidden.bias.data_ptr() == module.norm.bias.data_ptr()


def test_neighbours_in_one_tensor_are_not_tied():
    network, whole = Net(), torch.randn(12)
    network.hidden.bias, network.norm.bias = nn.Parameter(whole[:6]), nn.Parameter(whole[6:])
    assert isinstance(converted(network).hidden, VariationalLayer)


class Curious(nn.Module):
    """Code that reads the layers that it calls."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4 * 4, 3)
        self.head.scale = 0.5
        self.head.register_buffer("shift", torch.tensor(2.0))
        self.head.gain = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        x = x.to(self.convolution.weight.dtype).unflatten(-1, (self.convolution.in_channels, -1, 3))
        x = torch.relu(self.again(torch.relu(self.convolution(x))))
        x = nn.functional.adaptive_avg_pool2d(x, 2).reshape(-1, self.head.in_features)
        return self.head(x) * self.head.scale * self.head.gain + self.head.shift


@pytest.mark.parametrize("name", OPTIONS)
def test_code_that_reads_an_exchanged_layer_runs(name):
    plain, x = Curious(), torch.randn(5, 12)
    module = copy.deepcopy(plain)
    costs.trace(module, (12,))
    chosen = METHODS.get(name)
    module = chosen(chosen.Options(**OPTIONS[name])).build(module, Streams(0), Task((12,), 3, 50))
    assert module(x).shape == (5, 3)
    for layer, like in ((module.again, plain.again), (module.head, plain.head)):
        assert isinstance(layer, VariationalLayer | Dropout)
        attributes = [attribute for attribute in vars(like) if not attribute.startswith("_")]
        assert {"in_channels", "kernel_size", "stride", "groups"} <= {
            *attributes
        } or "in_features" in attributes
        for attribute in attributes:
            assert getattr(layer, attribute) == getattr(like, attribute), attribute
        assert (layer.weight.shape, layer.weight.dtype) == (like.weight.shape, like.weight.dtype)
        assert torch.equal(layer.bias, like.bias)
    with pytest.raises(
        AttributeError, match=rf"^'{type(module.head).__name__}' object has no attribute 'sigma'"
    ):
        module.head.sigma  # noqa: B018
    assert module.head.gain.requires_grad and module.head.shift == 2
    again = copy.deepcopy(module)
    assert torch.equal(again.head.weight, module.head.weight)
    again.load_state_dict(module.state_dict())


@pytest.mark.parametrize("name", ["ssvi", "dense_vi", "rigl"])
def test_the_weight_is_that_of_the_pass_and_differentiable(name):
    layer = converted(Net(), name).hidden
    x = torch.randn(3, 6)
    torch.testing.assert_close(nn.functional.linear(x, layer.weight, layer.bias), layer(x))
    with passes.weights({layer: layer.sample_weights(torch.Generator().manual_seed(0))}):
        torch.testing.assert_close(nn.functional.linear(x, layer.weight, layer.bias), layer(x))
    nn.functional.linear(x, layer.weight).square().sum().backward()
    by_reading = layer.posterior.mean.grad.clone()
    layer.posterior.mean.grad = None
    (layer(x) - layer.bias).square().sum().backward()
    torch.testing.assert_close(layer.posterior.mean.grad, by_reading)
    before = layer(x)
    with torch.no_grad():
        layer.weight.zero_()
    assert torch.equal(layer(x), before)
    with pytest.raises((AttributeError, KeyError)):
        layer.weight = nn.Parameter(torch.zeros(6, 6))


def test_attention_keeps_its_numbers_and_stays_where_it_would_lose_something():
    whole = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    attention = separate(copy.deepcopy(whole))[0].self_attn
    assert isinstance(attention, Attention)
    assert (attention.embed_dim, attention.num_heads, attention.head_dim) == (8, 2, 4)
    assert {name for name, _ in attention.named_children()} == {"query", "key", "value", "out"}
    parametrize.register_parametrization(whole[0].self_attn, "in_proj_bias", Positive())
    assert isinstance(separate(whole)[0].self_attn, nn.MultiheadAttention)
