"""Selection across layers against brute force on concatenated arrays."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.subspace.exchange import Exchange, Pool, lowest_of_all

VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf, math.nan])


@st.composite
def networks(draw):
    """Layers as (size, index, scores, magnitudes), an order of arrival, and a quota."""
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 12))
        index = sorted(draw(st.sets(st.integers(0, size - 1), min_size=1)))
        scores = draw(st.lists(VALUES, min_size=len(index), max_size=len(index)))
        layers.append((size, index, scores, draw(st.lists(VALUES, min_size=size, max_size=size))))
    order = draw(st.permutations(range(len(layers))))
    return layers, order, draw(st.integers(0, sum(len(index) for _, index, _, _ in layers)))


def as_number(score):
    return -math.inf if math.isnan(score) else score


def removed_by_hand(layers, n):
    """Sorted by score, then layer, then position, one after another; a layer's last slot is passed over."""
    slots = [(as_number(s), k, i) for k, (_, _, scores, _) in enumerate(layers) for i, s in enumerate(scores)]
    left, removed = [len(index) for _, index, _, _ in layers], set()
    for _, layer, position in sorted(slots):
        if len(removed) < n and left[layer] > 1:
            left[layer] -= 1
            removed.add((layer, layers[layer][1][position]))
    return removed


def active_after_by_hand(layers, n, readmit):
    removed = removed_by_hand(layers, n)
    active = {(k, c) for k, (_, index, _, _) in enumerate(layers) for c in index}

    def rank(candidate):
        layer, coordinate = candidate
        if candidate in removed and not readmit:
            return 1, 0.0, layer, coordinate
        magnitude = layers[layer][3][coordinate]
        return 0, 0.0 if math.isnan(magnitude) else -magnitude, layer, coordinate

    everything = {(k, c) for k, (size, *_) in enumerate(layers) for c in range(size)}
    candidates = sorted(everything - (active - removed), key=rank)
    return (active - removed) | set(candidates[: len(removed)])


def run(layers, order, quotas, readmit):
    indices = [torch.tensor(index, dtype=torch.int32) for _, index, _, _ in layers]
    scores = [torch.tensor(s, dtype=torch.float64) for _, _, s, _ in layers]
    exchange = Exchange(indices, scores, quotas, readmit)
    for layer in order:
        exchange.offer(layer, torch.tensor(layers[layer][3]))
    return indices, [exchange.change(layer) for layer in range(len(layers))]


@given(networks(), st.booleans())
def test_one_budget_for_all_layers_against_brute_force(case, readmit):
    layers, order, n = case
    indices, changes = run(layers, order, n, readmit)
    after = set()
    for layer, (index, change) in enumerate(zip(indices, changes, strict=True)):
        kept, added = index[change.keep].tolist(), change.add.tolist()
        assert not set(added) & set(index.tolist())
        assert added == sorted(added) and change.keep.tolist() == sorted(change.keep.tolist())
        assert len(kept) + len(added) >= 1
        after |= {(layer, c) for c in kept + added}
    assert after == active_after_by_hand(layers, n, readmit)
    assert len(after) == sum(len(index) for index in indices)


@given(networks(), st.booleans())
def test_a_budget_for_each_layer_is_the_exchange_of_each(case, readmit):
    layers, order, n = case
    quotas = [min(n, len(index)) for _, index, _, _ in layers]
    indices, changes = run(layers, order, quotas, readmit)
    for (_, _, scores, magnitudes), index, quota, change in zip(
        layers, indices, quotas, changes, strict=True
    ):
        exchange = Exchange([index], [torch.tensor(scores, dtype=torch.float64)], [quota], readmit)
        exchange.offer(0, torch.tensor(magnitudes))
        alone = exchange.change(0)
        assert torch.equal(alone.keep, change.keep)
        assert torch.equal(alone.add, change.add)


def test_every_layer_keeps_its_best_slot():
    scores = [torch.tensor([0.0, 0.0, 0.0]), torch.tensor([math.nan]), torch.tensor([5.0, 6.0])]
    assert [r.tolist() for r in lowest_of_all(scores, 6)] == [[True, True, False], [False], [True, False]]


def test_a_pool_holds_no_more_than_it_will_give():
    g = torch.Generator().manual_seed(0)
    pool, held = Pool(10), []
    for layer in (3, 1, 2, 0):
        pool.offer(layer, torch.rand(200, generator=g), -1.0)
        held.append(sum(values.numel() for pair in pool._best.values() for values in pair))
    assert max(held) == 2 * 10


def test_layers_that_made_no_offer_are_known():
    index, score = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([1.0, 2.0])
    exchange = Exchange([index, index], [score, score], 1)
    assert exchange.missing == [0, 1]
    exchange.offer(1, torch.ones(4))
    assert exchange.missing == [0]
