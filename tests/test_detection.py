"""Detection of unknown inputs: against scikit-learn, tables made by hand, and enumerated cases."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from bench.evaluation import metrics
from bench.evaluation.detection import (
    average_precision,
    chance_levels,
    detection,
    detectors,
    energy,
    fpr_at_tpr,
)

INF = float("inf")


def scikit_learns(known, unknown):
    """Return what scikit-learn says; scores are replaced by their ranks, since it takes no infinite ones."""
    scores = np.unique(np.concatenate([known, unknown]), return_inverse=True)[1].astype(float)
    out = np.repeat([False, True], [len(known), len(unknown)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class only
        # collinear points are kept, since the first one at 95 % may be among them
        fpr, tpr, _ = roc_curve(out, scores, drop_intermediate=False)
        return {
            "auroc": roc_auc_score(out, scores),
            "aupr_out": average_precision_score(out, scores),
            "aupr_in": average_precision_score(~out, -scores),
            "fpr95": fpr[np.argmax(tpr >= 0.95)] if len(unknown) > 0 else float("nan"),
        }


few = st.lists(st.sampled_from([-INF, -1.0, -0.0, 0.0, 0.5, 2.0, INF]), max_size=30)
many = st.lists(st.floats(-1e3, 1e3), max_size=60)


@given(st.one_of(st.tuples(few, few), st.tuples(many, many), st.tuples(few, many)).filter(lambda p: any(p)))
def test_measures_are_those_of_scikit_learn(pair):
    found, wanted = detection(*pair), scikit_learns(*map(np.array, pair))
    assert found == pytest.approx(wanted, abs=1e-12, nan_ok=True)


def test_all_orders_of_small_sets():
    for levels in itertools.product(range(3), repeat=4):
        for cut in range(5):
            known, unknown = levels[:cut], levels[cut:]
            wanted = scikit_learns(np.array(known, dtype=float), np.array(unknown, dtype=float))
            assert detection(known, unknown) == pytest.approx(wanted, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("known", "unknown", "wanted"),
    [
        ([0, 1], [2, 3], (1, 1, 1, 0)),  # perfect
        ([2, 3], [0, 1], (0, 5 / 12, 5 / 12, 1)),  # perfectly wrong: precisions 1/3 and 2/4
        ([1, 1, 1], [1], (1 / 2, 1 / 4, 3 / 4, 1)),  # constant
        ([0, 1], [1, 2], (7 / 8, 5 / 6, 5 / 6, 1 / 2)),  # one tie
        ([-INF, 0], [0, INF], (7 / 8, 5 / 6, 5 / 6, 1 / 2)),  # infinite ones are ranked as any
        ([INF, INF], [INF], (1 / 2, 1 / 3, 2 / 3, 1)),
        ([], [1, 2], (None, 1, 0, None)),  # one class
        ([1, 2], [], (None, 0, 1, None)),
    ],
)
def test_enumerated_cases(known, unknown, wanted):
    expected = {
        name: float("nan") if value is None else value
        for name, value in zip(("auroc", "aupr_out", "aupr_in", "fpr95"), wanted, strict=True)
    }
    assert detection(known, unknown) == pytest.approx(expected, nan_ok=True)


def test_the_threshold_finds_95_percent_and_not_more_than_it_must():
    unknown, known = np.arange(20) + 0.5, np.arange(20.0)
    # 19 of 20 unknown ones lie above 1, with 18 known ones
    assert fpr_at_tpr(np.r_[known, unknown], np.arange(40) >= 20) == 18 / 20
    assert fpr_at_tpr(np.r_[known, unknown], np.arange(40) >= 20, tpr=0.951) == 19 / 20


def test_scores_without_information_are_at_the_chance_levels():
    random = np.random.default_rng(0)
    known, unknown = random.random(30_000), random.random(10_000)
    levels = chance_levels(30_000, 10_000)
    assert levels == {"auroc": 0.5, "aupr_out": 0.25, "aupr_in": 0.75, "fpr95": 0.95}
    assert detection(known, unknown) == pytest.approx(levels, abs=0.015)
    assert detection(known * 0, unknown * 0) == levels | {"fpr95": 1}
    # with one class only, the areas say nothing beyond chance either
    for counts in ((5, 0), (0, 5)):
        found, chance = detection(np.arange(counts[0]), np.arange(counts[1])), chance_levels(*counts)
        assert {name: found[name] for name in ("aupr_out", "aupr_in")} == {
            name: chance[name] for name in ("aupr_out", "aupr_in")
        }


def test_only_the_order_of_scores_matters():
    random = np.random.default_rng(1)
    known, unknown = random.normal(size=50).round(1), random.normal(1, size=40).round(1)
    assert detection(np.exp(known), np.exp(unknown)) == detection(known, unknown)
    mirrored = detection(-known, -unknown)
    assert mirrored["auroc"] == pytest.approx(1 - detection(known, unknown)["auroc"])


def test_what_is_not_a_score_is_refused():
    for known, unknown in (([0.0, float("nan")], [1.0]), ([], []), ([[0.0]], [[1.0]])):
        with pytest.raises(ValueError, match="scores"):
            detection(known, unknown)


def test_detectors_of_probabilities():
    draws = np.log([[[0.5, 0.5], [0.9, 0.1], [0.8, 0.2]], [[0.5, 0.5], [0.1, 0.9], [0.8, 0.2]]])
    averaged = np.exp(metrics.log_mean_exp(draws))
    found = detectors(averaged, *metrics.entropies(draws))
    assert list(found) == ["max_probability", "entropy", "mutual_information", "expected_entropy"]
    assert found["max_probability"] == pytest.approx([0.5, 0.5, 0.2])
    one, nine, eight = (-p * np.log(p) - (1 - p) * np.log(1 - p) for p in (0.5, 0.9, 0.8))
    assert found["entropy"] == pytest.approx([one, one, eight])
    assert found["expected_entropy"] == pytest.approx([one, nine, eight])
    assert found["mutual_information"] == pytest.approx([0, one - nine, 0], abs=1e-15)


def test_confident_predictions_are_not_tied_by_rounding():
    probs = np.array([[1, 1e-20, 2e-20], [1, 1e-12, 0], [1, 0, 0]], dtype=np.float32)
    scores = detectors(probs, np.zeros(3), np.zeros(3))["max_probability"]
    assert scores == pytest.approx([3e-20, 1e-12, 0], rel=1e-6)


def test_energy():
    logits = np.array([[[0.0, 0.0], [1000.0, 0.0], [-INF, -INF], [INF, 0.0], [-INF, 3.0]]])
    assert energy(logits) == pytest.approx([-np.log(2), -1000, INF, -INF, -3])
    two = np.array([[[1.0, 2.0]], [[5.0, -1.0]]])
    assert energy(two) == pytest.approx([-(np.logaddexp(1, 2) + np.logaddexp(5, -1)) / 2])
    shifted = energy(two + 7)  # logits, unlike probabilities, have a level
    assert shifted == pytest.approx(energy(two) - 7)
    with pytest.raises(ValueError, match="logits"):
        energy(np.full((1, 1, 2), np.nan))


def test_average_precision_does_not_interpolate():
    # the highest score is a mistake, then two right ones: precisions 1/2 and 2/3
    assert average_precision([3, 2, 1], [False, True, True]) == pytest.approx((1 / 2 + 2 / 3) / 2)
