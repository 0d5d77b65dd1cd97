"""Every kind of convolution with a posterior beside dense autograd; kernels, costs and whole runs of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

import bench
from bench.cli.describe_run import preview
from bench.experiment.execution import Execution
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.base import Task
from methods.core import passes
from methods.core.options import hashed_dict, option
from methods.core.streams import Streams
from methods.dense_vi import DenseVI
from methods.kernels.contraction import Kernel
from methods.kernels.library import absent
from methods.layers import costs
from methods.layers.layer import variational_twin
from methods.layers.parameter_report import report
from methods.layers.posterior import DenseGaussian, SparseGaussian
from tests.toys import BODIES, Kinds, KindsOptions

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

#: A plain layer for (N, 4, *size), and the size.
LAYERS = {
    "1-D": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2), (9,)),
    "1-D grouped": (lambda: nn.Conv1d(4, 6, 3, groups=2), (7,)),
    "1-D circular": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (7,)),
    "1-D same": (lambda: nn.Conv1d(4, 6, 4, padding="same", dilation=3), (12,)),
    "2-D circular": (lambda: nn.Conv2d(4, 5, 3, padding=(1, 2), padding_mode="circular"), (5, 6)),
    "2-D reflect": (lambda: nn.Conv2d(4, 5, (3, 2), padding=1, stride=2, padding_mode="reflect"), (5, 6)),
    "2-D replicate": (lambda: nn.Conv2d(4, 5, 3, padding="same", padding_mode="replicate"), (5, 6)),
    "2-D same": (lambda: nn.Conv2d(4, 5, (2, 3), padding="same", dilation=(3, 1)), (5, 6)),
    "3-D": (lambda: nn.Conv3d(4, 5, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)), (2, 4, 3)),
    "3-D circular": (lambda: nn.Conv3d(4, 3, 2, padding=1, padding_mode="circular"), (2, 3, 2)),
    "3-D same": (lambda: nn.Conv3d(4, 3, 2, padding="same", groups=1), (2, 3, 2)),
    "transposed 1-D": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (5,)),
    "transposed 2-D": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=(1, 2)), (3, 4)),
    "transposed 3-D": (lambda: nn.ConvTranspose3d(4, 3, 2, stride=2, bias=False), (2, 1, 2)),
}
#: Those that a kernel can compute.
WITH_KERNEL = ("1-D", "1-D circular", "1-D same", "2-D circular", "2-D reflect", "2-D replicate", "2-D same")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def twin(name, kind, dtype=torch.float64):
    """A plain layer, a variational one that is dense or sparse, and inputs."""
    make, size = LAYERS[name]
    torch.manual_seed(0)
    plain = make().to(dtype)
    shape, g = plain.weight.shape, generator(1)
    mean, std = (torch.randn(shape, generator=g, dtype=dtype) for _ in range(2))
    posterior = DenseGaussian(shape, mean, std.abs() + 0.1, "softplus")
    if kind == "sparse":
        posterior = posterior.at(
            torch.randperm(shape.numel(), generator=g)[: shape.numel() // 2].sort().values
        )
    return plain, variational_twin(plain, posterior, 0.0), torch.randn(3, 4, *size, generator=g, dtype=dtype)


def whole(layer, values):
    """The tensor of all weights, given those that the posterior stores."""
    return layer.posterior.scatter(values) if isinstance(layer.posterior, SparseGaussian) else values


def gradients(layer, x, out):
    tensors = [x, layer.posterior.mean, layer.posterior.rho, *([] if layer.bias is None else [layer.bias])]
    weights = torch.randn(out.shape, generator=generator(5), dtype=out.dtype)
    found = torch.autograd.grad((out * weights).sum(), tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("which", ["mean", "fixed", "noise"])
def test_a_layer_is_the_plain_layer_with_the_weights_of_the_pass(name, kind, which):
    plain, layer, x = twin(name, kind)
    x.requires_grad_()
    posterior, state = layer.posterior, {} if layer.bias is None else {"bias": layer.bias}
    without_bias = {key: torch.zeros_like(value) for key, value in state.items()}
    values = layer.sample_weights(generator(2)) if which == "fixed" else posterior.mean
    expected = functional_call(plain, {"weight": whole(layer, values), **state}, (x,))
    if which == "noise":
        std = nn.functional.softplus(posterior.rho)
        variance = whole(layer, std.square())
        moment = functional_call(plain, {"weight": variance, **without_bias}, (x.square(),))
        noise = torch.randn(expected.shape, generator=generator(3), dtype=x.dtype)
        # where no weight is active the derivative of the root is infinite; the layer takes 0
        safe = torch.where(moment > 0, moment, 1.0)
        expected = expected + torch.where(moment > 0, safe.sqrt(), 0.0) * noise
        with passes.local_noise(generator(3)):
            out = layer(x)
    elif which == "fixed":
        with passes.weights({layer: values}):
            out = layer(x)
    else:
        out = layer(x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradients(layer, x, out), gradients(layer, x, expected))


@pytest.mark.parametrize("name", LAYERS)
def test_the_gradient_of_every_mean_is_handed_out(name):
    plain, layer, x = twin(name, "sparse")
    seen = []
    with passes.dense_gradients(lambda layer, gradient: seen.append(gradient.clone())):
        layer(x).square().sum().backward()
    weight = whole(layer, layer.posterior.mean.detach()).requires_grad_()
    state = {} if layer.bias is None else {"bias": layer.bias}
    functional_call(plain, {"weight": weight, **state}, (x,)).square().sum().backward()
    torch.testing.assert_close(seen, [weight.grad])


@pytest.mark.skipif(absent() is not None, reason="no sparse kernels here")
@pytest.mark.parametrize("name", WITH_KERNEL)
def test_kernels_compute_what_torch_computes(name):
    def found(by_kernel):
        _, layer, x = twin(name, "sparse", torch.float32)
        if by_kernel:
            layer.kernel = Kernel(layer.contraction, layer.posterior.shape)
        x.requires_grad_()
        results, draw = [], layer.sample_weights(generator(2))
        with passes.dense_gradients(lambda layer, gradient: results.append(gradient.clone())):
            out = layer(x)
        results += [out.detach(), *gradients(layer, x, out)]
        with passes.weights({layer: draw}):
            out = layer(x)
        results += [out.detach(), *gradients(layer, x, out)]
        with passes.local_noise(generator(3)):
            noisy = layer(x)
        return results, noisy

    (by_torch, _), (by_kernel, noisy) = found(False), found(True)
    torch.testing.assert_close(by_kernel, by_torch, rtol=1e-4, atol=1e-4)
    assert not torch.equal(noisy, by_kernel[1])


@pytest.mark.skipif(absent() is not None, reason="no sparse kernels here")
def test_the_noise_of_a_kernel_over_a_sequence_is_that_over_an_image_of_height_one():
    _, layer, x = twin("1-D", "sparse", torch.float32)
    image = nn.Conv2d(4, 6, (1, 3), stride=(1, 2), padding=(0, 1), dilation=(1, 2))
    posterior = layer.posterior
    again = SparseGaussian(
        image.weight.shape, posterior.index.long(), posterior.mean, posterior.std, "softplus"
    )
    other = variational_twin(image, again, 0.0)
    other.bias = layer.bias
    results = []
    for part, inputs in ((layer, x), (other, x.unsqueeze(2))):
        part.kernel = Kernel(part.contraction, part.posterior.shape)
        with passes.local_noise(generator(3)):
            out = part(inputs).flatten(1)
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), part.posterior.parameters())])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", LAYERS)
def test_flops_are_those_of_the_plain_layer(name):
    """Beside torch's counter: multiply-adds of all positions, padded ones included."""
    make, size = LAYERS[name]
    network = nn.Sequential(nn.Conv1d(4, 4, 1) if len(size) == 1 else nn.Identity(), make())
    costs.trace(network, (4, *size))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 4, *size))
    inference = costs.flops(network, "inference")
    assert inference == counter.get_total_flops()
    module = DenseVI().build(network, Streams(0), Task((4, *size), 3, 10))
    costs.trace(module, (4, *size))
    assert costs.flops(module, "inference") == inference
    assert costs.flops(module, "step") == 6 * inference
    assert {row.kind for row in report(module) if row.is_kernel} == {"dense"}


def test_a_transposed_convolution_with_an_output_size_stays_as_it_is():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.head = nn.ConvTranspose1d(2, 2, 2, stride=2), nn.Linear(2, 2)

        def forward(self, x):
            return self.head(self.up(x, output_size=(2 * x.shape[-1] + 1,)).mean(-1))

    network = Sized()
    costs.trace(network, (2, 3))
    module = DenseVI().build(network, Streams(0), Task((2, 3), 2, 9))
    assert module(torch.zeros(1, 2, 3)).shape == (1, 2)
    reasons = {row.name: row.reason for row in report(module) if row.is_kernel}
    assert reasons["up.weight"] == "called with an output size"


# -- whole runs -----------------------------------------------------------------------------------


def spec(body, **options):
    chosen = {"dataset": "digits", "network": "toy_kinds", "body": body, "method": "ssvi", "sparsity": 0.5}
    recipe = {"convert": "all", "epochs": 2, "batch_size": 128, "samples": 2, "replace_every": 4, "lr": 0.05}
    return parse_spec(nest(chosen | recipe | options))


@pytest.mark.parametrize("body", BODIES)
def test_a_whole_run_with_every_kind_of_layer(body, tmp_path):
    store, run = Store(tmp_path / "results", create=True), spec(body)
    assert execute(run, store, Execution()) == "done"
    costs_of_run = store.run(run.run_id).read("costs")
    assert 0.5 <= costs_of_run["density"] < 0.9
    model = bench.load(run.run_id, store.root)
    assert model.predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 10)
    assert "deterministic" not in [
        line.split()[3] for line in preview(run).splitlines() if ".weight " in line
    ]


@pytest.mark.parametrize("body", BODIES)
def test_layers_of_these_kinds_are_converted_only_if_asked(body):
    """A run that does not ask keeps its id, and is what it was."""
    basic, asked = spec(body, convert="basic"), spec(body)
    assert basic.run_id != asked.run_id

    lines = [line for line in preview(basic).splitlines() if "deterministic" in line and ".weight" in line]
    assert lines
    assert all("network.convert=all converts it" in line for line in lines)


def test_a_network_may_convert_all_its_layers_by_default():
    @dataclass(frozen=True)
    class AllOptions(KindsOptions):
        convert: str = option("all", choices=("basic", "all"), neutral="basic")

    plain, other = KindsOptions(), AllOptions()
    assert hashed_dict(plain) == {"body": "conv1d"}
    assert hashed_dict(other) == {"body": "conv1d", "convert": "all"}

    class All(Kinds):
        Options = AllOptions

    network = All().initialised(Task((1, 8, 8), 10, 100), Streams(0))
    rows = report(DenseVI().build(network, Streams(0), Task((1, 8, 8), 10, 100)))
    assert {row.kind for row in rows if row.is_kernel} == {"dense"}
