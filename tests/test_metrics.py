"""The metrics: by hand, against the reference library, in simulation, and at the edges."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bench.evaluation import calibration, metrics

METRICS = {
    "accuracy",
    "nll",
    "brier",
    "ece",
    "ece_null",
    "ece_marginal_l2",
    "ece_adaptive",
    "ece_classwise",
    "ece_signed",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "entropy",
    "mutual_information",
    "confidence",
    "entropy_right",
    "entropy_wrong",
    "mutual_information_right",
    "mutual_information_wrong",
    "error_auroc",
    "aurc",
}


@pytest.fixture(autouse=True)
def no_numerical_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def log(probs):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probs, dtype=np.float64))


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def waves(n, classes, sharpness, decimals=None):
    """Probabilities (N, C) that look random and are the same everywhere, perhaps rounded."""
    grid = np.exp(sharpness * np.sin(np.arange(1, n * classes + 1) ** 1.5).reshape(n, classes))
    probs = grid / grid.sum(axis=1, keepdims=True)
    return probs if decimals is None else np.round(probs, decimals)


def partly_wrong(probs, every):
    """The predicted labels, but for one of ``every`` examples something else."""
    i = np.arange(len(probs))
    return np.where(i % every == 0, (i * i) % probs.shape[1], probs.argmax(axis=1))


@st.composite
def predictions(draw, min_draws=1):
    """Log probabilities (S, N, C) of any confidence, and labels (N,)."""
    seed = draw(st.integers(0, 2**32 - 1))
    shape = draw(st.tuples(st.integers(min_draws, 4), st.integers(1, 40), st.integers(2, 5)))
    random = np.random.default_rng(seed)
    spread = draw(st.sampled_from([0.0, 0.1, 3.0, 1000.0]))
    return log_softmax(spread * random.normal(size=shape)), random.integers(0, shape[2], shape[1])


# -- by hand -----------------------------------------------------------------------------


def test_summary_by_hand():
    draws = [[[0.8, 0.2], [0.6, 0.4]], [[0.6, 0.4], [0.2, 0.8]]]  # averages (0.7, 0.3) and (0.4, 0.6)
    found = metrics.summary(log(draws), [0, 0])

    def entropy(p):
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    predictive = (entropy(0.7) + entropy(0.4)) / 2
    of_draws = (entropy(0.8) + 2 * entropy(0.6) + entropy(0.2)) / 4
    assert set(found) == METRICS
    assert found["accuracy"] == 0.5
    assert found["nll"] == pytest.approx(-(math.log(0.7) + math.log(0.4)) / 2)
    assert found["brier"] == pytest.approx((2 * 0.3**2 + 2 * 0.6**2) / 2)
    # 0.7 lies in (10/15, 11/15] and is right, 0.6 in (8/15, 9/15] and is wrong
    assert found["ece"] == pytest.approx((0.3 + 0.6) / 2)
    # each of the two is off by 1 - c with probability c, and by c otherwise
    assert found["ece_null"] == pytest.approx((2 * 0.7 * 0.3 + 2 * 0.6 * 0.4) / 2, abs=0.02)
    assert found["entropy"] == pytest.approx(predictive)
    assert found["mutual_information"] == pytest.approx(predictive - of_draws)
    assert found["confidence"] == pytest.approx(0.65)
    # the first is right, and both more confident and less uncertain than the second, which is wrong
    assert (found["entropy_right"], found["entropy_wrong"]) == pytest.approx((entropy(0.7), entropy(0.4)))
    assert found["mutual_information_right"] == pytest.approx(
        entropy(0.7) - (entropy(0.8) + entropy(0.6)) / 2
    )
    assert found["mutual_information_wrong"] == pytest.approx(
        entropy(0.4) - (entropy(0.6) + entropy(0.2)) / 2
    )
    assert found["error_auroc"] == 1 and found["aurc"] == (0 + 1 / 2) / 2


def test_nothing_is_said_of_wrong_predictions_where_there_are_none():
    found = metrics.summary(log([[[0.8, 0.2], [0.6, 0.4]]]), [0, 0])
    assert math.isnan(found["entropy_wrong"]) and math.isnan(found["mutual_information_wrong"])
    assert math.isnan(found["error_auroc"]) and found["aurc"] == 0
    assert found["entropy_right"] == found["entropy"]
    found = metrics.summary(log([[[0.8, 0.2], [0.6, 0.4]]]), [1, 1])
    assert math.isnan(found["entropy_right"]) and math.isnan(found["error_auroc"]) and found["aurc"] == 1


def test_a_risk_coverage_curve_by_hand():
    """Of four examples the second most confident is wrong: risks 0, 1/2, 1/3, 1/4."""
    probs = [[0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
    curve = metrics.selective(probs, [0, 0, 1, 0])
    assert [row["coverage"] for row in curve] == [part / 20 for part in range(1, 21)]
    expected = [0.0] * 5 + [1 / 2] * 5 + [1 / 3] * 5 + [1 / 4] * 5
    assert [row["risk"] for row in curve] == pytest.approx(expected)
    found = metrics.summary(log([probs]), [0, 0, 1, 0])
    assert found["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    # entropies rise as confidences fall; of the three right ones two are less certain than the wrong one
    assert found["error_auroc"] == pytest.approx(1 / 3)


def test_of_equal_confidences_the_order_is_left_to_chance():
    """Three examples of one confidence, one of them wrong: whichever is taken, the risk to expect is 1/3."""
    probs = [[0.7, 0.3]] * 3
    for labels in ([1, 0, 0], [0, 1, 0], [0, 0, 1]):
        assert [row["risk"] for row in metrics.selective(probs, labels)] == pytest.approx([1 / 3] * 20)
        found = metrics.summary(log([probs]), labels)
        assert found["aurc"] == pytest.approx(1 / 3) and found["error_auroc"] == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_of_equal_confidences_every_order_counts_the_same(seed):
    """Against the mean of the curves of all orders that have the most confident first."""
    random = np.random.default_rng(seed)
    confidences, labels = random.choice([0.6, 0.7, 0.9], 6), random.integers(0, 2, 6)
    curves = [
        np.cumsum(labels[list(order)]) / np.arange(1, 7)
        for order in itertools.permutations(range(6))
        if np.all(np.diff(confidences[list(order)]) <= 0)
    ]
    probs = np.stack([confidences, 1 - confidences], axis=1)
    expected = np.mean(curves, axis=0)
    taken = [math.ceil(6 * part / 20) for part in range(1, 21)]
    found = metrics.selective(probs, labels)
    assert [row["risk"] for row in found] == pytest.approx(expected[np.array(taken) - 1])
    assert metrics.summary(log([probs]), labels)["aurc"] == pytest.approx(expected.mean())


@pytest.mark.parametrize("seed", range(5))
def test_of_twenty_examples_the_area_is_the_mean_of_the_curve(seed):
    random = np.random.default_rng(seed)
    probs = random.dirichlet([0.5] * 3, 20).round(1 + seed % 2)  # rounded, so that some are equal
    probs /= probs.sum(axis=1, keepdims=True)
    labels = random.integers(0, 3, 20)
    curve = [row["risk"] for row in metrics.selective(probs, labels)]
    with np.errstate(divide="ignore"):
        assert metrics.summary(np.log(probs)[None], labels)["aurc"] == pytest.approx(np.mean(curve))
    order = random.permutation(20)
    assert [row["risk"] for row in metrics.selective(probs[order], labels[order])] == pytest.approx(curve)


@pytest.mark.parametrize(("labels", "risk"), [([0, 0, 0], 0.0), ([1, 1, 1], 1.0)])
def test_the_curve_is_flat_where_all_are_right_or_all_are_wrong(labels, risk):
    curve = metrics.selective([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]], labels)
    assert [row["risk"] for row in curve] == [risk] * 20


@given(predictions())
def test_uncertainty_of_errors_agrees_with_scikit_learn_and_the_curve_with_its_area(pair):
    log_probs, labels = pair
    found = metrics.summary(log_probs, labels)
    averaged = metrics.log_mean_exp(log_probs)
    wrong = averaged.argmax(1) != labels
    entropy, _ = metrics.entropies(log_probs)
    if 0 < wrong.sum() < len(wrong):
        assert found["error_auroc"] == pytest.approx(roc_auc_score(wrong, entropy))
    curve = metrics.selective(np.exp(averaged), labels)
    assert curve[-1]["risk"] == pytest.approx(1 - found["accuracy"])
    assert all(0 <= row["risk"] <= 1 + 1e-12 for row in curve) and 0 <= found["aurc"] <= 1 + 1e-12


def test_entropies_of_each_example():
    # draws that agree, and draws that are sure of different labels
    found = metrics.entropies(log([[[0.5, 0.5], [1, 0]], [[0.5, 0.5], [0, 1]]]))
    np.testing.assert_allclose(found[0], [math.log(2), math.log(2)], rtol=1e-15)
    np.testing.assert_allclose(found[1], [0.0, math.log(2)], rtol=1e-15, atol=1e-15)


def test_reliability_diagram_by_hand():
    probs = [[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]
    rows = calibration.calibration_bins(probs, [0, 1, 0, 2], bins=4)
    assert rows == [
        {"bin": 0, "lower": 0.0, "upper": 0.25, "count": 0, "confidence": None, "accuracy": None},
        {"bin": 1, "lower": 0.25, "upper": 0.5, "count": 1, "confidence": 0.5, "accuracy": 1.0},
        {"bin": 2, "lower": 0.5, "upper": 0.75, "count": 2, "confidence": 0.725, "accuracy": 0.5},
        {"bin": 3, "lower": 0.75, "upper": 1.0, "count": 1, "confidence": 1.0, "accuracy": 1.0},
    ]
    assert calibration.ece(probs, [0, 1, 0, 2], bins=4) == pytest.approx((0.5 + 2 * 0.225 + 0) / 4)


def test_certain_predictions_lie_in_the_last_bin_even_when_rounded_above_1():
    probs = np.array([[1.0, 0.0], [1.0 + 1e-15, 0.0]])
    rows = calibration.calibration_bins(probs, [0, 1])
    assert [row["count"] for row in rows] == [0] * 14 + [2]
    assert rows[-1]["confidence"] == 1.0
    assert calibration.ece(probs, [0, 1]) == 0.5
    assert calibration.ece_null(probs.max(axis=1)) == pytest.approx(0.0, abs=1e-14)


def test_a_tie_predicts_the_first_class():
    tied = np.full((1, 2, 4), math.log(0.25))
    found = metrics.summary(tied, [0, 3])
    assert found["accuracy"] == 0.5
    assert found["ece"] == pytest.approx(0.25)


@given(st.integers(1, 40), st.data())
def test_a_confidence_at_an_edge_belongs_below_it(bins, data):
    edge = data.draw(st.integers(1, bins)) / bins
    rows = calibration.calibration_bins([[edge, 0.0]], [0], bins)
    assert next(row["upper"] for row in rows if row["count"]) == edge


def test_marginal_error_by_hand():
    # one bin a class, both classes alike: (0.6 - 0.5)^2 - 0.5 * 0.5 / 3 < 0, and (0.9 - 0.5)^2 - ... > 0
    assert calibration.marginal_l2([[0.6, 0.4]] * 4, [0, 0, 1, 1], bins=1) == 0.0
    expected = math.sqrt(0.4**2 - 0.25 / 3)
    assert calibration.marginal_l2([[0.9, 0.1]] * 4, [0, 0, 1, 1], bins=1) == pytest.approx(expected)
    # equal values share a bin, however many bins there are
    assert calibration.marginal_l2([[0.9, 0.1]] * 4, [0, 0, 1, 1], bins=15) == pytest.approx(expected)
    # bins of one example say nothing
    assert calibration.marginal_l2([[0.9, 0.1], [0.8, 0.2]], [1, 1], bins=2) == 0.0


# -- against the reference library -------------------------------------------------------

# lower_bound_scaling_ce(probs, labels) of uncertainty-calibration 0.1.4 (Kumar, Liang and Ma), numpy 2.4.
# get_calibration_error, which the released SSVI code calls, gives the same numbers wherever the probabilities
# are not mostly duplicates (in the fifth case alone they are; there it takes the distinct values for bins).
REFERENCE = [
    ((60, 3, 2.0, None), 3, 0.15953354439566567),
    ((200, 10, 4.0, None), 2, 0.09390396939980594),
    ((300, 2, 5.0, None), 5, 0.13330438377930948),
    ((400, 5, 0.5, None), 4, 0.18818882175536106),
    ((90, 4, 6.0, 1), 2, 0.2717452088883848),  # 181 zeros, 22 ones
    ((48, 3, 20.0, 2), 3, 0.16459734342804),  # 78 zeros, 34 ones
    ((20, 3, 2.0, None), 2, 0.08063500986401019),  # bins of two examples and of one
    ((33, 4, 2.0, None), 2, 0.16427637666647893),
    ((7, 4, 3.0, None), 2, 0.0),  # bins of one example
]


@pytest.mark.parametrize(("case", "every", "expected"), REFERENCE, ids=lambda value: str(value))
def test_marginal_error_equals_the_reference_library(case, every, expected):
    probs = waves(*case)
    found = calibration.marginal_l2(probs, partly_wrong(probs, every))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


# -- in simulation -----------------------------------------------------------------------


def calibrated(n, classes, seed):
    """Predictions and labels drawn from them."""
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.full(classes, 0.3), n)
    return probs, (probs.cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize("n", [300, 10_000])
def test_a_calibrated_model_scores_what_ece_null_says(n):
    drawn = [calibrated(n, 4, seed) for seed in range(60)]
    found = np.array([calibration.ece(*pair) for pair in drawn])
    expected = np.mean([calibration.ece_null(probs.max(axis=1)) for probs, _ in drawn[:6]])
    assert found.mean() == pytest.approx(expected, abs=4 * found.std() / math.sqrt(60))
    # overconfidence shows: the same labels, predictions sharpened
    probs, labels = drawn[0]
    sharp = probs**3 / (probs**3).sum(axis=1, keepdims=True)
    assert calibration.ece(sharp, labels) > 1.5 * calibration.ece_null(sharp.max(axis=1))


def test_ece_null_shrinks_with_examples_and_takes_no_state():
    before = np.random.get_state()[1].copy()
    few, many = (calibration.ece_null(np.linspace(0.3, 0.95, n)) for n in (100, 10_000))
    assert few == pytest.approx(10 * many, rel=0.1)
    assert calibration.ece_null(np.linspace(0.3, 0.95, 100)) == few
    assert (np.random.get_state()[1] == before).all()


def test_ece_null_does_not_depend_on_how_the_simulation_is_divided(monkeypatch):
    confidence = np.linspace(0.3, 0.95, 77)
    whole = calibration.ece_null(confidence)
    monkeypatch.setattr(calibration, "_CHUNK", 500)
    assert calibration.ece_null(confidence) == pytest.approx(whole, rel=1e-12)


def test_ece_null_of_one_bin_is_the_mean_absolute_deviation_of_a_binomial():
    n, p = 20, 0.7
    exact = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) * abs(k / n - p) for k in range(n + 1))
    assert calibration.ece_null(np.full(n, p), draws=20_000) == pytest.approx(exact, rel=0.02)


def test_marginal_error_of_a_calibrated_model_is_near_zero_and_of_a_wrong_one_is_not():
    found = [calibration.marginal_l2(*calibrated(10_000, 4, seed)) for seed in range(5)]
    assert max(found) < 0.012
    probs, labels = calibrated(10_000, 4, 0)
    assert calibration.marginal_l2(0.5 * probs + 0.125, labels) > 0.1


# -- properties --------------------------------------------------------------------------


@given(predictions(), st.randoms(use_true_random=False))
def test_the_order_of_examples_and_of_draws_does_not_matter(pair, shuffler):
    log_probs, labels = pair
    examples, draws = list(range(len(labels))), list(range(len(log_probs)))
    shuffler.shuffle(examples)
    shuffler.shuffle(draws)
    found = metrics.summary(log_probs, labels)
    permuted = metrics.summary(log_probs[:, examples], labels[examples])
    # of a square that is 0 but for rounding, the root is not as small
    assert permuted.pop("ece_marginal_l2") == pytest.approx(found["ece_marginal_l2"], rel=1e-9, abs=1e-7)
    expected = {name: found[name] for name in permuted}
    assert permuted == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    reordered = metrics.summary(log_probs[draws], labels)
    # the others too, unless the last bit of an average decides a tie or a bin
    for name in ("nll", "brier", "entropy", "mutual_information", "confidence"):
        assert reordered[name] == pytest.approx(found[name], rel=1e-9, abs=1e-12)


@given(predictions())
def test_ranges(pair):
    log_probs, labels = pair
    found = metrics.summary(log_probs, labels)
    classes = log_probs.shape[2]
    for name in ("accuracy", "ece", "ece_null", "ece_marginal_l2", "confidence"):
        assert 0 <= found[name] <= 1
    assert found["confidence"] >= 1 / classes - 1e-12
    assert 0 <= found["brier"] <= 2 and found["nll"] >= -1e-12
    assert -1e-12 <= found["entropy"] <= math.log(classes) + 1e-12
    assert 0 <= found["mutual_information"] <= found["entropy"] + 1e-12
    assert found["mutual_information"] <= math.log(len(log_probs)) + 1e-12


@given(predictions())
def test_the_diagram_adds_up_to_the_ece(pair):
    log_probs, labels = pair
    probs = np.exp(metrics.log_mean_exp(log_probs))
    rows = calibration.calibration_bins(probs, labels)
    filled = [row for row in rows if row["count"]]
    assert sum(row["count"] for row in rows) == len(labels)
    assert all(row["lower"] - 1e-12 <= row["confidence"] <= row["upper"] + 1e-12 for row in filled)
    gaps = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in filled)
    assert calibration.ece(probs, labels) == pytest.approx(gaps / len(labels), abs=1e-12)


@given(predictions())
def test_a_single_draw_has_no_mutual_information(pair):
    log_probs = pair[0][:1]
    np.testing.assert_array_equal(metrics.log_mean_exp(log_probs), log_probs[0])
    assert (metrics.entropies(log_probs)[1] == 0).all()


# -- extremes ----------------------------------------------------------------------------


@given(predictions(min_draws=2))
def test_log_mean_exp_agrees_with_averaged_probabilities_where_these_exist(pair):
    averaged = np.exp(pair[0]).mean(axis=0)
    found = metrics.log_mean_exp(pair[0])
    safe = averaged > 1e-290
    np.testing.assert_allclose(found[safe], np.log(averaged[safe]), rtol=1e-12, atol=1e-14)


def test_log_mean_exp_beyond_the_range_of_float64():
    found = metrics.log_mean_exp([[[-2000.0, 0.0]], [[-2000.0 + math.log(3), 0.0]], [[-math.inf, 0.0]]])
    np.testing.assert_allclose(found, [[-2000 + math.log(4 / 3), 0.0]], rtol=1e-15)


def test_other_calibration_errors_by_hand():
    """Confidences 0.6, 0.7, 0.8 and 0.9; the second and the last prediction are wrong."""
    probs, labels = [[0.6, 0.4], [0.3, 0.7], [0.8, 0.2], [0.9, 0.1]], [0, 0, 0, 1]
    # two bins of two examples: 0.65 against 1/2, and 0.85 against 1/2
    assert calibration.adaptive_ece(probs, labels, bins=2) == pytest.approx((0.15 + 0.35) / 2)
    assert calibration.adaptive_ece(probs, labels, bins=9) == calibration.adaptive_ece(probs, labels, bins=4)
    # in two bins of width 1/2, class 0 has 0.3 below (happened) and 0.6, 0.8, 0.9 above (2 of 3 happened)
    assert calibration.classwise_ece(probs, labels, bins=2) == pytest.approx((0.7 + 0.3) / 4)
    assert calibration.signed_ece(probs, labels) == pytest.approx(0.5 - 0.75)
    found = calibration.brier_parts(probs, labels, bins=2)
    assert found.reliability == pytest.approx(2 * (0.7**2 + 3 * 0.1**2) / 4)
    assert found.resolution == pytest.approx(2 * ((1 - 0.75) ** 2 + 3 * (2 / 3 - 0.75) ** 2) / 4)
    assert found.uncertainty == pytest.approx(2 * 0.75 * 0.25)


@given(predictions())
def test_the_parts_of_a_brier_score_give_it_where_bins_hide_nothing(pair):
    log_probs, labels = pair
    # probabilities at the right ends of the bins are alone in them
    probs = np.maximum(np.ceil(np.exp(log_probs[0]) * 8), 1) / 8
    found = calibration.brier_parts(probs, labels, bins=8)
    brier = ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1).mean()
    assert found.reliability - found.resolution + found.uncertainty == pytest.approx(brier, abs=1e-9)


@given(predictions())
def test_signed_error_is_within_the_calibration_errors_of_any_bins(pair):
    log_probs, labels = pair
    probs = np.exp(log_probs[0])
    signed = abs(calibration.signed_ece(probs, labels))
    for bins in (1, 7, 15):
        assert signed <= calibration.ece(probs, labels, bins) + 1e-9
        assert signed <= calibration.adaptive_ece(probs, labels, bins) + 1e-9
    assert calibration.ece(probs, labels, 1) == pytest.approx(signed, abs=1e-9)
    assert calibration.adaptive_ece(probs, labels, 1) == pytest.approx(signed, abs=1e-9)


def test_nll_is_finite_for_logits_of_a_thousand():
    logits = np.array([[[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 1000.0]]] * 2)
    found = metrics.summary(log_softmax(logits), [1, 1])
    assert found["nll"] == pytest.approx((2000 + math.log(2)) / 2)
    assert all(math.isfinite(value) for value in found.values())


def test_probability_zero_gives_no_nan():
    certain = log([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]] * 3)
    found = metrics.summary(certain, [0, 1])
    none = {"entropy_wrong", "mutual_information_wrong", "error_auroc"}  # no prediction is wrong
    assert {name for name, value in found.items() if math.isnan(value)} == none
    others = {name: value for name, value in found.items() if value and name not in none}
    of_two_classes = {"brier_resolution": 0.5, "brier_uncertainty": 0.5}
    assert others == {"accuracy": 1.0, "confidence": 1.0} | of_two_classes
    assert metrics.log_mean_exp(certain)[0].tolist() == [0.0, -math.inf, -math.inf]
    wrong = metrics.summary(certain, [1, 1])
    assert wrong.pop("nll") == math.inf
    assert all(math.isfinite(value) for value in wrong.values())


@pytest.mark.parametrize(
    "function",
    [
        calibration.ece,
        calibration.adaptive_ece,
        calibration.classwise_ece,
        calibration.signed_ece,
        calibration.brier_parts,
        calibration.calibration_bins,
        calibration.marginal_l2,
    ],
)
def test_nan_and_misshapen_probabilities_are_refused(function):
    with pytest.raises(ValueError, match=r"probabilities \(N, C\) contain NaN"):
        function([[0.5, math.nan]], [0])
    with pytest.raises(ValueError, match=r"expected probabilities \(N, C\).* shape \(2,\)"):
        function([0.5, 0.5], [0])
    with pytest.raises(ValueError, match=r"at least one example, got an array of shape \(0, 3\)"):
        function(np.empty((0, 3)), [])


def test_nan_draws_and_confidences_are_refused():
    log_probs = np.full((2, 3, 2), math.log(0.5))
    log_probs[1, 2, 0] = math.nan
    message = r"log probabilities \(S, N, C\) contain NaN"
    for function in (metrics.log_mean_exp, metrics.entropies):
        with pytest.raises(ValueError, match=message):
            function(log_probs)
    with pytest.raises(ValueError, match=message):
        metrics.summary(log_probs, [0, 1, 0])
    with pytest.raises(ValueError, match=r"confidences \(N,\) contain NaN"):
        calibration.ece_null([0.5, math.nan])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], r"labels must lie in 0\.\.1, got 0\.\.2"),
        ([-1, 0], r"labels must lie in 0\.\.1, got -1\.\.0"),
        ([0], r"expected 2 integer labels, got int64 of shape \(1,\)"),
        ([0.0, 1.0], r"expected 2 integer labels, got float64"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    log_probs = np.full((1, 2, 2), math.log(0.5))
    with pytest.raises(ValueError, match=message):
        metrics.summary(log_probs, labels)
    with pytest.raises(ValueError, match=message):
        calibration.marginal_l2(np.exp(log_probs[0]), labels)


def test_float32_and_small_integer_labels_are_scored_in_float64():
    probs = waves(50, 3, 2.0).astype(np.float32)
    labels = partly_wrong(probs, 3)
    found = metrics.summary(log(probs)[None], labels.astype(np.uint8))
    assert found == metrics.summary(log(probs.astype(np.float64))[None], labels)
    assert metrics.log_mean_exp(np.log(probs)[None]).dtype == np.float64
