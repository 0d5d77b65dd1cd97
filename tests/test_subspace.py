"""Selection against brute force; surgery on parameters and optimiser state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.core.errors import UserError
from methods.layers.posterior import SparseGaussian
from methods.subspace import surgery
from methods.subspace.exchange import Exchange
from methods.subspace.lifetimes import overlap
from tests.fuzzing import tries

few_values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf]), min_size=1, max_size=30)


@given(few_values, st.data())
def test_lowest_and_strongest_break_ties_by_position(values, data):
    n = data.draw(st.integers(0, len(values)))
    tensor = torch.tensor(values, dtype=torch.float64)
    by_score = sorted(range(len(values)), key=lambda i: (values[i], i))
    assert surgery.lowest(tensor, n).nonzero().view(-1).tolist() == sorted(by_score[:n])
    by_magnitude = sorted(range(len(values)), key=lambda i: (-values[i], i))
    for dtype in (torch.float64, torch.float32):  # the kernel knows float32
        assert surgery.strongest(tensor.to(dtype), n).tolist() == sorted(by_magnitude[:n])


@pytest.mark.parametrize("kind", ["spread", "few", "close", "zero"])
@pytest.mark.parametrize("size", [1, 70_000, 200_001])
def test_the_strongest_of_many_are_those_of_a_sort(kind, size):
    """Numbers of every size, of few values, that share their leading bits, and of one value."""
    drawn = torch.rand(size, generator=torch.Generator().manual_seed(0))
    values = {
        "spread": (40 * drawn - 20).exp(),
        "few": (5 * drawn).floor() - 1,
        "close": 1 + drawn * 1e-4,
        "zero": torch.zeros(size),
    }[kind]
    order = values.sort(descending=True, stable=True).indices
    for n in {1, size // 3, size - 1, size} - {0}:
        assert torch.equal(surgery.strongest(values, n), order[:n].sort().values)


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0, math.nan]), min_size=4, max_size=4), min_size=1),
    st.data(),
)
def test_the_lowest_of_rows_are_those_of_each_row(rows, data):
    n, table = data.draw(st.integers(0, 4)), torch.tensor(rows, dtype=torch.float64)
    each = torch.stack([surgery.lowest(row, n) for row in table])
    assert torch.equal(surgery.lowest(table, n), each) and each.sum(1).tolist() == [n] * len(rows)


def test_nan_scores_go_first():
    assert surgery.lowest(torch.tensor([1.0, math.nan, 0.0, math.nan]), 2).tolist() == [
        False,
        True,
        False,
        True,
    ]


@st.composite
def layers(draw):
    size = draw(st.integers(1, 40))
    index = sorted(draw(st.sets(st.integers(0, size - 1), min_size=1)))
    n = draw(st.integers(0, len(index)))
    seed = draw(st.integers(0, 10_000))
    return size, index, n, seed, draw(st.booleans())


@given(layers())
def test_exchange_against_brute_force(case):
    size, index, n, seed, readmit = case
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (len(index),), generator=g).double()
    magnitude = torch.randint(0, 4, (size,), generator=g).double()
    removed = {index[i] for i in sorted(range(len(index)), key=lambda i: (scores[i].item(), i))[:n]}
    survivors = set(index) - removed
    candidates = [c for c in range(size) if c not in survivors]
    if readmit:
        candidates.sort(key=lambda c: (-magnitude[c].item(), c))
    else:
        candidates.sort(key=lambda c: (c in removed, 0 if c in removed else -magnitude[c].item(), c))
    expected = survivors | set(candidates[:n])

    exchange = Exchange([torch.tensor(index, dtype=torch.int32)], [scores], [n], readmit)
    exchange.offer(0, magnitude)
    change = exchange.change(0)
    kept = {index[i] for i in change.keep.tolist()}
    assert kept | set(change.add.tolist()) == expected
    assert kept.isdisjoint(change.add.tolist())
    assert not set(change.add.tolist()) & set(index)
    assert len(expected) == len(index)


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
}


def trained(optimiser_name, slots=(2, 3, 5, 7, 11)):
    index = torch.tensor(slots)
    posterior = SparseGaussian(
        torch.Size((4, 4)), index, torch.randn(len(slots)), torch.rand(len(slots)) + 0.1, "softplus"
    )
    optimiser = OPTIMISERS[optimiser_name]([posterior.mean, posterior.rho])
    for _ in range(3):
        optimiser.zero_grad()
        (posterior.mean.square().sum() + posterior.rho.sum()).backward()
        optimiser.step()
    return posterior, optimiser


def by_coordinate(posterior, optimiser):
    """Every number that belongs to a slot, by coordinate."""
    table = {}
    for position, coordinate in enumerate(posterior.index.tolist()):
        row = [posterior.mean[position].item(), posterior.rho[position].item()]
        for parameter in (posterior.mean, posterior.rho):
            for _, value in sorted(optimiser.state.get(parameter, {}).items()):
                if isinstance(value, torch.Tensor) and value.dim():
                    row.append(value[position].item())
        table[coordinate] = row
    return table


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize(
    ("keep", "add"), [([0, 2, 4], [0, 15]), ([0, 2], [6]), ([0, 1, 2, 3, 4], [1, 4]), ([3], [])]
)
def test_state_follows_its_slots(name, keep, add):
    posterior, optimiser = trained(name)
    before = by_coordinate(posterior, optimiser)
    same_size = len(keep) + len(add) == posterior.active
    mean = posterior.mean
    kept = {posterior.index[i].item() for i in keep}
    surgery.apply(
        posterior,
        surgery.Change(torch.tensor(keep), torch.tensor(add, dtype=torch.long)),
        optimiser,
        {"rho": torch.tensor(-3.0)},
    )
    assert posterior.index.tolist() == sorted(kept | set(add))
    assert posterior.index.dtype == torch.int32
    assert (posterior.mean is mean) == same_size
    after = by_coordinate(posterior, optimiser)
    for coordinate in kept:
        assert after[coordinate] == before[coordinate]
    for coordinate in add:
        assert after[coordinate][:2] == [0.0, -3.0]
        assert not any(after[coordinate][2:])
    # the optimiser goes on with the parameters there are now, and only with these
    assert [p for g in optimiser.param_groups for p in g["params"]] == [posterior.mean, posterior.rho]
    assert set(optimiser.state) <= {posterior.mean, posterior.rho}
    optimiser.zero_grad()
    posterior.mean.sum().backward()
    moved = posterior.mean.detach().clone()
    optimiser.step()
    assert (posterior.mean != moved).all()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_added_slots_may_begin_with_the_layers_squared_gradients(name):
    posterior, optimiser = trained(name)
    parameters = (posterior.mean, posterior.rho)
    before = [dict(optimiser.state.get(parameter, {})) for parameter in parameters]
    change = surgery.Change(torch.tensor([0, 2, 4]), torch.tensor([0, 15]))  # slots 2, 5, 11 stay
    surgery.apply(posterior, change, optimiser, added_state="mean")
    assert posterior.index.tolist() == [0, 2, 5, 11, 15]
    seen = set()
    for parameter, old in zip(parameters, before, strict=True):
        for key, value in old.items():
            now = optimiser.state[parameter][key]
            if not isinstance(value, torch.Tensor) or value.dim() == 0:
                assert now is value  # one step count for all slots
                continue
            assert torch.equal(now[1:4], value[[0, 2, 4]])
            fill = value.mean() if key in ("exp_avg_sq", "square_avg") else torch.tensor(0.0)
            torch.testing.assert_close(now[[0, 4]], fill.expand(2))
            seen.add(key)
    assert ("exp_avg_sq" in seen) == (name in ("adam", "adamw")) and ("square_avg" in seen) == (
        name == "rmsprop"
    )


def test_step_counts_of_single_elements_begin_anew():
    """An optimiser may count the steps of each element; those of an added slot are then its own."""
    posterior, optimiser = trained("adam")
    optimiser.state[posterior.mean]["step"] = torch.arange(10.0, 15.0)
    change = surgery.Change(torch.tensor([0, 2, 4]), torch.tensor([0, 15]))
    surgery.apply(posterior, change, optimiser, added_state="mean")
    assert optimiser.state[posterior.mean]["step"].tolist() == [0, 10, 12, 14, 0]
    assert optimiser.state[posterior.rho]["step"] == 3


def test_optimisers_with_other_state_are_refused_in_one_line():
    weight = torch.nn.Parameter(torch.randn(3, 4))
    optimiser = torch.optim.Adafactor([weight], lr=0.1)
    weight.sum().backward()
    optimiser.step()
    with pytest.raises(UserError, match="Adafactor") as error:
        surgery.check_optimiser(optimiser)
    assert "\n" not in str(error.value)
    lbfgs = torch.optim.LBFGS([weight])
    lbfgs.step(lambda: weight.square().sum())
    with pytest.raises(UserError, match="LBFGS"):
        surgery.check_optimiser(lbfgs)
    for make in OPTIMISERS.values():
        fine = make([weight])
        fine.step()
        surgery.check_optimiser(fine)


def test_replacement_fraction_is_a_cosine_from_alpha_to_zero():
    fractions = [surgery.replacement_fraction(t, 600, 0.3) for t in range(1, 601)]
    assert fractions[0] == pytest.approx(0.3, rel=1e-4)
    assert fractions[-1] == 0.0
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[299] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("step", "last", "slots", "quotient", "product"),
    [(200, 300, 120, 9, 8), (13, 26, 120, 18, 17), (26_400, 52_800, 820, 123, 122), (20, 300, 120, 35, 35)],
)
def test_the_order_of_operations_decides_where_the_number_to_replace_is_whole(
    step, last, slots, quotient, product
):
    def replaced(*rounding):
        return math.floor(slots * surgery.replacement_fraction(step, last, 0.3, *rounding))

    assert (replaced(), replaced("quotient"), replaced("product")) == (quotient, quotient, product)


@pytest.mark.parametrize(
    ("schedule", "integral"),
    [("cosine", 1 / 2), ("linear", 1 / 2), ("inverse_power", 1 / 4), ("constant", 1)],
)
def test_schedules_of_replacement_have_their_integrals(schedule, integral):
    fractions = [surgery.replacement_fraction(t, 6000, 0.3, schedule=schedule) for t in range(6001)]
    assert fractions[0] == 0.3 and fractions == sorted(fractions, reverse=True)
    assert fractions[-1] == (0.3 if schedule == "constant" else 0)
    assert sum(fractions) / 6000 == pytest.approx(0.3 * integral, rel=1e-3)
    assert surgery.replacement_fraction(7000, 6000, 0.3, schedule=schedule) == fractions[-1]


@pytest.mark.parametrize(("schedule", "at_a_third"), [("linear", 0.2), ("inverse_power", 0.3 * 8 / 27)])
def test_schedules_of_replacement_by_hand(schedule, at_a_third):
    assert surgery.replacement_fraction(2000, 6000, 0.3, schedule=schedule) == pytest.approx(at_a_third)


def test_published_schedule_replaces_88_mask_loads():
    """CIFAR, batch 128, 200 epochs: 586 updates before T_end = 58,650, sum of r_t = 87.8."""
    last = math.floor(0.75 * 200 * 391)
    updates = range(100, last, 100)
    assert len(updates) == 586
    assert sum(surgery.replacement_fraction(t, last, 0.3) for t in updates) == pytest.approx(87.8, abs=0.1)


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
@settings(max_examples=tries(50))
def test_overlap(first, second):
    union = len(first | second)
    expected = len(first & second) / union if union else 1.0
    found = overlap(np.array(sorted(first), dtype="int32"), np.array(sorted(second), dtype="int32"), 31)
    assert found == pytest.approx(expected)
