"""Any module converted: which kernels are sparse, dense or deterministic, the report, and the costs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from methods.base import Context, Progress, Stage, Task
from methods.core import passes
from methods.core.streams import Streams
from methods.dense_vi import DenseVI
from methods.layers import convert, costs
from methods.layers.attention import separate
from methods.layers.inventory import kernels
from methods.layers.layer import VariationalLayer, sparse_layers
from methods.layers.parameter_report import report
from methods.ssvi import ADDITIONS, SSVI, SSVIOptions

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


class OwnForward(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class OwnConvolution(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return 2 * super()._conv_forward(x, weight, bias)


class Renamed(nn.Linear):
    """A subclass that computes what Linear does."""


class Zoo(nn.Module):
    """Images (N, 4, 6, 6): a layer of every kind."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.plain = nn.Conv2d(4, 4, 3, padding="same", dilation=2, bias=False)
        self.valid = nn.Conv2d(4, 4, 1, padding="valid")
        self.uneven = nn.Conv2d(4, 4, 2, padding="same")
        self.mirrored = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.own_convolution = OwnConvolution(4, 4, 1)
        self.up = nn.ConvTranspose2d(4, 2, 2)
        self.across = nn.Conv1d(2, 3, 3)
        self.deep = nn.Conv3d(1, 1, (1, 1, 1))
        self.embedding = nn.Embedding(5, 6)
        self.own = OwnForward(6, 6)
        self.renamed = Renamed(6, 6)
        self.shared = nn.Linear(6, 6)
        self.again = self.shared
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
        self.read = nn.Linear(6, 6)
        self.frozen, self.hooked = nn.Linear(6, 6).requires_grad_(False), nn.Linear(6, 6)
        self.hooked.register_forward_hook(lambda *_: None)
        self.classifier = nn.ModuleDict({"head": nn.Sequential(nn.Linear(6, 3))})

    def forward(self, x):
        x = self.valid(self.plain(self.first(x)))
        x = self.own_convolution(self.depthwise(self.mirrored(self.uneven(x))))
        x = self.up(x).mean(2)  # (N, 2, 7)
        x = self.deep(self.across(x)[:, None, :, None])[:, 0, :, 0].mean(1)  # (N, 5)
        x = x @ self.embedding.weight
        x = self.again(self.shared(self.renamed(self.own(x))))
        x = F.linear(self.normed(self.other(self.one(x))), self.read.weight)
        return self.classifier["head"](self.hooked(self.frozen(x)))


TASK = Task((4, 6, 6), 3, 100)
FATES = {
    "first": ("dense", "first convolution"),
    "plain": ("sparse", ""),
    "valid": ("sparse", ""),
    "uneven": ("sparse", ""),
    "mirrored": ("sparse", ""),
    "depthwise": ("dense", "grouped convolution"),
    "own_convolution": ("deterministic", "OwnConvolution has a forward of its own"),
    "up": ("sparse", ""),
    "across": ("sparse", ""),
    "deep": ("sparse", ""),
    "own": ("deterministic", "OwnForward has a forward of its own"),
    "renamed": ("sparse", ""),
    "shared": ("deterministic", "tied: used under several names"),
    "one": ("deterministic", "tied: used under several names"),
    "embedding": ("deterministic", "contracted by Embedding, which is not a layer that is converted"),
    "normed.parametrizations.weight.original1": (
        "deterministic",
        "the weight of a layer is computed from it",
    ),
    "read": ("deterministic", "its weight is read without calling the layer"),
    "frozen": ("deterministic", "frozen"),
    "hooked": ("deterministic", "it has hooks, which would be lost"),
    "classifier.head.0": ("sparse", ""),
}


def zoo():
    torch.manual_seed(0)
    network = Zoo()
    costs.trace(network, TASK.input_shape)
    return network


def active_by_hand(name, kind, size, sparsity=0.5):
    return size - int(sparsity * size) if kind == "sparse" else size


def test_every_kernel_has_its_kind_and_its_reason():
    module = SSVI(SSVIOptions(sparsity=0.5)).build(zoo(), Streams(0), TASK)
    rows = {row.name: row for row in report(module)}
    found = {name.removesuffix(".weight"): (r.kind, r.reason) for name, r in rows.items() if r.is_kernel}
    assert found == FATES
    for name, row in rows.items():
        assert row.active == active_by_hand(name, row.kind, row.size), name
    others = [row for row in rows.values() if not row.is_kernel]
    assert {(row.kind, row.reason) for row in others} == {("deterministic", "")}


def test_the_report_has_every_parameter_of_the_plain_network_once():
    plain = {name: p.shape for name, p in zoo().named_parameters()}
    for method in (SSVI(SSVIOptions(sparsity=0.5)), DenseVI()):
        rows = report(method.build(zoo(), Streams(0), TASK))
        assert {row.name: row.shape for row in rows} == plain
        assert len(rows) == len(plain)
    untouched = report(zoo())
    assert {row.name: row.shape for row in untouched} == plain
    assert {row.kind for row in untouched} == {"deterministic"}
    reasons = {row.name: row.reason for row in untouched if row.is_kernel}
    assert reasons["plain.weight"] == reasons["first.weight"] == "the method does not convert it"
    assert reasons["own.weight"] == "OwnForward has a forward of its own"


#: Kernels that methods convert only in networks whose option ``convert`` is ``all``.
ADDED_LATER = {
    "uneven": "uneven padding",
    "mirrored": "padding with mode 'reflect'",
    "up": "transposed convolution",
    "across": "1-D convolution",
    "deep": "3-D convolution",
}


def test_layers_of_kinds_that_came_later_can_stay_as_they_are():
    network = zoo()
    convert.keep_earlier(network)
    module = SSVI(SSVIOptions(sparsity=0.5)).build(network, Streams(0), TASK)
    found = {
        row.name.removesuffix(".weight"): (row.kind, row.reason) for row in report(module) if row.is_kernel
    }
    later = {
        k: ("deterministic", f"{why}: network.convert=all converts it") for k, why in ADDED_LATER.items()
    }
    assert found == FATES | later


def test_the_mean_of_the_converted_network_is_the_network():
    network, x = zoo().eval(), torch.randn(2, *TASK.input_shape)
    expected = network(x)
    module = DenseVI().build(network, Streams(0), TASK).eval()
    torch.testing.assert_close(module(x), expected)
    assert module.shared is module.again and module.one.weight is module.other.weight


def test_density_counts_every_kernel_once():
    plain = zoo()
    sizes = {k.name: k.shape.numel() for k in kernels(plain)}
    assert {name.removesuffix(".weight") for name in sizes} == FATES.keys()
    counts = costs.counts(plain)
    assert counts.kernel == counts.active == sum(sizes.values())
    assert counts.kernel + counts.other == sum(p.numel() for p in plain.parameters())
    module = SSVI(SSVIOptions(sparsity=0.5)).build(plain, Streams(0), TASK)
    active = sum(active_by_hand(n, FATES[n.removesuffix(".weight")][0], size) for n, size in sizes.items())
    assert (costs.counts(module).kernel, costs.counts(module).active) == (counts.kernel, active)


def test_uses_of_each_kernel_for_one_example():
    network = zoo()
    positions = {
        k.name.removesuffix(".weight"): sum(layer.output_positions for layer in k.layers)
        for k in kernels(network)
    }
    outside = ("embedding", "normed.parametrizations.weight.original1", "read")
    expected = dict.fromkeys(FATES, 1) | dict.fromkeys(outside, 0)
    expected |= dict.fromkeys(("first", "plain", "valid", "uneven", "mirrored", "depthwise"), 36)
    expected |= {"own_convolution": 36, "up": 36, "across": 5, "deep": 15, "shared": 2, "one": 2}
    assert positions == expected
    sizes = {k.name.removesuffix(".weight"): k.shape.numel() for k in kernels(network)}
    for kernel in kernels(network):
        name = kernel.name.removesuffix(".weight")
        assert kernel.outside == (sizes[name] if name in outside else 0)
    expected |= dict.fromkeys(outside, 1)
    assert costs.flops(network, "inference") == 2 * sum(expected[n] * sizes[n] for n in sizes)


def test_attention_that_was_not_separated_counts_too():
    whole = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    costs.trace(whole, (5, 8))
    inference = costs.flops(whole, "inference")
    kernel = costs.counts(whole).kernel
    assert kernel == 4 * 64 + 2 * 128
    assert inference == 2 * 5 * kernel
    separate(whole)
    costs.trace(whole, (5, 8))
    assert (costs.flops(whole, "inference"), costs.counts(whole).kernel) == (inference, kernel)


# -- a block that is used several times in one pass -------------------------------------------


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.block(x))
        return self.head(x)


def test_uses_of_a_repeated_block_are_summed():
    network = Recurrent()
    for _ in range(2):  # a second trace does not add to the first
        costs.trace(network, (6,))
        assert (network.block.output_positions, network.head.output_positions) == (3, 1)
    costs.trace(network, (6,), [network, network])
    assert network.block.output_positions == 3


def test_the_dense_gradient_of_a_repeated_block_is_the_sum_over_its_uses():
    torch.manual_seed(0)
    module = SSVI(SSVIOptions(sparsity=0.5)).build(Recurrent().double(), Streams(0), Task((6,), 3, 10))
    x, seen = torch.randn(4, 6, dtype=torch.float64), []
    with passes.dense_gradients(lambda layer, gradient: seen.append((layer, gradient.clone()))):
        module(x).square().sum().backward()
    assert [layer for layer, _ in seen] == [module.head, module.block]
    block, head = (
        layer.posterior.scatter(layer.posterior.mean.detach()).requires_grad_()
        for layer in (module.block, module.head)
    )
    y = x
    for _ in range(3):
        y = torch.tanh(F.linear(y, block, module.block.bias))
    F.linear(y, head, module.head.bias).square().sum().backward()
    torch.testing.assert_close(seen[0][1], head.grad)
    torch.testing.assert_close(seen[1][1], block.grad)


class Half(nn.Module):
    """A layer that is called twice, of which the loss sees one output."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        self.layer(2 * x)
        return self.layer(x)


def test_a_use_that_the_loss_does_not_see_holds_nothing_up():
    torch.manual_seed(0)
    module = SSVI(SSVIOptions(sparsity=0.5)).build(Half().double(), Streams(0), Task((6,), 3, 10))
    x, seen = torch.randn(4, 6, dtype=torch.float64), []
    with passes.dense_gradients(lambda layer, gradient: seen.append(gradient.clone())) as gradients:
        loss = module(x).square().sum()
    loss.backward()
    assert not seen  # as far as backward can tell, the other use may still come
    gradients.finish()
    weight = module.layer.posterior.scatter(module.layer.posterior.mean.detach()).requires_grad_()
    F.linear(x, weight, module.layer.bias).square().sum().backward()
    (found,) = seen
    torch.testing.assert_close(found, weight.grad)


class Detour(nn.Module):
    """A layer whose output is used in no loss: backward never reaches it."""

    def __init__(self):
        super().__init__()
        self.main, self.aside = nn.Linear(6, 3), nn.Linear(6, 40)

    def forward(self, x):
        self.aside(x)
        return self.main(x)


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("addition", ADDITIONS)
def test_a_layer_without_a_gradient_does_not_stop_an_update(addition, allocation):
    task = Task((6,), 3, 10)
    method = SSVI(
        SSVIOptions(
            sparsity=0.5, replace_every=1, replace_fraction=1.0, addition=addition, allocation=allocation
        )
    )
    streams, module = Streams(0), method.build(Detour(), Streams(0), task)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    progress = Progress("train", 1, 1, 0, 10, 10, streams["noise"])
    context = Context(module, optimiser, streams, task, progress, {}, lambda table, row: None)
    method.enter_stage(context, Stage("train", 1))
    total = sum(posterior.active for *_, posterior in sparse_layers(module))
    batch = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
    for step in range(1, 8):
        context.begin_step(batch, step)
        method.before_step(context)
        with passes.dense_gradients(context.gradient_consumer):
            loss = method.loss(module, batch, progress)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(context)
        assert sum(posterior.active for *_, posterior in sparse_layers(module)) == total


# -- torchvision ------------------------------------------------------------------------------

SIZES = {"resnet18": 32, "vgg11_bn": 32, "mobilenet_v3_small": 32, "convnext_tiny": 32, "vit_b_16": 32}
#: What is not sparse there besides the first convolution.
GROUPED = {"mobilenet_v3_small": 11, "convnext_tiny": 18}


def classifier(name):
    torch.manual_seed(0)
    extra = {"image_size": 32} if name.startswith("vit") else {}
    return models.get_model(name, weights=None, num_classes=10, **extra)


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11_bn", "vit_b_16", "convnext_tiny"])
def test_large_networks_of_torchvision(name):
    check_torchvision(name)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_small_networks_of_torchvision(name):
    check_torchvision(name)


def check_torchvision(name):
    task = Task((3, SIZES[name], SIZES[name]), 10, 100)
    network = classifier(name).eval()
    images = torch.randn(4, *task.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    plain = {n: p.numel() for n, p in network.named_parameters()}
    kernel = costs.counts(network).kernel
    for method in (SSVI(SSVIOptions(sparsity=0.9)), DenseVI()):
        module = method.build(classifier(name), Streams(0), task)
        rows = report(module)
        assert len({row.name for row in rows}) == len(rows)
        assert sum(row.size for row in rows) == sum(plain.values())
        assert {row.name: row.size for row in rows if row.name in plain}.items() <= plain.items()
        apart = {row.name.rpartition(".")[0] for row in rows if row.name not in plain}
        assert {part.rpartition(".")[2] for part in apart} <= {"query", "key", "value", "out"}
        counts = costs.counts(module)
        assert counts.kernel == kernel == sum(row.size for row in rows if row.is_kernel)
        assert counts.active == sum(row.active for row in rows if row.is_kernel)
        kinds = [(row.kind, row.reason) for row in rows if row.is_kernel]
        if isinstance(method, SSVI):
            assert kinds.count(("dense", "first convolution")) == 1
            assert kinds.count(("dense", "grouped convolution")) == GROUPED.get(name, 0)
            assert kinds.count(("sparse", "")) == len(kinds) - 1 - GROUPED.get(name, 0)
            assert all(r.active == r.size - int(0.9 * r.size + 1e-9) for r in rows if r.kind == "sparse")
        else:
            assert {kind for kind, _ in kinds} == {"dense"}
            with torch.no_grad():
                torch.testing.assert_close(module.eval()(images), expected)
        costs.trace(module, task.input_shape)
        assert all(layer.output_positions > 0 for k in kernels(module) for layer in k.layers)
        assert all(layer.is_called for k in kernels(module) for layer in k.layers)
        progress = Progress("train", 1, 1, 0, 10, 100, torch.Generator().manual_seed(0))
        loss = method.loss(module.train(), (images, torch.tensor([0, 1, 2, 3])), progress)
        loss.backward()
        assert loss.isfinite()
        for parameter_name, parameter in module.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name


def test_conversion_of_a_single_layer_and_of_nested_containers():
    assert isinstance(DenseVI().build(nn.Linear(4, 3), Streams(0), Task((4,), 3, 10)), VariationalLayer)
    nested = nn.ModuleDict({"a": nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ModuleDict())])})
    assert list(convert.sparsifiable(nested)) == ["a.0.0"]
    assert isinstance(DenseVI().build(nested, Streams(0), Task((4,), 3, 10))["a"][0][0], VariationalLayer)
