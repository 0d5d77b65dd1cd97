"""A subspace that chooses its dimension: what a slot earns, its bounds, and that it may stop anywhere."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import bench
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.core.errors import UserError
from methods.core.streams import Streams
from methods.families import dimension
from methods.layers.layer import sparse_layers
from methods.layers.posterior import SparseGaussian
from methods.ssvi import SSVI, SSVIOptions
from methods.subspace.resizing import Bounds, Resizing, quotas
from tests.test_ssvi import STEPS, Session, batches

ADAPTIVE = {"dimension": "adaptive", "density_min": 0.05, "density_max": 0.6, "slot_price": 0.5}


def posterior(means, stds):
    means, stds = torch.tensor(means, dtype=torch.float64), torch.tensor(stds, dtype=torch.float64)
    return SparseGaussian(torch.Size((1, 10)), torch.arange(len(means)), means, stds, "exp")


# what a slot earns

NUMBERS = {"mean": st.floats(-2, 2), "std": st.floats(0.01, 1), "prior": st.floats(0.05, 2)}


@given(**NUMBERS)
def test_evidence_is_the_ratio_of_prior_and_posterior_density_at_zero(mean, std, prior):
    found = float(dimension.evidence(posterior([mean], [std]), prior))
    assert found == pytest.approx(norm.logpdf(0, 0, prior) - norm.logpdf(0, mean, std), abs=1e-9)


@given(st.floats(0, 50), st.floats(-1, 1), st.floats(1e-3, 1), st.floats(0.05, 2))
def test_evidence_is_the_free_energy_that_a_slot_saves_where_the_loss_is_quadratic(
    curvature, at, weight, prior
):
    """The loss is curvature (w - at)^2 / 2; its best posterior is known, and so are both free energies."""
    precision = curvature + weight / prior**2
    mean, variance = curvature * at / precision, weight / precision
    kl = math.log(prior / math.sqrt(variance)) + (variance + mean**2) / (2 * prior**2) - 0.5
    with_slot = curvature * ((mean - at) ** 2 + variance) / 2 + weight * kl
    without = curvature * at**2 / 2
    found = float(dimension.evidence(posterior([mean], [math.sqrt(variance)]), prior))
    assert weight * found == pytest.approx(without - with_slot, abs=1e-8)


@given(st.floats(-1, 1), st.floats(1e-3, 1), st.floats(0.05, 0.5), st.floats(0, 5))
def test_a_coordinate_is_promising_where_its_best_slot_earns_more_than_the_price(
    gradient, weight, std, price
):
    prior = 0.6
    mean = -gradient * std**2 / weight
    earned = float(dimension.evidence(posterior([mean], [std]), prior))
    threshold = dimension.promising(posterior([0.0], [std]), prior, weight, price)
    if abs(earned - price) > 1e-6:
        assert (abs(gradient) > threshold) == (earned > price)


# how many go and how many are tried


@given(st.data())
def test_quotas_keep_the_bounds_and_remove_only_what_is_not_worth_its_cost(data):
    most = data.draw(st.integers(1, 60))
    least = data.draw(st.integers(1, most))
    slots = data.draw(st.integers(least, most))
    worth, tries = data.draw(st.integers(0, slots)), data.draw(st.integers(0, 40))
    removed, tried = quotas(slots, worth, tries, Bounds(least, most))
    assert least <= slots - removed <= slots - removed + tried <= most
    assert 0 <= removed <= min(slots - worth, 2 * tries) and 0 <= tried <= tries
    if worth == slots:  # all are worth it: it grows as far as it may
        assert tried == min(tries, most - slots)


@pytest.mark.parametrize("together", [True, False])
def test_good_slots_stay_and_coordinates_that_promise_nothing_are_not_added(together):
    indices = [torch.tensor([0, 2, 4, 6]), torch.tensor([1, 3])]
    scores = [torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.05, 0.6])]
    worth = [torch.tensor([True, False, False, False]), torch.tensor([True, True])]
    bounds = Bounds(1, 20) if together else [Bounds(1, 10), Bounds(1, 10)]
    exchange = Resizing(indices, scores, worth, [0.5, 0.5], 2 if together else [1, 1], bounds)
    assert exchange.removed[0].tolist() == [False, True, True, together]
    assert exchange.removed[1].tolist() == [False, False]
    exchange.offer(1, torch.zeros(10))
    # 0.4 promises nothing, and the slot at 2 wins its place back where two may be added
    exchange.offer(0, torch.tensor([0.0, 0.4, 0.7, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0]))
    change = exchange.change(0)
    assert change.add.tolist() == [7]
    assert change.keep.tolist() == ([0, 1] if together else [0, 3])
    assert exchange.change(1).add.tolist() == []


# in training


@pytest.mark.parametrize("allocation", ["uniform", "erk", "global"])
@pytest.mark.parametrize("optimiser", [None, torch.optim.Adam])
@pytest.mark.parametrize("price", [0.0, 3.0, 100.0])
def test_the_subspace_stays_within_its_bounds_and_its_state_has_its_size(allocation, optimiser, price):
    options = {**ADAPTIVE, "slot_price": price, "allocation": allocation, "sparsity": 0.7, "replace_every": 2}
    session = Session(SSVI(SSVIOptions(**options)), optimiser=optimiser)
    start = {name: len(index) for name, index in session.slots().items()}
    sizes = [start]
    for batch in batches(STEPS):
        session.step(batch)
        sizes.append({name: len(index) for name, index in session.slots().items()})
        for name, _, found in sparse_layers(session.module):
            assert bool((found.index[1:] > found.index[:-1]).all())
            for parameter in (found.mean, found.rho):
                state = session.optimiser.state[parameter]
                assert parameter.shape == (sizes[-1][name],) == (found.active,)
                assert {v.shape for v in state.values() if v.dim()} == {parameter.shape}
    assert len({tuple(size.values()) for size in sizes}) > 3, "the dimension never changed"
    least, most = (round(density * 320) for density in (0.05, 0.6))
    totals = [sum(size.values()) for size in sizes]
    assert least <= min(totals) and max(totals) <= most
    for name, slots in start.items() if allocation != "global" else ():
        ratio = slots / 0.3
        counts = [size[name] for size in sizes]
        assert round(0.05 * ratio) <= min(counts) and max(counts) <= max(round(0.6 * ratio), slots)
    # a price that nothing earns shrinks, and the subspace rests after replace_until
    assert totals[-1] < totals[0] or price < 100
    assert len(set(totals[math.floor(0.75 * STEPS) :])) == 1


def run(**options):
    chosen = {"name": "ssvi", "sparsity": 0.8, "replace_every": 3, **ADAPTIVE, **options}
    return parse_spec(
        {
            "dataset": {"name": "digits", "val": 100, "test": 100},
            "network": {"name": "mlp", "hidden": [12]},
            "method": chosen,
            "training": {"epochs": 3, "batch_size": 100, "lr": 0.05},
        }
    )


@pytest.mark.parametrize("mode", ["sparse", "dense"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, mode, optimiser):
    specification = replace(run(), training=replace(run().training, optimiser=optimiser))
    stores = [Store(tmp_path / name, create=True) for name in ("whole", "sliced")]
    how = Execution(checkpoint_seconds=0.0, mode=mode)
    assert execute(specification, stores[0], how) == "done"
    outcomes = []
    while outcomes[-1:] != ["done"]:
        asked = iter(range(7))
        outcomes.append(execute(specification, stores[1], how, stop=lambda a=asked: next(a, None) is None))
    assert outcomes.count("preempted") > 2
    files = [store.run(specification.run_id) for store in stores]
    assert files[0].read("metrics") == files[1].read("metrics")
    slots = [bench.load(specification.run_id, results=store.root).module for store in stores]
    first, second = (module.state_dict() for module in slots)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    counts = {posterior.active for *_, posterior in sparse_layers(slots[0])}
    assert counts != {
        posterior.active for *_, posterior in sparse_layers(make_problem(specification).build(Streams(0)))
    }


def test_the_flops_that_are_foreseen_are_not_exceeded(tmp_path):
    store, specification = Store(tmp_path, create=True), run(slot_price=0.0)
    assert execute(specification, store, Execution()) == "done"
    problem = make_problem(specification)
    foreseen = problem.method.training_flops(problem.build(Streams(0)), problem.budget)
    counted = store.run(specification.run_id).read("costs")["train_flops"] / len(problem.splits.train)
    assert 0 < counted <= foreseen


def test_bounds_do_not_matter_where_the_dimension_is_fixed():
    same = SSVI.equivalent(SSVIOptions(density_max=0.5, slot_price=1.0))
    assert same is not None and same.options["density_max"] == 0.2 and same.options["slot_price"] == 2.0
    assert SSVI.equivalent(SSVIOptions()) is None
    assert SSVI.equivalent(SSVIOptions(dimension="adaptive", slot_price=1.0)) is None


@pytest.mark.parametrize(
    "options",
    [{"sparsity": 0.3}, {"sparsity": 0.99, "density_min": 0.05}, {"sparsity": 0.0, "density_max": 1.0}],
)
def test_a_start_outside_the_bounds_is_one_line(options):
    with pytest.raises(
        UserError, match=r"^dimension adaptive: sparsity \S+ is a density of \S+ at the start; valid: "
    ):
        SSVIOptions(dimension="adaptive", **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "relevant", "examples"), [(1000, 10, 400), (1000, 20, 800), (4000, 10, 800)]
)
def test_a_planted_dimension_is_found_within_a_factor_of_two(tmp_path, features, relevant, examples):
    """A linear teacher on k features needs 2 k weights of a linear layer with two outputs."""
    found = bench.train(
        dataset="planted", results=tmp_path, epochs=60, batch_size=32, lr=0.05, dimension="adaptive",
        kl_factor=1.0, prior_std=0.3, initial_std=0.05,
        **{"dataset.features": features, "dataset.relevant": relevant, "dataset.train": examples,
           "network.hidden": [], "training.lr_scale": 10.0},
    )  # fmt: skip
    slots = int(found.tables["layers"]["slots"].iloc[-1])
    assert relevant <= slots <= 4 * relevant
