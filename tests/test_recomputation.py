"""Networks that checkpoint activations get the gradients, updates and results of networks that do not."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import checkpoint as torch_checkpoint
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.networks.base import NETWORKS, Network
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import METHODS, Progress, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.options import option
from methods.core.streams import Streams
from methods.layers import costs, execution
from methods.layers.layer import sparse_layers
from methods.ssvi import SSVI, SSVIOptions

VARIANTS = ("reentrant", "hooks")
HOW = ("none", *VARIANTS)


class Checkpointed(nn.Module):
    """Images (N, 2, 8, 8): segments that share a layer, and one within another."""

    def __init__(self, how: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.shared, self.own = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.hidden, self.classifier = nn.Linear(128, 24), nn.Linear(24, 4)

    def segment(self, function, *args):
        if self.how == "none":
            return function(*args)
        return checkpoint(function, *args, use_reentrant=self.how == "reentrant")

    def block(self, x):
        return F.max_pool2d(torch.relu(self.own(torch.relu(self.shared(x)))) + x, 2)

    def outer(self, x):
        return self.segment(self.block, self.dropout(torch.relu(self.shared(x))))

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.segment(self.block, x)
        x = self.segment(self.outer, x).flatten(1).repeat(1, 4)
        return self.classifier(self.segment(nn.Sequential(self.hidden, nn.ReLU()), x))


TASK = Task((2, 8, 8), 4, examples=100)
SPARSE = {"sparsity": 0.8}
TRAINED = {
    "deterministic": {},
    "dense_vi": {},
    "dense_vi exp": {"scale_map": "exp", "variance_floor": 1e-8},
    "static_vi": SPARSE,
    "ssvi": SPARSE,
    "rigl": SPARSE,
    "magnitude_vi": SPARSE,
    "snr_vi": SPARSE,
    "lottery_ticket": SPARSE,
    "sparse_vd": {},
    "lbbnn": {},
    "mc_dropout": {"rate": 0.3},
    "ensemble": {"members": 2},
}


def built(name, how, mode):
    """The module of a method on the network, prepared as for a run; and the method."""
    chosen = METHODS.get(name.partition(" ")[0])
    method = chosen(chosen.Options(**TRAINED[name]))
    torch.manual_seed(0)
    dropout = 0.2 if mode == "dense" else 0.0  # kernels arrange activations otherwise, and so their masks
    network = Checkpointed(how, dropout)
    if method.members() > 1:
        network = nn.ModuleList([network, Checkpointed(how, dropout)])
    module = method.build(network, Streams(0), TASK)
    costs.trace(module[0] if isinstance(network, nn.ModuleList) else module, TASK.input_shape)
    if not isinstance(network, nn.ModuleList):
        execution.choose(module, mode, TASK.input_shape, 16)
    return method, module.train()


def batch(seed=3):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(16, 2, 8, 8, generator=g), torch.randint(0, 4, (16,), generator=g)


def gradients(method, module, offered=None):
    """Loss, gradients, and the state of the training noise afterwards, of one step."""
    noise = torch.Generator().manual_seed(5)
    torch.manual_seed(6)
    with passes.dense_gradients(offered) as dense:
        loss = method.loss(module, batch(), Progress("train", 1, 1, 1, 1, 100, noise))
    state = noise.get_state()
    loss.backward()
    if dense is not None:
        dense.finish()
    assert torch.equal(noise.get_state(), state), "backward moved the training noise"
    return loss.detach(), {name: p.grad for name, p in module.named_parameters()}, state


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], gradient, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("how", VARIANTS)
@pytest.mark.parametrize("mode", ["dense", "sparse"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_gets_its_gradient(name, mode, how):
    loss, expected, state = gradients(*built(name, "none", mode))
    found_loss, found, found_state = gradients(*built(name, how, mode))
    torch.testing.assert_close(found_loss, loss)
    assert_same(found, expected)
    assert any(gradient is not None and gradient.any() for gradient in expected.values())
    assert torch.equal(found_state, state)


@pytest.mark.parametrize("how", VARIANTS)
@pytest.mark.parametrize("mode", ["dense", "sparse"])
@pytest.mark.parametrize("name", ["ssvi", "rigl"])
def test_dense_gradients_arrive_once_and_whole(name, mode, how):
    offers = {}
    for variant in ("none", how):
        method, module = built(name, variant, mode)
        names, offered = {layer: name for name, layer, _ in sparse_layers(module)}, []
        gradients(method, module, lambda layer, g, o=offered, n=names: o.append((n[layer], g.clone())))
        assert len({name for name, _ in offered}) == len(offered) == len(names)
        offers[variant] = dict(offered)
    assert_same(offers[how], offers["none"])


@pytest.mark.parametrize("how", VARIANTS)
def test_passes_of_one_loss_keep_apart(how):
    def both(variant):
        _, module = built("ssvi", variant, "sparse")
        noise, (inputs, labels) = torch.Generator().manual_seed(1), batch()
        torch.manual_seed(0)
        draw = {layer: layer.sample_weights(torch.Generator().manual_seed(2)) for _, layer, _ in
                sparse_layers(module)} | {module.first: module.first.sample_weights(noise)}  # fmt: skip
        with passes.local_noise(noise):
            loss = F.cross_entropy(module(inputs), labels)
        with passes.mean():
            loss = loss + 2 * F.cross_entropy(module(inputs), labels)
        with passes.weights(draw):
            loss = loss + 3 * F.cross_entropy(module(inputs), labels)
        with passes.local_noise(noise):
            loss = loss + 4 * F.cross_entropy(module(inputs), labels)
            loss.backward()
        return {name: p.grad for name, p in module.named_parameters()}

    assert_same(both(how), both("none"))


def test_a_second_backward_pass_repeats_the_noise_again():
    method, module = built("ssvi", "hooks", "sparse")
    loss = method.loss(module, batch(), Progress("train", 1, 1, 1, 1, 100, torch.Generator().manual_seed(5)))
    loss.backward(retain_graph=True)
    once = {name: p.grad.clone() for name, p in module.named_parameters()}
    loss.backward()
    assert_same({name: p.grad for name, p in module.named_parameters()}, {n: 2 * g for n, g in once.items()})


def test_backward_in_another_thread_repeats_the_noise():
    expected = gradients(*built("ssvi", "none", "sparse"))[1]
    for how in VARIANTS:
        method, module = built("ssvi", how, "sparse")
        torch.manual_seed(6)
        loss = method.loss(
            module, batch(), Progress("train", 1, 1, 1, 1, 100, torch.Generator().manual_seed(5))
        )
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
        assert_same({name: p.grad for name, p in module.named_parameters()}, expected)


@pytest.mark.parametrize("how", VARIANTS)
def test_a_sequence_in_segments(how):
    def found(segments):
        torch.manual_seed(0)
        layers = [nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 4)]
        module = SSVI(SSVIOptions(sparsity=0.5)).build(nn.Sequential(*layers), Streams(0), Task((6,), 4, 9))
        x = torch.randn(7, 6, requires_grad=True)
        with passes.local_noise(torch.Generator().manual_seed(0)):
            if segments:
                out = checkpoint_sequential(module, segments, x, use_reentrant=how == "reentrant")
            else:
                out = module(x)
        out.square().sum().backward()
        return {"x": x.grad} | {name: p.grad for name, p in module.named_parameters()}

    assert_same(found(2), found(0))


def test_torch_is_as_before_after_a_pass():
    names = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")
    before = [getattr(torch_checkpoint, name, None) for name in names]
    with passes.mean(), pytest.raises(ZeroDivisionError), passes.local_noise(torch.Generator()):
        1 / 0  # noqa: B018
    assert [getattr(torch_checkpoint, name, None) for name in names] == before
    assert "apply" not in vars(torch_checkpoint.CheckpointFunction)


class Recomputing(torch.autograd.Function):
    """A checkpoint of somebody's own."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer(x)

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            ctx.layer(x).backward(grad)
        return x.grad, None


class OwnCheckpoint(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 4)

    def forward(self, x):
        return Recomputing.apply(self.first(x), self.second)


@pytest.mark.parametrize("name", ["ssvi", "dense_vi", "mc_dropout"])
def test_another_kind_of_recomputation_is_refused(name):
    chosen = METHODS.get(name)
    method = chosen(chosen.Options(**TRAINED[name]))
    module = method.build(OwnCheckpoint(), Streams(0), Task((5,), 4, 10))
    progress = Progress("train", 1, 1, 1, 1, 10, torch.Generator())
    with pytest.raises(UserError, match=r"^the network calls a layer in the forward of an autograd function"):
        method.loss(module, (torch.randn(3, 5), torch.tensor([0, 1, 2])), progress)
    with torch.inference_mode():
        module(torch.randn(3, 5))  # a mean network is as deterministic there as anywhere


@NETWORKS.register
class CheckpointedNetwork(Network):
    """Small images through ``Checkpointed``."""

    @dataclass(frozen=True)
    class CheckpointedOptions:
        how: str = option("none", "which kind of checkpoint", choices=HOW)

    name = "toy_checkpointed"
    Options = CheckpointedOptions

    def build(self, task: Task) -> nn.Module:
        stem = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(8))
        network = Checkpointed(self.options.how)
        network.classifier = nn.Linear(24, task.classes)
        return nn.Sequential(stem, network)


@pytest.mark.parametrize(
    ("mode", "addition"),
    [
        ("dense", "grad_sampled"),
        ("sparse", "grad_sampled"),
        ("sparse", "grad_mean"),
        ("sparse", "grad_averaged"),
        ("sparse", "grad_accumulated"),
    ],
)
def test_a_run_gives_the_result_of_the_plain_network(mode, addition, tmp_path):
    found = {}
    for how in HOW:
        chosen = {
            "dataset": "digits", "network": "toy_checkpointed", "network.how": how, "method": "ssvi",
            "sparsity": 0.8, "addition": addition, "replace_every": 5, "epochs": 2, "max_steps": 11,
            "samples": 2,
        }  # fmt: skip
        spec = parse_spec(nest(chosen))
        store = Store(tmp_path / how, create=True)
        assert execute(spec, store, Execution(mode=mode)) == "done", store.run(spec.run_id).read("status")
        model = torch.load(store.run(spec.run_id).path / "model.pt", weights_only=True)
        found[how] = {name: value.float() for name, value in model.items()}
    for how in VARIANTS:
        assert_same(found[how], found["none"])
