"""LSTM and GRU in layers: equal to torch's, one weight sample a sequence, costs, and what stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.dense_vi import DenseVI
from methods.kernels.library import absent
from methods.layers import costs, execution
from methods.layers.layer import variational_layers
from methods.layers.parameter_report import report
from methods.layers.recurrent import GATES, Recurrent, unroll
from methods.mc_dropout import Dropout, MCDropout
from methods.ssvi import SSVI, SSVIOptions
from tests import toys

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")

KINDS = [nn.LSTM, nn.GRU]
SETTINGS = {
    "one": {},
    "deep": {"num_layers": 3, "dropout": 0.3},
    "both ways": {"num_layers": 2, "bidirectional": True},
    "batch first": {"batch_first": True, "bidirectional": True},
    "no bias": {"bias": False, "num_layers": 2},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_compute_what_torch_computes(kind, settings):
    torch.manual_seed(0)
    original = kind(5, 4, **SETTINGS[settings]).double().eval()
    unrolled = Recurrent(original)
    for x in (torch.randn(3, 6, 5).double(), torch.randn(6, 5).double()):
        expected = original(x)
        torch.testing.assert_close(unrolled(x), expected)
        state = expected[1]
        first = tuple(map(torch.randn_like, state)) if kind is nn.LSTM else torch.randn_like(state)
        torch.testing.assert_close(unrolled(x, first), original(x, first))
    assert sum(p.numel() for p in unrolled.parameters()) == sum(p.numel() for p in original.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_lies_between_layers_only(kind):
    torch.manual_seed(0)
    x = torch.randn(6, 3, 5)
    deep, single = Recurrent(kind(5, 4, 2, dropout=0.5)), Recurrent(kind(5, 4))
    assert not torch.equal(deep(x)[0], deep(x)[0])
    assert torch.equal(deep.eval()(x)[0], deep(x)[0])
    assert torch.equal(single(x)[0], single(x)[0])


def converted(kind, sparsity, **settings):
    """A recurrent network and its variational twin: sparse, or dense if ``sparsity`` is None."""
    torch.manual_seed(0)
    original = kind(5, 4, **settings).double()
    method = DenseVI() if sparsity is None else SSVI(SSVIOptions(sparsity=sparsity))
    module = nn.Sequential(original)
    return original, method.build(module, Streams(0), Task((6, 5), 4, 10))[0]


def stacked(module, original, values):
    """The state of ``original`` with the weights ``values`` of each gate's layer."""
    state = dict(original.named_parameters())
    for name in [name for name in state if name.startswith("weight")]:
        _, kind, suffix = name.split("_", 2)
        layers = getattr(module.get_submodule(suffix), {"ih": "input", "hh": "hidden"}[kind])
        full = [
            layer.posterior.scatter(values[layer]) if hasattr(layer.posterior, "index") else values[layer]
            for layer in layers.values()
        ]
        state[name] = torch.cat(full)
        if original.bias:
            state[name.replace("weight", "bias")] = torch.cat([layer.bias for layer in layers.values()])
    return state


@pytest.mark.parametrize("sparsity", [None, 0.5], ids=["dense", "sparse"])
@pytest.mark.parametrize("which", ["mean", "fixed", "noise"])
@pytest.mark.parametrize("settings", ["one", "both ways", "no bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_is_torchs_network_with_one_set_of_weights(kind, settings, which, sparsity):
    """The gradients of inputs, means, scales and biases are those of autograd through ``nn.LSTM``."""
    original, module = converted(kind, sparsity, **SETTINGS[settings])
    layers = variational_layers(module)
    assert len(layers) == len(GATES[kind]) * 2 * sum(
        name.startswith("weight_ih") for name in original._parameters
    )
    x = torch.randn(6, 3, 5, generator=generator(1), dtype=torch.float64, requires_grad=True)
    values = {layer: layer.posterior.mean for layer in layers}
    if which == "noise":
        noise = generator(2)
        for layer in layers:
            drawn = torch.randn(layer.posterior.mean.shape, generator=noise, dtype=torch.float64)
            values[layer] = layer.posterior.mean + layer.posterior.variance.sqrt() * drawn
        with passes.local_noise(generator(2)):
            out, last = module(x)
    elif which == "fixed":
        values = {layer: layer.sample_weights(generator(3)) for layer in layers}
        with passes.weights(values):
            out, last = module(x)
    else:
        out, last = module(x)
    expected, expected_last = functional_call(original, stacked(module, original, values), (x,))
    torch.testing.assert_close((out, last), (expected, expected_last))
    tensors = [x, *module.parameters()]
    target = torch.randn(out.shape, generator=generator(4), dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((o * target).sum(), tensors, allow_unused=True) for o in (out, expected)
    )
    zeros = [torch.zeros_like(t) for t in tensors]
    for a, b, zero in zip(found, wanted, zeros, strict=True):
        torch.testing.assert_close(zero if a is None else a, zero if b is None else b)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_every_mean_is_the_sum_over_time(kind):
    original, module = converted(kind, 0.5)
    x = torch.randn(6, 3, 5, dtype=torch.float64)
    seen = {}
    with passes.dense_gradients(lambda layer, gradient: seen.setdefault(layer, gradient.clone())):
        module(x)[0].square().sum().backward()
    layers = variational_layers(module)
    full = {
        layer: layer.posterior.scatter(layer.posterior.mean.detach()).requires_grad_() for layer in layers
    }
    slots = {layer: layer.posterior.gather(full[layer]) for layer in layers}
    state = stacked(module, original, slots)
    for name in [name for name in state if name.startswith("weight")]:
        _, part, suffix = name.split("_", 2)
        gates = getattr(module.get_submodule(suffix), {"ih": "input", "hh": "hidden"}[part])
        state[name] = torch.cat([full[layer] for layer in gates.values()])
    functional_call(original, state, (x,))[0].square().sum().backward()
    for layer in layers:
        torch.testing.assert_close(seen[layer], full[layer].grad)


@pytest.mark.skipif(absent() is not None, reason="no sparse kernels here")
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_compute_what_torch_computes(kind):
    """The weights of a noisy pass are drawn by torch in both cases, so both have the same noise."""
    torch.manual_seed(0)
    task, network = Task((6, 5), 4, 10), nn.Sequential(kind(5, 4, 2, batch_first=True))
    module = SSVI(SSVIOptions(sparsity=0.5)).build(network, Streams(0), task)
    costs.trace(module, task.input_shape)
    results, x = [], torch.randn(3, 6, 5, generator=generator(1))
    for how in ("dense", "sparse"):
        execution.choose(module, how, task.input_shape, 3)
        seen = []
        with (
            passes.local_noise(generator(2)),
            passes.dense_gradients(lambda layer, gradient, seen=seen: seen.append(gradient.clone())),
        ):
            out, _ = module(x)
        gradients = torch.autograd.grad(out.square().sum(), list(module.parameters()), allow_unused=True)
        results.append([out.detach(), module(x)[0].detach(), *(g for g in gradients if g is not None), *seen])
    assert execution.summary(module) == "sparse"
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_of_torchs_network_and_a_noisy_pass_contracts_once(kind):
    network = nn.Sequential(kind(5, 4, 2, batch_first=True, bidirectional=True))
    task = Task((6, 5), 4, 10)
    costs.trace(network, (6, 5), [lambda x: network(x)[0]])
    inference, kernel = costs.flops(network, "inference"), costs.counts(network).kernel
    assert inference == 2 * 6 * kernel
    dense = DenseVI().build(network, Streams(0), task)
    costs.trace(dense, (6, 5), [lambda x: dense(x)[0]])
    assert costs.flops(dense, "inference") == inference
    assert costs.flops(dense, "step") == 3 * inference
    assert costs.counts(dense).kernel == kernel
    assert {row.kind for row in report(dense) if row.is_kernel} == {"dense"}
    sparse = SSVI(SSVIOptions(sparsity=0.5)).build(
        nn.Sequential(kind(5, 4, batch_first=True)), Streams(0), task
    )
    costs.trace(sparse, (6, 5))
    active = costs.counts(sparse).active
    assert costs.flops(sparse, "inference") == 2 * 6 * active
    assert costs.flops(sparse, "step") == 3 * 2 * 6 * active


def test_monte_carlo_dropout_has_one_mask_for_each_example_at_all_time_steps():
    """Gal & Ghahramani 2016: inputs that are equal at all times stay so after dropout."""
    network = nn.Sequential(
        nn.GRU(5, 4, batch_first=True),
    )
    method = MCDropout(MCDropout.Options(rate=0.5, input_rate=0.5))
    module = method.build(unroll(network), Streams(0), Task((6, 5), 4, 10))
    parts = [part for part in module.modules() if isinstance(part, Dropout)]
    assert len(parts) == 6
    seen = {part: [] for part in parts}
    for part in parts:
        part.layer.register_forward_pre_hook(lambda _, inputs, part=part: seen[part].append(inputs[0] != 0))
    with passes.local_noise(generator()):
        module(torch.ones(3, 6, 5))
    for part in parts:
        steps = torch.cat([dropped.reshape(-1, 3, dropped.shape[-1]) for dropped in seen[part]])[-5:]
        assert (steps == steps[0]).all()  # hidden states are 0 before the first step
    assert not torch.equal(seen[parts[0]][0][0, 0], seen[parts[0]][0][0, 1])  # each example has its own


class Two(nn.Module):
    """Two names for one network, or a setting that is not supported."""

    def __init__(self, rnn, again=None):
        super().__init__()
        self.rnn, self.again, self.head = rnn, again, nn.Linear(rnn.hidden_size, 3)

    def forward(self, x):
        hidden = self.rnn(x)[0]
        return self.head(torch.zeros(len(x), self.rnn.hidden_size) + hidden.mean())


class Own(nn.GRU):
    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


def hooked():
    rnn = nn.GRU(5, 4)
    rnn.register_forward_hook(lambda *_: None)
    return rnn


def shared():
    rnn = nn.GRU(5, 4)
    return Two(rnn, rnn)


STAYS = {
    "LSTM with proj_size": lambda: Two(nn.LSTM(5, 4, proj_size=2)),
    "frozen": lambda: Two(nn.LSTM(5, 4).requires_grad_(False)),
    "it has hooks, which would be lost": lambda: Two(hooked()),
    "Own has a forward of its own": lambda: Two(Own(5, 4)),
    "RNN is not LSTM or GRU": lambda: Two(nn.RNN(5, 4)),
    "tied: used under several names": shared,
}


@pytest.mark.parametrize("reason", STAYS)
def test_what_cannot_be_converted_stays_and_says_why(reason):
    torch.manual_seed(0)
    network, x = STAYS[reason](), torch.randn(2, 6, 5)
    costs.trace(network, (6, 5))
    expected = network(x)
    module = DenseVI().build(network, Streams(0), Task((6, 5), 3, 10))
    torch.testing.assert_close(module(x), expected)
    rows = {row.name: row for row in report(module) if row.is_kernel}
    assert rows["head.weight"].kind == "dense"
    found = {(row.kind, row.reason) for name, row in rows.items() if name.startswith("rnn.")}
    assert found == {("deterministic", reason)}


def test_packed_sequences_are_refused_in_a_line():
    packed = nn.utils.rnn.pack_sequence([torch.zeros(3, 5), torch.zeros(2, 5)])
    with pytest.raises(UserError, match="not a PackedSequence"):
        Recurrent(nn.GRU(5, 4))(packed)


@pytest.mark.parametrize(
    "method",
    ["dense_vi", "sparse_vd", "lbbnn", "rigl", "magnitude_vi", "mc_dropout", "ensemble", "lottery_ticket"],
)
def test_every_method_trains_a_recurrent_network(method, tmp_path):
    chosen = {"dataset": "digits", "network": "toy_kinds", "body": "gru", "convert": "all", "method": method}
    if method == "lottery_ticket":
        chosen["level_share"] = 0.5
    run = parse_spec(nest(chosen | {"epochs": 3, "batch_size": 256, "samples": 2, "max_steps": 12}))
    assert execute(run, Store(tmp_path / "results", create=True), Execution()) == "done"


def test_a_network_that_reads_the_weights_of_an_lstm_says_so_in_a_line():
    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 10)

        def forward(self, x):
            return self.head(self.rnn(x[:, 0])[0][:, -1] + self.rnn.weight_hh_l0.sum())

    class Reads(toys.Kinds):
        def build(self, task):
            return Reading()

    network = Reads(toys.KindsOptions(convert="all"))
    with pytest.raises(UserError, match=r"reads an attribute that a converted LSTM .* network.convert=basic"):
        network.initialised(Task((1, 8, 8), 10, 100), Streams(0))
    basic = Reads().initialised(Task((1, 8, 8), 10, 100), Streams(0))
    assert isinstance(basic.rnn, nn.LSTM)
