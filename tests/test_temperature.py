"""Temperature scaling: what is fitted, by hand and in simulation, at the edges, and the rows it gives."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.evaluation import calibration, evaluate, metrics, temperature
from bench.experiment.execution import Execution
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
from bench.results.store import Store
from bench.runner.execute import execute
from methods.core.streams import Streams
from tests import toys  # noqa: F401  (registers the toys)


@pytest.fixture(autouse=True)
def no_numerical_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def nll(log_probs, labels):
    return -log_probs[np.arange(len(labels)), labels]


def minimised(log_probs, labels, t):
    """The sum that T minimises, as the module's first lines have it."""
    return nll(temperature.scaled(log_probs, t), labels).sum() + math.log(t) + 1 / t - 1


def mis_scaled(n, t, seed, classes=5):
    """Labels drawn from a model, and its log probabilities (N, C) multiplied by ``t``."""
    random = np.random.default_rng(seed)
    log_probs = log_softmax(2.0 * random.normal(size=(n, classes)))
    labels = (np.exp(log_probs).cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    return log_softmax(t * log_probs), labels.clip(max=classes - 1)


@st.composite
def predictions(draw):
    """Log probabilities (N, C) of any confidence, and labels (N,) with any share of right ones."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, classes = draw(st.tuples(st.integers(1, 40), st.integers(2, 5)))
    spread = draw(st.sampled_from([0.0, 0.01, 0.3, 3.0, 40.0, 1000.0, 1e30]))
    log_probs = log_softmax(spread * random.normal(size=(n, classes)))
    right = random.random(n) < draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    return log_probs, np.where(right, log_probs.argmax(axis=1), random.integers(0, classes, n))


# -- what is fitted ----------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.3, 1.0, 2.5, 20.0])
def test_the_factor_of_a_mis_scaled_model_is_found(t):
    log_probs, labels = mis_scaled(20_000, t, seed=1)
    found = temperature.cross_fit(log_probs, labels)
    assert found.value == pytest.approx(t, abs=4 * found.spread)
    assert 0 < found.spread < 0.03 * t
    fresh, their_labels = mis_scaled(20_000, t, seed=2)
    probs = np.exp(temperature.scaled(fresh, found.value))
    assert metrics.ece(probs, their_labels) < 2 * metrics.ece_null(probs.max(axis=1))


def test_by_hand():
    # 0.9 for the first of two classes, which is the label of 3 in 4: T takes the odds from 9 to 3
    labels = np.arange(100_000) % 4 // 3
    log_probs = np.log(np.tile([0.9, 0.1], (len(labels), 1)))
    assert temperature.fit(log_probs, labels) == pytest.approx(math.log(9) / math.log(3), rel=1e-4)
    np.testing.assert_allclose(np.exp(temperature.scaled(np.log([[0.9, 0.1]]), 2.0)), [[0.75, 0.25]])


@given(predictions())
def test_no_neighbour_is_better(pair):
    t = temperature.fit(*pair)
    low, high = temperature.BOUNDS
    assert low <= t <= high
    best = minimised(*pair, t)
    for other in (t * 1.02, t / 1.02, 1.0, low, high):
        if low <= other <= high:
            assert best <= minimised(*pair, other) + 1e-9 * abs(best)


@given(predictions())
def test_the_data_that_t_is_fitted_on_are_never_predicted_worse(pair):
    log_probs, labels = pair
    after = nll(temperature.scaled(log_probs, temperature.fit(*pair)), labels).mean()
    before = nll(log_probs, labels).mean()
    assert after <= before + 1e-9 * max(before, 1.0)


@given(predictions())
def test_the_predicted_class_stays(pair):
    log_probs, labels = pair
    expected = metrics.summary(log_probs[None], labels)["accuracy"]
    for t in (*temperature.BOUNDS, 0.5, temperature.cross_fit(*pair).held_out):
        assert metrics.summary(temperature.scaled(log_probs, t)[None], labels)["accuracy"] == expected


@given(predictions())
def test_a_temperature_of_1_changes_no_metric(pair):
    log_probs, labels = pair
    found = metrics.summary(temperature.scaled(log_probs, 1.0)[None], labels)
    expected = metrics.summary(log_probs[None], labels)
    # of a square that is 0 but for rounding, the root is not as small
    assert found.pop("ece_marginal_l2") == pytest.approx(expected.pop("ece_marginal_l2"), abs=1e-7)
    # the last bit of a confidence or an entropy may decide a tie
    for name in ("error_auroc", "aurc"):
        del found[name], expected[name]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


# -- cross-fitting -----------------------------------------------------------------------


def test_an_example_has_no_part_in_its_own_temperature():
    log_probs, labels = mis_scaled(60, 2.0, seed=0)
    before = temperature.cross_fit(log_probs, labels)
    for i in range(0, 60, 7):
        changed = labels.copy()
        changed[i] = (labels[i] + 1) % 5
        after = temperature.cross_fit(log_probs, changed)
        assert after.held_out[i] == before.held_out[i]
        # six examples share its fold; every other fold's T was fitted on it
        assert (after.held_out == before.held_out).sum() == 6
        assert after.value != before.value


def test_few_examples_are_left_out_one_by_one():
    log_probs, labels = mis_scaled(7, 3.0, seed=3)
    found = temperature.cross_fit(log_probs, labels)
    each = [temperature.fit(np.delete(log_probs, i, axis=0), np.delete(labels, i)) for i in range(7)]
    assert found.held_out.tolist() == each
    assert found.spread == pytest.approx(math.sqrt(6 / 7 * ((each - np.mean(each)) ** 2).sum()))
    assert found.value == temperature.fit(log_probs, labels)


def test_folds_are_even_and_mixed_however_the_examples_are_ordered():
    for labels in (np.arange(250) // 25, np.arange(250) % 10):  # side by side, in turn
        random = np.random.default_rng(0)
        log_probs = log_softmax(random.normal(size=(250, 10)))
        folds = temperature.cross_fit(log_probs, labels).held_out
        values, counts = np.unique(folds, return_counts=True)
        assert counts.tolist() == [25] * 10
        assert all(len(np.unique(labels[folds == value])) >= 6 for value in values)


def test_the_spread_is_what_the_temperature_varies_by():
    found = [temperature.cross_fit(*mis_scaled(400, 2.0, seed)) for seed in range(150)]
    expected = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.spread for one in found]) == pytest.approx(expected, rel=0.2)


def test_what_is_held_out_is_not_optimistic():
    """On noise, a T fitted on the very examples looks better than T = 1, and a cross-fitted one does not."""
    seen, held_out = [], []
    for seed in range(150):
        log_probs, labels = mis_scaled(40, 1.0, seed)
        fitted, before = temperature.cross_fit(log_probs, labels), nll(log_probs, labels).mean()
        for found, t in ((seen, fitted.value), (held_out, fitted.held_out)):
            found.append(nll(temperature.scaled(log_probs, t), labels).mean() - before)
    assert np.mean(seen) < -0.005
    assert np.mean(held_out) > 0.005


# -- edges -------------------------------------------------------------------------------


def test_where_all_are_right_a_mistake_to_come_stays_affordable():
    log_probs = np.log(np.tile([0.99, 0.01], (250, 1)))
    found = temperature.cross_fit(log_probs, np.zeros(250, dtype=int))
    assert 0.5 < found.value < 0.7  # without a prior it would be the least
    assert np.isfinite(found.held_out).all() and found.spread < 0.05


def test_where_all_are_wrong_predictions_become_uniform():
    log_probs = log_softmax(np.tile([30.0, 0.0, 0.0], (250, 1)))
    t = temperature.fit(log_probs, np.full(250, 1))
    assert t == pytest.approx(temperature.BOUNDS[1])
    assert nll(temperature.scaled(log_probs, t), [1]) == pytest.approx(math.log(3), abs=0.3)


def test_where_everything_is_right_and_undecided_the_least_is_taken():
    log_probs = log_softmax(np.tile([0.01, 0.0], (10_000, 1)))
    assert temperature.fit(log_probs, np.zeros(10_000, dtype=int)) == pytest.approx(temperature.BOUNDS[0])


def test_predictions_that_cannot_be_scaled_are_left_alone():
    uniform = np.full((50, 4), math.log(0.25))
    assert temperature.fit(uniform, np.arange(50) % 4) == 1.0
    with np.errstate(divide="ignore"):
        certain = np.log(np.tile([1.0, 0.0], (50, 1)))
    assert temperature.fit(certain, np.zeros(50, dtype=int)) == 1.0
    assert temperature.fit(certain, np.ones(50, dtype=int)) == 1.0  # probability 0 at any T
    assert temperature.fit(np.empty((0, 4)), np.empty(0, dtype=int)) == 1.0


def test_one_example_is_scored_as_it_is_and_has_no_spread():
    found = temperature.cross_fit([[math.log(0.3), math.log(0.7)]], [0])
    assert found.held_out.tolist() == [1.0] and math.isnan(found.spread)
    assert 1 < found.value < 2


def test_a_temperature_at_its_bound_is_not_called_certain():
    """Every example wrong, and sure of it: no temperature is high enough."""
    log_probs = np.log([[0.999, 0.001]] * 50)
    found = temperature.cross_fit(log_probs, [1] * 50)
    assert found.value == temperature.BOUNDS[1] and math.isnan(found.spread)


def test_a_label_of_probability_0_has_no_say():
    log_probs, labels = mis_scaled(200, 2.0, seed=0)
    expected = temperature.fit(log_probs, labels)
    impossible = np.array([[0.0, *[-math.inf] * 4]])
    assert temperature.fit(np.vstack([log_probs, impossible]), [*labels, 3]) == expected
    scaled = temperature.scaled(impossible, 2.0)
    assert scaled.tolist() == impossible.tolist()


@pytest.mark.parametrize("size", [1e3, 1e30, 1e300])
def test_extreme_log_probabilities_give_finite_ones(size):
    log_probs = np.array([[0.0, -size, -size / 2], [-size, 0.0, -1.0]] * 20)
    for labels in (np.tile([0, 1], 20), np.tile([1, 0], 20), np.tile([0, 2], 20)):
        found = temperature.cross_fit(log_probs, labels)
        assert np.isfinite([found.value, *found.held_out]).all()
        assert math.isnan(found.spread) == (found.value in temperature.BOUNDS)
        scaled = temperature.scaled(log_probs, found.held_out)
        assert np.isfinite(scaled).all()
        np.testing.assert_allclose(np.exp(scaled).sum(axis=1), 1.0)


# -- the rows of a run -------------------------------------------------------------------


def spec(method="toy_two_stage", **options):
    chosen = {"dataset": "toy_blobs", "network": "toy_network", "method": method}
    return parse_spec(nest({**chosen, "epochs": 4, "batch_size": 16, "lr": 0.05, **options}))


def evaluated(run_spec):
    """Rows, arrays, pooled log probabilities of the draws and labels by split, of an untrained network."""
    problem = make_problem(run_spec)
    module, stage = problem.build(Streams(run_spec.seed)), problem.method.stages(problem.budget)[-1]
    draws = list(evaluate.fixed_draws(problem, module, stage))
    pooled = {
        name: metrics.log_mean_exp(
            [evaluate.log_probabilities(problem, module, draw, split) for draw in draws]
        )
        for name in ("val", "test")
        if (split := getattr(problem.splits, name)) is not None
    }
    labels = {name: getattr(problem.splits, name).labels.numpy() for name in pooled}
    return *evaluate.evaluate_stage(problem, module, stage), pooled, labels


def values(rows, predictor, split):
    return {r["metric"]: r["value"] for r in rows if (r["predictor"], r["split"]) == (predictor, split)}


def test_validation_rows_are_cross_fitted_and_test_rows_have_all_of_it():
    rows, arrays, pooled, labels = evaluated(spec("ssvi", sparsity=0.5))
    fitted = temperature.cross_fit(pooled["val"], labels["val"])
    for split, applied in (("val", fitted.held_out), ("test", fitted.value)):
        found = values(rows["metrics"], "samples+temperature", split)
        scaled = temperature.scaled(pooled[split], applied)
        expected = metrics.summary(scaled[None], labels[split])
        expected = {name: value for name, value in expected.items() if "mutual_information" not in name}
        expected |= {"temperature": np.mean(applied), "temperature_spread": fitted.spread}
        assert found == expected
        plain = values(rows["metrics"], "samples", split)
        assert plain.pop("mutual_information") > 0
        plain = {name: value for name, value in plain.items() if "mutual_information" not in name}
        assert plain.items() <= metrics.summary(pooled[split][None], labels[split]).items()
        diagram = [
            {key: row[key] for key in ("bin", "lower", "upper", "count", "confidence", "accuracy")}
            for row in rows["calibration"]
            if (row["predictor"], row["split"]) == ("samples+temperature", split)
        ]
        assert diagram == calibration.calibration_bins(np.exp(scaled), labels[split])
        curve = [
            {key: row[key] for key in ("coverage", "risk")}
            for row in rows["selective"]
            if (row["predictor"], row["split"]) == ("samples+temperature", split)
        ]
        assert curve == metrics.selective(np.exp(scaled), labels[split])
    assert not any("temperature" in name for name in arrays)
    np.testing.assert_allclose(arrays["samples/probabilities"], np.exp(pooled["test"]), atol=1e-6)


def test_there_is_none_without_a_validation_part():
    rows, *_ = evaluated(spec("ssvi", sparsity=0.5, protocol="refit"))
    assert {row["predictor"] for table in rows.values() for row in table} == {"mean", "samples"}


def test_every_predictor_of_every_stage_is_scaled(tmp_path):
    store, run = Store(tmp_path, create=True), spec()
    assert execute(run, store, Execution()) == "done"
    found = store.run(run.run_id).read("metrics")
    for table in ("metrics", "calibration", "selective"):
        assert {(row["stage"], row["predictor"], row["split"]) for row in found[table]} == {
            (stage, predictor + suffix, split)
            for stage in ("search", "final")
            for predictor in ("mean", "samples")
            for suffix in ("", "+temperature")
            for split in ("val", "test")
        }
    for row in found["metrics"]:
        if row["metric"] == "accuracy":
            plain = row["predictor"].removesuffix("+temperature"), row["split"]
            mine = [r for r in found["metrics"] if r["stage"] == row["stage"]]
            assert row["value"] == values(mine, *plain)["accuracy"]
