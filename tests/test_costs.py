"""What runs are said to cost: FLOPs beside torch's own counter, and the published figures of ResNet-18."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS
from bench.results.store import Store
from bench.runner.costs import reference
from bench.runner.execute import execute
from methods.base import METHODS, Context, Progress, Task
from methods.core import passes
from methods.core.options import parse
from methods.core.streams import Streams
from methods.layers import costs
from methods.layers.inventory import kernels
from methods.layers.layer import sparse_layers
from methods.layers.parameter_report import report
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
    assert noisy == costs.flops(module, "noisy_pass") - 2 * first
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


def test_a_window_costs_a_dense_gradient_in_each_of_its_minibatches(tmp_path):
    """By hand: 1,097 examples in 18 minibatches of 64 at most; updates at steps 5 and 10, before 13."""
    chosen = {
        "dataset": "digits", "network": "mlp", "network.hidden": [10], "method": "ssvi", "sparsity": 0.9,
        "replace_every": 5, "addition": "grad_accumulated", "addition_minibatches": 3, "epochs": 1,
        "samples": 1,
    }  # fmt: skip
    run = parse_spec(nest(chosen))
    store = Store(tmp_path, create=True)
    assert execute(run, store, Execution()) == "done"
    active, size = (640 - 576) + (100 - 90), 740
    # a step contracts means and variances three times: forward, and backward for inputs and weights
    step, dense_gradient = 2 * 3 * 2 * active, 2 * (size - active)
    found = store.run(run.run_id).read("costs")
    assert found["events"] == {"step": 18, "dense_gradient": 6}
    assert found["train_flops"] == 1097 * step + 6 * 64 * dense_gradient


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


# -- contractions without a call of their layer ----------------------------------------------------


class Calls(nn.Module):
    """Images (N, 4, 7, 7), a convolution and a head; ``by`` says how weights meet activations."""

    def __init__(self, by):
        super().__init__()
        self.conv, self.head, self.by = nn.Conv2d(4, 16, 3, padding=1), nn.Linear(16, 10), by

    def forward(self, x):
        conv, head = self.conv, self.head
        if self.by == "call":
            return head(conv(x).mean((2, 3)))
        if self.by == "forward":
            return head.forward(conv.forward(x).mean((2, 3)))
        x = F.conv2d(x, conv.weight, conv.bias, padding=1).mean((2, 3))
        weight = head.weight
        return {
            "linear": lambda: F.linear(x, weight, head.bias),
            "keyword": lambda: F.linear(input=x, weight=weight),
            "matmul": lambda: x @ weight.t() + head.bias,
            "addmm": lambda: torch.addmm(head.bias, x, weight.t()),
            "mv": lambda: torch.stack([torch.mv(weight, row) for row in x]),
            "bmm": lambda: torch.bmm(x[:, None], weight.t().expand(len(x), -1, -1))[:, 0],
            "einsum": lambda: torch.einsum("ni,oi->no", x, weight),
            "tensordot": lambda: torch.tensordot(x, weight, ([1], [1])),
            "masked": lambda: x @ (weight * (weight.abs() > 0.01)).t(),
            "copied": lambda: x @ weight.t().contiguous().clone(),
            "parts": lambda: torch.cat([x @ weight[:3].t(), x @ weight[3:].t()], 1),
            "conv1d": lambda: F.conv1d(x[..., None], weight[..., None])[..., 0],
        }[self.by]()


WAYS = ("forward", "linear", "keyword", "matmul", "addmm", "mv", "bmm", "einsum", "tensordot", "masked",
        "copied", "parts", "conv1d")  # fmt: skip


@pytest.mark.parametrize("by", WAYS)
def test_a_contraction_costs_the_same_however_it_is_written(by):
    called, other = Calls("call"), Calls(by)
    for network in (called, other):
        costs.trace(network, (4, 7, 7))
    assert costs.flops(called, "inference") == 2 * (49 * 16 * 4 * 9 + 160)
    for event in ("inference", "step", "dense_gradient", "noisy_pass", "mean_pass"):
        assert costs.flops(other, event) == costs.flops(called, event)
    assert costs.counts(other) == costs.counts(called)
    assert costs.largest_output(other) == costs.largest_output(called) == 16 * 49
    reasons = {row.name: row.reason for row in report(other) if row.is_kernel}
    assert set(reasons.values()) == {"its weight is read without calling the layer"}


def test_weights_that_are_read_cost_one_contraction_in_a_variational_network():
    """They stay deterministic: a step contracts them once forward and twice backward."""
    network = nn.Sequential(Calls("matmul"), nn.Linear(10, 6))
    costs.trace(network, (4, 7, 7))
    method = METHODS.get("ssvi")
    module = method(parse(method.Options, {"sparsity": 0.5})).build(
        network, Streams(0), Task((4, 7, 7), 6, 9)
    )
    costs.trace(module, (4, 7, 7))
    read = 49 * 16 * 4 * 9 + 160
    assert costs.flops(module, "inference") == 2 * (read + 30)
    assert costs.flops(module, "step") == 2 * 3 * (read + 2 * 30)
    assert costs.flops(module, "dense_gradient") == 2 * 30
    assert costs.flops(module, "mean_pass") == 2 * (3 * (read + 30) + 30)
    counts = costs.counts(module)
    assert (counts.kernel, counts.active) == (16 * 4 * 9 + 160 + 60, 16 * 4 * 9 + 160 + 30)


class Sequences(nn.Module):
    """Sequences (N, 5, 6): modules of torch that contract weights of their own, and bare parameters."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 4, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 3, batch_first=True)
        self.rnn = nn.RNN(3, 3, batch_first=True)
        self.cell = nn.LSTMCell(3, 2)
        self.bilinear = nn.Bilinear(2, 3, 4)
        self.left, self.right = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 7))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(7, 3))
        self.register_buffer("fixed", torch.randn(3, 3))
        self.table = nn.Embedding(5, 3)
        self.query = nn.Linear(3, 3)

    def forward(self, x):
        x = self.rnn(self.gru(self.lstm(x)[0])[0])[0]
        x = x + (self.query(x) @ x.transpose(1, 2)).softmax(-1) @ x  # activations: not counted
        x = x @ self.fixed + self.table.weight  # neither contracts a weight
        hidden, _ = self.cell(x[:, -1])
        return self.normed(self.bilinear(hidden, x[:, 0]) @ (self.left @ self.right))


@pytest.mark.parametrize("inference", [False, True])
def test_modules_and_parameters_without_a_kernel_layer_are_counted(inference):
    network = Sequences()
    with torch.inference_mode(inference):
        costs.trace(network, (5, 6))
    first, second = 4 * 4 * (6 + 4), 4 * 4 * (8 + 4)
    uses = {
        "lstm": 5 * 2 * (first + second), "gru": 5 * 3 * 3 * (8 + 3), "rnn": 5 * 3 * (3 + 3),
        "cell": 4 * 2 * (3 + 2), "bilinear": 24, "left": 0, "right": 28, "normed": 21, "query": 0,
    }  # fmt: skip
    found = dict.fromkeys(uses, 0)
    for kernel in kernels(network):
        found[kernel.name.partition(".")[0]] += kernel.outside
    assert found == uses
    assert costs.flops(network, "inference") == 2 * (sum(uses.values()) + 5 * 9)
    assert costs.flops(network, "step") == 3 * costs.flops(network, "inference")
    weights = 2 * (first + second) + 3 * 3 * 11 + 18 + 40 + 24 + 8 + 14 + 21 + 9
    assert costs.counts(network).kernel == weights


def test_the_memory_of_an_activation_that_was_freed_does_not_make_a_weight_one():
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            for _ in range(50):
                (x + 1).sum()  # freed at once: its memory is used again
                x = x @ (2 * self.weight)
            return x

    network = Many()
    costs.trace(network, (6,))
    assert costs.flops(network, "inference") == 50 * 2 * 36


def test_a_layer_that_is_called_and_read_stays_as_it_is():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(F.linear(self.layer(x), self.layer.weight))

    network = Both()
    costs.trace(network, (6,))
    x = torch.randn(2, 6)
    expected = network(x)
    module = METHODS.get("dense_vi")().build(network, Streams(0), Task((6,), 3, 9))
    torch.testing.assert_close(module(x), expected)
    costs.trace(module, (6,))
    assert costs.flops(module, "inference") == 2 * (2 * 36 + 18)
    reasons = {
        row.name: row.reason for row in report(module) if row.kind == "deterministic" and row.is_kernel
    }
    assert reasons == {"layer.weight": "its weight is also read without calling the layer"}


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
