"""The layout of the kernels: what stands in for a tensor gives what the tensor gives, gradients included."""

from __future__ import annotations

import itertools
import threading

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from methods.core.contractions import Conv2d, Linear
from methods.kernels import blocks
from methods.kernels.blocks import LANES, Blocks, from_blocks, to_blocks
from methods.kernels.contraction import Arranged, Kernel, geometry
from methods.kernels.library import LEVELS, pointer
from methods.layers.layer import VariationalLayer
from methods.layers.posterior import SparseGaussian

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in LEVELS, reason="kernels need AVX2 or AVX-512"
)

BATCHES = [1, 5, 16, 20]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def tensor_of(value):
    return value.plain() if isinstance(value, Blocks) else value


def beyond(value):
    """The lanes that hold no example."""
    used = (value.examples - 1) % LANES + 1
    return value.values[-1, ..., used:]


def same_as_on_a_tensor(function, *inputs, keeps=None, tolerance=1e-6):
    """``function`` of blocks and of tensors: results and gradients; keeps: whether the layout is kept."""
    found = []
    for to in (Blocks.of, lambda x: x * 1):  # which may be changed in place
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*map(to, leaves))
        if to is Blocks.of:
            if keeps is not None:
                assert isinstance(out, Blocks) == keeps
            if isinstance(out, Blocks):
                assert out.shape == out.plain().shape
                assert not beyond(out).any()
        out = tensor_of(out)
        out.backward(randn(*out.shape, seed=9))
        found.append([out.detach(), *(x.grad for x in leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


# -- the layout -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("rest", [(1,), (3,), (16,), (17,), (2, 3, 5), (4097,)], ids=str)
def test_each_lane_is_an_example_and_lanes_beyond_the_last_are_zero(batch, rest):
    x = randn(batch, *rest)
    values = to_blocks(x)
    assert values.shape == (-(-batch // LANES), *rest, LANES) and values.is_contiguous()
    padded = torch.cat([x, torch.zeros(-batch % LANES, *rest)])
    assert torch.equal(values, padded.unflatten(0, (-1, LANES)).movedim(1, -1))
    assert torch.equal(from_blocks(values, batch), x)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(1, 2),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[:, 1:, ::2],
        lambda x: x[:1].expand(7, -1, -1, -1),
        lambda x: x.flip(0),
    ],
    ids=["transposed", "channels last", "a part", "expanded", "flipped"],
)
def test_any_memory_layout_of_a_tensor_is_taken(view):
    x = view(randn(6, 4, 5, 3))
    assert torch.equal(Blocks.of(x).plain(), x)
    assert torch.equal(from_blocks(to_blocks(x).transpose(1, 2), len(x)), x.transpose(1, 2))


def test_there_and_back_has_the_gradient_of_doing_nothing():
    x = randn(5, 3, 2, 2).requires_grad_()
    out = Blocks.of(x).plain()
    out.backward(randn(3, 2, 2, 5).movedim(-1, 0))  # a gradient that is not contiguous
    assert torch.equal(x.grad, randn(3, 2, 2, 5).movedim(-1, 0))


def test_a_batch_without_examples():
    empty = Blocks.of(torch.zeros(0, 3, 2, 2))
    assert empty.shape == empty.plain().shape == (0, 3, 2, 2)
    assert F.relu(empty).plain().shape == (0, 3, 2, 2)


def test_it_says_of_itself_what_the_tensor_would():
    x = randn(5, 3, 4, 2)
    b = Blocks.of(x)
    assert Blocks.of(b) is b
    assert (b.shape, b.size(), b.size(1), b.size(-1), b.dim(), b.ndim) == (x.shape, x.shape, 3, 2, 4, 4)
    assert (b.dtype, b.device, len(b), b.numel(), b.requires_grad) == (x.dtype, x.device, 5, 120, False)
    assert b.plain() is b.plain()
    assert {b: 1}[b] == 1
    with pytest.raises(AttributeError):
        _ = b.no_such_thing


# -- functions in the layout ------------------------------------------------------------------

#: Calls of each function that the layout knows, on images. Those marked are done on the plain tensor.
CALLS = {
    F.relu: {"relu": F.relu, "module": nn.ReLU()},
    torch.relu: {"relu": torch.relu, "method": lambda x: x.relu()},
    torch.add: {
        "add": lambda x: torch.add(x, x),
        "scaled*": lambda x: torch.add(x, x, alpha=2),
        "number*": lambda x: torch.add(x, 1.5),
        "operator": lambda x: x + x,
        "operator, number*": lambda x: x + 2,
        "number, operator*": lambda x: 2 + x,
        "broadcast*": lambda x: x + F.adaptive_avg_pool2d(x, 1),
        "tensor*": lambda x: torch.ones(x.shape) + x,
    },
    torch.mean: {
        "mean": lambda x: torch.mean(x, (2, 3)),
        "keepdim": lambda x: torch.mean(x, [-1, -2], True),
        "method": lambda x: x.mean((2, 3), keepdim=True),
        "dim=": lambda x: x.mean(dim=(3, 2)),
        "of all*": lambda x: x.mean().view(1, 1),
        "of one*": lambda x: x.mean(1),
        "of others*": lambda x: torch.mean(x, (0, 2)),
        "dtype*": lambda x: x.mean((2, 3), dtype=torch.float64).float(),
    },
    torch.flatten: {
        "flatten": lambda x: torch.flatten(x, 1),
        "module": nn.Flatten(),
        "method": lambda x: x.flatten(1),
        "ends": lambda x: x.flatten(1, 3),
        "all*": lambda x: torch.flatten(x),
        "from 2*": lambda x: x.flatten(2),
        "to 2*": lambda x: x.flatten(1, 2),
    },
    F.batch_norm: {
        "training": lambda x: F.batch_norm(torch.cat([x, 2 * x]), None, None, training=True),
        "eval*": lambda x: F.batch_norm(x, torch.zeros(6), torch.ones(6)),
    },
    F.adaptive_avg_pool2d: {
        "to 1": lambda x: F.adaptive_avg_pool2d(x, 1),
        "module": nn.AdaptiveAvgPool2d((1, 1)),
        "uneven": nn.AdaptiveAvgPool2d((3, 2)),
        "larger": nn.AdaptiveAvgPool2d(9),
        "None*": nn.AdaptiveAvgPool2d((None, 2)),
    },
    F.avg_pool2d: {
        "pairs": lambda x: F.avg_pool2d(x, (2, 3), stride=(1, 2), padding=(1, 0)),
        "ceil": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
        "without padding": lambda x: F.avg_pool2d(x, 3, padding=1, count_include_pad=False),
        "divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        "module*": nn.AvgPool2d(2),
    },
    F.max_pool2d: {},  # torch hands over torch.max_pool2d in its place
    torch.max_pool2d: {
        "module": nn.MaxPool2d(2),
        "overlapping": nn.MaxPool2d(3, stride=2, padding=1),
        "pairs": nn.MaxPool2d((3, 2), stride=(1, 2), padding=(1, 0), ceil_mode=True),
        "function": lambda x: F.max_pool2d(x, 2),
        "torch": lambda x: torch.max_pool2d(x, 2),
        "dilated*": nn.MaxPool2d(2, dilation=2),
        "indices*": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    },
    F.relu6: {"relu6": lambda x: F.relu6(3 * x)},
    F.leaky_relu: {"module": nn.LeakyReLU(0.2), "function": lambda x: F.leaky_relu(x, 0.3)},
    F.hardtanh: {"module": nn.ReLU6(), "bounds": nn.Hardtanh(-0.5, 0.7)},
    F.hardswish: {"module": nn.Hardswish()},
    F.silu: {"module": nn.SiLU()},
    F.gelu: {"module": nn.GELU(), "tanh": nn.GELU("tanh")},
    F.dropout: {"eval": nn.Dropout(0.5).eval(), "none": lambda x: F.dropout(x, 0.0)},
    F.tanh: {},  # a method of the tensor in torch
    torch.tanh: {"module": nn.Tanh()},
}
EACH_CALL = {
    f"{getattr(function, '__name__', function)}: {name}": call
    for function, calls in CALLS.items()
    for name, call in calls.items()
}


def test_every_function_of_the_layout_is_tested():
    assert set(CALLS) == set(blocks._FUNCTIONS)


@pytest.mark.parametrize("name", EACH_CALL)
def test_functions_in_the_layout(name):
    for batch in BATCHES:
        keeps = not name.endswith("*") and name != "batch_norm: training"
        same_as_on_a_tensor(EACH_CALL[name], randn(batch, 6, 7, 8), keeps=keeps, tolerance=2e-6)


def test_functions_of_features():
    for batch in BATCHES:
        x, other = randn(batch, 7), randn(batch, 7, seed=1)
        for function in (F.relu, torch.tanh, F.silu, nn.Flatten(), lambda x: x.flatten(1)):
            same_as_on_a_tensor(function, x, keeps=True)
        same_as_on_a_tensor(torch.add, x, other, keeps=True)
        same_as_on_a_tensor(lambda x: x.mean(1), x, keeps=False)


def test_dropout_scales_what_it_keeps():
    x = randn(20, 6, 5, 5).requires_grad_()
    torch.manual_seed(0)
    out = nn.Dropout(0.25)(Blocks.of(x))
    assert isinstance(out, Blocks) and not beyond(out).any()
    kept = out.plain() != 0
    torch.testing.assert_close(out.plain(), torch.where(kept, x / 0.75, 0))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    out.plain().sum().backward()
    torch.testing.assert_close(x.grad, kept / 0.75)


def test_names_of_arguments():
    x = randn(5, 3, 4, 4)
    for function in (
        lambda x: torch.mean(x, dim=(2, 3), keepdim=True),
        lambda x: torch.flatten(x, start_dim=1, end_dim=-1),
        lambda x: F.relu(input=x),
        lambda x: F.max_pool2d(input=x, kernel_size=2, stride=2),
        lambda x: F.adaptive_avg_pool2d(input=x, output_size=(1, 1)),
    ):
        same_as_on_a_tensor(function, x, keeps=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.flatten(input=x, start_dim=1),
        lambda x: torch.mean(input=x, dim=(2, 3)),
        lambda x: torch.relu(input=x),
        lambda x: torch.add(x, other=x),
        lambda x: F.gelu(input=x),
    ],
)
def test_names_of_arguments_of_built_in_functions(function):
    same_as_on_a_tensor(function, randn(5, 3, 4, 4))


# -- everything else is done on the plain tensor ----------------------------------------------

ELSE = {
    "sigmoid": torch.sigmoid,
    "method": lambda x: x.abs().clamp(0.1, 1),
    "softmax": nn.Softmax(1),
    "times": lambda x: x * 2,
    "product": lambda x: x * x,
    "from": lambda x: 1 - x,
    "difference": lambda x: x - 2 * x,
    "quotient": lambda x: x / (x * x + 1),
    "inverse": lambda x: 1 / (x * x + 1),
    "power": lambda x: x**2,
    "negative": lambda x: -x,
    "product of matrices": lambda x: x @ x.transpose(2, 3),
    "matrix first": lambda x: torch.ones(2, 4) @ x,
    "index": lambda x: x[:, 1],
    "slices": lambda x: x[..., ::2, :-1],
    "mask": lambda x: x[x > 0],
    "where": lambda x: torch.where(x >= 0.5, x, 3 * x),
    "compared": lambda x: x * ((x < 0) | (x <= -1) | (x == 2) | (x != x)),
    "iterated": lambda x: torch.stack(list(x)),
    "cat": lambda x: torch.cat([x, F.relu(x)], 1),
    "cat of a tensor and blocks": lambda x: torch.cat([torch.ones(x.shape), x]),
    "stack": lambda x: torch.stack((x, x)),
    "chunks": lambda x: sum(x.chunk(3, 1)),
    "view": lambda x: x.view(x.size(0), -1),
    "permuted": lambda x: x.permute(0, 2, 3, 1).contiguous(),
    "einsum": lambda x: torch.einsum("nchw,nchw->nc", x, x),
    "plain convolution": lambda x: F.conv2d(x, torch.ones(2, 3, 2, 2)),
    "plain linear": lambda x: F.linear(x.flatten(1), torch.ones(2, 36)),
    "layer norm": lambda x: F.layer_norm(x, (3,)),
    "group norm": nn.GroupNorm(3, 3),
    "gate": lambda x: x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1)),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2),
    "cross entropy": lambda x: F.cross_entropy(x.flatten(1), torch.arange(len(x))).view(1, 1),
    "elu": nn.ELU(),
    "method of blocks": lambda x: x.add(x).mul(x),
}


@pytest.mark.parametrize("name", ELSE)
def test_other_functions_are_given_the_plain_tensor(name):
    for batch in (1, 20):
        same_as_on_a_tensor(ELSE[name], randn(batch, 3, 4, 3), keeps=False, tolerance=1e-5)


def test_truth_and_numbers_of_single_values():
    one = Blocks.of(torch.full((1, 1), 2.5))
    assert one and float(one) == 2.5


# -- normalisation ----------------------------------------------------------------------------

NORMS = {
    "usual": {},
    "not affine": {"affine": False},
    "without statistics": {"track_running_stats": False},
    "cumulative": {"momentum": None},
    "slow": {"momentum": 0.01, "eps": 1e-2},
}
#: What is done with a normalised tensor, and a second one.
AFTER = {
    "alone": lambda h, r: h,
    "relu": lambda h, r: F.relu(h),
    "method": lambda h, r: h.relu(),
    "in place": lambda h, r: h.relu_(),
    "added": lambda h, r: h + r,
    "added to": lambda h, r: torch.add(r, h),
    "rectified sum": lambda h, r: F.relu(h + r),
    "rectified sum in place": lambda h, r: F.relu(r + h, inplace=True),
    "sum of three": lambda h, r: F.relu(h + r + r),
    "pooled": lambda h, r: F.adaptive_avg_pool2d(F.relu(h), 1) if h.dim() == 4 else F.relu(h),
    "tanh": lambda h, r: torch.tanh(h),
}


def norm_of(shape, **how):
    """A normalisation that has seen something, with a scale and a shift that are not trivial."""
    norm = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1], **how)
    with torch.no_grad():
        if norm.affine:
            norm.weight.copy_(torch.linspace(-1, 2, shape[1]))
            norm.bias.copy_(torch.linspace(0.5, -0.5, shape[1]))
        norm(randn(4, *shape[1:], seed=5) * 2 + 1)
    return norm


@pytest.mark.parametrize("how", NORMS)
@pytest.mark.parametrize("after", AFTER)
def test_batch_norm_in_training(how, after):
    for batch, rest in itertools.product([2, 5, 16, 20], [(6, 3, 4), (6,)]):
        shape, found = (batch, *rest), []
        for kind in (Blocks, torch.float32, torch.float64):
            norm = norm_of(shape, **NORMS[how])
            if kind is torch.float64:
                norm.double()
            seen = []
            for step in range(2):  # running statistics go on from those of the step before
                dtype = torch.float64 if kind is torch.float64 else torch.float32
                x, r = ((randn(*shape, seed=step + s) * 1.5 + 0.5).to(dtype).requires_grad_() for s in (0, 7))
                given = (Blocks.of(x), Blocks.of(r)) if kind is Blocks else (x * 1, r * 1)
                out = AFTER[after](norm(given[0]), given[1])
                if kind is Blocks:
                    assert isinstance(out, Blocks) and not beyond(out).any()
                out = tensor_of(out)
                out.backward(randn(*out.shape, seed=9).to(dtype))
                seen += [out.detach(), x.grad, r.grad]
            seen += [p.grad for p in norm.parameters()] + list(norm.buffers())
            found.append([torch.zeros(()) if s is None else s.double() for s in seen])
        ours, theirs, exact = found
        for a, b, c in zip(ours, theirs, exact, strict=True):
            # as far from the truth as torch is, and a little more
            allowed = 3 * (b - c).abs().max() + 3e-6 * c.abs().max().clamp_min(1)
            assert (a - c).abs().max() <= allowed, (batch, rest)


@pytest.mark.parametrize("how", NORMS)
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("gradients", [True, False])
def test_batch_norm_in_evaluation(how, after, gradients):
    for batch, rest in itertools.product(BATCHES, [(6, 3, 4), (6,)]):
        if "without" in how and batch == 1 and rest == (6,):
            continue  # one number has no variance
        found = []
        for to in (Blocks.of, lambda x: x * 1):
            norm = norm_of((batch, *rest), **NORMS[how]).eval()
            x, r = (randn(batch, *rest, seed=s).requires_grad_() for s in (0, 7))
            with torch.set_grad_enabled(gradients):
                out = tensor_of(AFTER[after](norm(to(x)), to(r)))
            if gradients:
                out.backward(randn(*out.shape, seed=9))
            found.append(
                [out.detach(), x.grad, r.grad, *(p.grad for p in norm.parameters()), *norm.buffers()]
            )
        for ours, theirs in zip(*found, strict=True):
            if theirs is None:
                assert ours is None
            else:
                torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=5e-6)


def test_two_normalisations_are_added():
    """As where a residual block has a shortcut of its own."""
    found = []
    for to in (Blocks.of, lambda x: x * 1):
        norms = [norm_of((20, 6, 3, 3)), norm_of((20, 6, 3, 3), momentum=0.3)]
        x = randn(20, 6, 3, 3).requires_grad_()
        out = tensor_of(F.relu(norms[0](to(x)) + norms[1](to(2 * x + 1))))
        out.backward(randn(*out.shape, seed=9))
        parameters = [p.grad for n in norms for p in n.parameters()]
        found.append([out.detach(), x.grad, *parameters, *(b for n in norms for b in n.buffers())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_means_far_from_zero_cost_no_more_than_their_own_rounding():
    means = torch.tensor([0.0, 10, -100, 1000]).view(4, 1, 1)
    x = randn(33, 4, 9, 9) + means
    exact = F.batch_norm(x.double(), None, None, training=True)
    found = F.batch_norm(Blocks.of(x), None, None, training=True).plain()
    assert ((found - exact).abs() <= torch.finfo(torch.float32).eps * (means.abs() + 4)).all()


@pytest.mark.parametrize("where", [0, 4])
def test_what_is_not_a_number_stays_so_through_a_normalised_relu(where):
    """In evaluation an example is its own; in training its channel is lost, as in torch."""
    x = randn(20, 4, 3, 3)
    x[where, 1, 2, 2] = torch.nan
    norm = norm_of(x.shape)
    for mode in (True, False):
        norm.train(mode)
        with torch.no_grad():
            ours, theirs = F.relu(norm(Blocks.of(x))).plain(), F.relu(norm(x))
        assert torch.equal(ours.isnan(), theirs.isnan()) and theirs.isnan().any()


def test_frozen_scales_have_no_gradient():
    norm = norm_of((5, 4, 2, 2))
    norm.weight.requires_grad_(False)
    x = randn(5, 4, 2, 2)
    F.relu(norm(Blocks.of(x))).plain().sum().backward()
    assert norm.weight.grad is None and norm.bias.grad is not None


def test_a_single_number_a_channel_is_refused_in_training():
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm1d(3)(Blocks.of(randn(1, 3)))


def test_a_normalisation_waits_and_is_computed_once():
    norm = norm_of((5, 4, 2, 2))
    before = norm.running_mean.clone()
    h = norm(Blocks.of(randn(5, 4, 2, 2)))
    assert h.shape == (5, 4, 2, 2)  # which does not compute it
    first = h.values
    assert h.values is first
    expected = before.lerp(randn(5, 4, 2, 2).mean((0, 2, 3)), norm.momentum)
    torch.testing.assert_close(norm.running_mean, expected)


@pytest.mark.parametrize(
    "use",
    [
        lambda h: F.relu(h) + torch.sigmoid(h),
        lambda h: F.relu(h) + F.relu(h),
        lambda h: h + h,
        lambda h: torch.cat([F.relu(h), h]),
    ],
    ids=["relu and sigmoid", "two relus", "its own sum", "relu and itself"],
)
def test_a_normalised_tensor_that_is_used_twice_updates_statistics_once(use):
    found = []
    for to in (Blocks.of, lambda x: x):
        norm = norm_of((5, 4, 2, 2))
        out = tensor_of(use(norm(to(randn(5, 4, 2, 2)))))
        found.append((out, norm.running_mean))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


# -- in place ---------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize(
    "rectify",
    [lambda x: F.relu(x, inplace=True), nn.ReLU(inplace=True), lambda x: x.relu_(), nn.ReLU6(inplace=True)],
    ids=["function", "module", "method", "relu6"],
)
def test_what_is_rectified_in_place_is_rectified_for_all_who_hold_it(rectify, waiting):
    def run(x):
        held = x = F.batch_norm(x, None, None, training=True) if waiting else x
        if not waiting:
            tensor_of(x)  # as it was: not what is given out afterwards
        out = rectify(x)
        assert (tensor_of(held) >= 0).all()
        return torch.cat([tensor_of(held), tensor_of(out)], 1)

    for batch in (5, 20):
        same_as_on_a_tensor(run, randn(batch, 3, 4, 4), tolerance=1e-5)


@pytest.mark.parametrize("waiting", [False, True])
def test_what_is_added_in_place_is_added_for_all_who_hold_it(waiting):
    def run(x, y):
        held = x = F.batch_norm(x, None, None, training=True) if waiting else x
        x += y
        return held + x * 1

    for batch in (5, 20):
        inputs = randn(batch, 3, 4, 4), randn(batch, 3, 4, 4, seed=1)
        same_as_on_a_tensor(run, *inputs, tolerance=1e-5)


def test_what_is_not_of_one_shape_is_added_on_the_plain_tensor():
    x = randn(5, 3, 2, 2)
    b = Blocks.of(x)
    b += 1
    assert torch.equal(b, x + 1)
    c = Blocks.of(x)
    c += torch.ones(2)
    assert torch.equal(c, x + 1)


# -- under no_grad ----------------------------------------------------------------------------


LOOKS = {"plain": lambda h: h.abs().max(), "mean": lambda h: h.mean((2, 3)), "indexed": lambda h: h[0]}


@pytest.mark.parametrize(("look", "waiting"), list(itertools.product(LOOKS, (False, True))))
def test_a_look_without_gradients_takes_no_gradient_away(look, waiting):
    """As a hook does that records activations."""

    def run(x):
        h = F.batch_norm(x, None, None, training=True) if waiting else x
        with torch.no_grad():
            LOOKS[look](h)
        return torch.tanh(h) * torch.sigmoid(h)

    same_as_on_a_tensor(run, randn(5, 3, 2, 2), tolerance=1e-5)


def test_a_normalisation_called_without_gradients_has_none():
    """A frozen part of a network, in evaluation; what follows it is trained."""
    norm = norm_of((5, 3, 2, 2)).eval()
    with torch.no_grad():
        h = norm(Blocks.of(randn(5, 3, 2, 2)))
    assert not F.relu(h).plain().requires_grad


# -- lanes without an example -----------------------------------------------------------------


def test_statistics_know_nothing_of_lanes_without_an_example():
    function = nn.Sequential(nn.Hardtanh(0.5, 2.0), nn.BatchNorm2d(3))
    same_as_on_a_tensor(function, randn(5, 3, 4, 4), tolerance=1e-5)


# -- in place, by what the layout does not have ------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.mul_(2.0),
        lambda h: h.clamp_(-0.1, 0.1),
        lambda h: torch.clamp_(h, -0.1, 0.1),
        lambda h: F.elu(h, inplace=True),
        lambda h: torch.neg(h, out=h),
        lambda h: h.__setitem__((slice(None), 0), 0.0),
        lambda h: h.__imul__(3.0),
        lambda h: h.__iadd__(1.0),
    ],
)
@pytest.mark.parametrize("waiting", [False, True])
def test_what_is_changed_in_place_is_what_the_layout_then_has(change, waiting):
    x, norm = randn(5, 3, 4, 4), norm_of((5, 3, 4, 4)).eval()
    found = []
    with torch.no_grad():
        for h in (x.clone(), Blocks.of(x.clone())):
            h = norm(h) if waiting else h
            change(h)
            found.append(F.relu(h) + h)  # both of the layout
    torch.testing.assert_close(found[1].plain(), found[0])


@pytest.mark.parametrize(
    "write",
    [
        lambda h: h[:, 0].zero_(),
        lambda h: h.view(len(h), -1).mul_(2),
        lambda h: h.chunk(3, 1)[1].add_(1),
        lambda h: h.detach().clamp_(max=0.1),
    ],
    ids=["index", "view", "chunk", "detached"],
)
def test_what_is_written_through_a_view_is_what_the_layout_then_has(write):
    x, found = randn(5, 3, 4, 4), []
    for h in (x.clone(), Blocks.of(x.clone())):
        write(h)
        found.append(F.relu(h) + h)
    torch.testing.assert_close(found[1].plain(), found[0])


def test_operators_that_the_layout_does_not_have():
    x = randn(5, 3)
    h = Blocks.of(x)
    for function in (lambda t: 2**t, abs, lambda t: t % 2, lambda t: t // 2, lambda t: 1 - t, lambda t: -t):
        torch.testing.assert_close(function(h), function(x))


# -- what kernels must not read ----------------------------------------------------------------


@pytest.mark.parametrize("tensor", [torch.zeros(4, 4).t(), torch.zeros(3).double(), torch.zeros(8)[::2]])
def test_memory_that_kernels_would_misread_is_refused(tensor):
    with pytest.raises(TypeError, match="kernels can't read"):
        pointer(tensor)


@pytest.mark.parametrize("index", [[3, 1], [1, 1], [-1, 2], [0, 24], [0, 400_000]])
def test_an_index_that_is_not_sorted_within_the_weight_is_refused(index):
    with pytest.raises(IndexError, match="must be sorted and within 0…23"):
        Arranged(geometry(Linear(), torch.Size((4, 6)), ()), torch.tensor(index, dtype=torch.int32))


def test_normalisation_with_strided_parameters_is_that_of_torch():
    x, strided = randn(20, 3, 2, 2), torch.rand(3, 2, generator=torch.Generator().manual_seed(0))[:, 0]
    found = [F.batch_norm(h, None, None, strided, strided, training=True) for h in (x, Blocks.of(x))]
    torch.testing.assert_close(
        torch.as_tensor(found[0]), found[1] if torch.is_tensor(found[1]) else found[1].plain()
    )


def test_a_layer_of_another_precision_is_torchs():
    layer = VariationalLayer(
        Linear(),
        SparseGaussian(torch.Size((4, 6)), torch.arange(5), torch.randn(5), torch.ones(5), "softplus"),
        None,
    )
    layer.kernel = Kernel(Linear(), torch.Size((4, 6)))
    layer.half()
    with pytest.raises(RuntimeError, match="dtype"):
        layer(torch.randn(3, 6))


def test_a_thread_that_ends_leaves_no_memory_behind():
    """Two hundred of them, with slabs that would add up to a hundred megabytes."""
    x = torch.randn(16, 64, 32, 32)

    def once():
        norm = nn.BatchNorm2d(64)
        norm(Blocks.of(x)).plain()
        index = torch.arange(0, 64 * 64 * 9, 20, dtype=torch.int32)
        posterior = SparseGaussian(
            torch.Size((64, 64, 3, 3)), index, torch.ones(len(index)), torch.ones(len(index)), "exp"
        )
        layer = VariationalLayer(Conv2d(padding=(1, 1)), posterior, None)
        layer.kernel, layer.keeps_layout = Kernel(layer.contraction, posterior.shape), True
        with torch.no_grad():
            layer(x)

    process, sizes = psutil.Process(), []
    for _ in range(2):
        for _ in range(100):
            thread = threading.Thread(target=once)
            thread.start()
            thread.join()
        sizes.append(process.memory_info().rss)
    assert sizes[1] - sizes[0] < 40e6
