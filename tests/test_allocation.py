"""How many weights each layer keeps: equal totals, the rules' own definitions, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from methods.base import Task
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.families.variational import SparseOptions
from methods.layers import convert
from methods.layers.layer import sparse_layers, variational_layers
from methods.static_vi import StaticVI
from methods.subspace import allocation

TASK = Task((6, 6, 6), 10, 100)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


shapes = st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=4), min_size=1, max_size=6)


@given(shapes, st.floats(0, 0.999))
def test_every_rule_gives_the_total_of_uniform(found, sparsity):
    kernels = {str(i): torch.Size(shape) for i, shape in enumerate(found)}
    budget = sum(allocation.uniform(kernels, sparsity).values())
    for rule in allocation.RULES:
        try:
            counts = allocation.allocate(rule, kernels, sparsity, generator())
        except UserError:
            assert rule != "uniform"
            continue
        assert list(counts) == list(kernels)
        assert sum(counts.values()) == budget
        assert all(1 <= counts[name] <= shape.numel() for name, shape in kernels.items())


@given(shapes, st.floats(0.05, 0.999))
def test_erk_is_proportional_where_it_is_not_full(found, sparsity):
    kernels = {str(i): torch.Size(shape) for i, shape in enumerate(found)}
    try:
        counts = allocation.erk(kernels, sparsity)
    except UserError:
        return
    # one epsilon for all: counts are within one of epsilon * sum(dimensions), except where that is too many
    low = max((c - 1) / sum(kernels[n]) for n, c in counts.items())
    high = min(
        ((c + 1) / sum(kernels[n]) for n, c in counts.items() if c < kernels[n].numel()), default=math.inf
    )
    assert low <= high


def test_erk_of_a_small_network_by_hand():
    """At 0.5 the dimensions 20, 110 and 200 ask for 336, 1850 and 3364 of 5550: two layers are full."""
    kernels = {"small": torch.Size((10, 10)), "tall": torch.Size((100, 10)), "wide": torch.Size((100, 100))}
    counts = allocation.erk(kernels, 0.5)
    budget = 50 + 500 + 5000
    assert counts["small"] == 100 and counts["tall"] == 1000
    assert counts["wide"] == budget - 1100
    sparse = allocation.erk(kernels, 0.95)  # 5 + 50 + 500 over 20 + 110 + 200 dimensions
    exact = {name: 555 * sum(shape) / 330 for name, shape in kernels.items()}
    assert sparse == {"small": 34, "tall": 185, "wide": 336}
    assert all(abs(sparse[name] - exact[name]) < 1 for name in kernels)


def test_a_joint_draw_has_the_mean_and_the_variance_of_its_law():
    kernels = {"a": torch.Size((10, 10)), "b": torch.Size((30, 10))}
    draws = torch.tensor(
        [allocation.joint(kernels, 0.8, generator(seed))["a"] for seed in range(400)], dtype=torch.float64
    )
    mean, variance = 20.0, 80 * 0.25 * 0.75 * (400 - 80) / (400 - 1)  # hypergeometric
    assert draws.mean().item() == pytest.approx(mean, abs=5 * math.sqrt(variance / 400))
    assert draws.var().item() == pytest.approx(variance, rel=0.4)


def test_a_joint_draw_leaves_no_layer_empty():
    kernels = {"small": torch.Size((1, 1)), "large": torch.Size((100, 100))}
    assert all(allocation.joint(kernels, 0.999, generator(s))["small"] == 1 for s in range(20))


@pytest.mark.parametrize(
    ("rule", "sparsity", "words"),
    [
        ("erk", 0.999, "sparsity 0.999 leaves layer 'thin' (2 weights) without a weight"),
        ("uniform", 0.9999999999, "leaves layer 'thin'"),
        ("global", 0.9999999999, "leaves 1 weights for 2 layers"),
    ],
)
def test_a_layer_without_a_weight_is_refused(rule, sparsity, words):
    kernels = {"thin": torch.Size((1, 2)), "wide": torch.Size((60, 60))}
    with pytest.raises(UserError) as caught:
        allocation.allocate(rule, kernels, sparsity, generator())
    assert words in str(caught.value)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 40), nn.Linear(40, 10)
    )


@pytest.mark.parametrize("rule", allocation.RULES)
def test_methods_build_what_is_allocated(rule):
    module = StaticVI(SparseOptions(sparsity=0.8, allocation=rule)).build(network(), Streams(0), TASK)
    active = {name: posterior.active for name, _, posterior in sparse_layers(module)}
    full = {n: s.numel() for n, s in convert.sparsifiable(network()).items() if n not in active}
    total = allocation.total(convert.sparsifiable(network()), 0.8)
    assert sum(active.values()) + sum(full.values()) == total
    again = StaticVI(SparseOptions(sparsity=0.8, allocation=rule)).build(network(), Streams(0), TASK)
    assert active == {name: posterior.active for name, _, posterior in sparse_layers(again)}


def test_exceptions_stay_dense_and_do_not_count():
    options = SparseOptions(sparsity=0.8, keep_dense=("4", "[5]"))
    module = StaticVI(options).build(network(), Streams(0), TASK)
    assert [name for name, _, _ in sparse_layers(module)] == ["2"]
    assert [layer.why_dense for layer in variational_layers(module)] == [
        "first convolution",
        "",
        "keep_dense names it",
        "keep_dense names it",
    ]


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (("head",), "keep_dense: 'head' matches no sparsifiable layer; there are: 2, 4, 5"),
        (("0",), "keep_dense: '0' matches no sparsifiable layer"),
        (("*",), "there is no layer to make sparse"),
    ],
)
def test_exceptions_that_make_no_sense_are_refused(patterns, words):
    with pytest.raises(UserError) as caught:
        StaticVI.validate(SparseOptions(keep_dense=patterns), network())
    assert words in str(caught.value)
