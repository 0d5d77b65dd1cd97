"""The removal criteria: golden values, 60-digit references, rank identities, extremes."""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from methods.core.errors import UserError
from methods.core.style import Style
from methods.criteria.base import CRITERIA as REGISTRY
from methods.criteria.base import Criterion
from methods.criteria.moments import Moments

CRITERIA = ("abs_mean", "snr", "mean_abs", "snr_abs", "mean_exp", "snr_exp")

# mean, std, lambda, E|w|, SNR(|w|), ln E exp(lambda |w|), SNR(exp(lambda |w|)), D: rounded from 60 digits
GOLDEN = [
    (0.0, 1.0, 1.0, 0.7978845608, 1.323608097, 1.020393402, 1.068199424, 0.6293474682),
    (0.3, 1.0, 1.0, 0.8335224842, 1.325826596, 1.077039655, 1.002683102, 0.6904712612),
    (-0.7, 0.5, 2.0, 0.7366681427, 1.658388523, 1.912675613, 0.7769804319, 0.9769928075),
    (0.05, 0.02, 1.0, 0.05008016549, 2.529504458, 0.05027624018, 50.47138917, 3.924860751e-4),
    (0.01, 6e-4, 1.0, 0.01, 16.66666667, 0.01000018, 1666.666517, 3.6e-7),
    (1e-4, 6e-4, 1.0, 4.853644258e-4, 1.32383475, 4.854316447e-4, 2727.009484, 1.34470393e-7),
    (-0.08, 1e-6, 1.0, 0.08, 80000.0, 0.08, 1000000.0, 1e-12),
    (2.0, 3.0, 0.5, 2.906717883, 1.362541965, 2.213764233, 0.3756231358, 2.09032422),
]


def scores(name, mean, std, lam=1.0):
    """What weights are ranked by under one criterion."""
    return REGISTRY.get(name)().score(Moments(mean, std, lam))


def value(name, mean, std, lam=1.0):
    """A criterion by its definition."""
    return REGISTRY.get(name)().value(Moments(mean, std, lam))


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def pow10(exponent):
    return 10.0**exponent


def of_one(moment, mean, std, lam=1.0):
    """An attribute of ``Moments`` for a single weight."""
    return getattr(Moments(column(mean), column(std), lam), moment).item()


def reference(mean, std, lam):
    """E|w|, SNR(|w|), ln E exp(lambda |w|) and D from their definitions, in 60 digits."""
    with mpmath.workdps(60):
        mean, std, lam = mpmath.mpf(mean), mpmath.mpf(std), mpmath.mpf(lam)
        a = abs(mean)
        expected = a * mpmath.erf(a / std / mpmath.sqrt(2)) + 2 * std * mpmath.npdf(a / std)
        variance = mean**2 + std**2 - expected**2

        def log_expected_exp(t):
            # the two half-lines of the integral of exp(t |w|), each a completed square
            right = mpmath.exp(t * a) * mpmath.ncdf(a / std + t * std)
            left = mpmath.exp(-t * a) * mpmath.ncdf(t * std - a / std)
            return (t * std) ** 2 / 2 + mpmath.log(right + left)

        first = log_expected_exp(lam)
        ratio = log_expected_exp(2 * lam) - 2 * first
        return expected, expected / mpmath.sqrt(variance), first, ratio


def error(found, exact):
    """Relative error of a float against 60 digits."""
    with mpmath.workdps(60):
        return float(abs(mpmath.mpf(found) - exact) / exact)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"{row[0]}-{row[1]}-{row[2]}")
def test_golden_values(row):
    mean, std, lam, *expected = row
    names = "mean_abs", "snr_abs", "mean_exp", "snr_exp"
    found = [value(name, column(mean), column(std), lam).item() for name in names]
    found.append(of_one("log_moment_ratio", mean, std, lam))
    assert found == pytest.approx(expected, rel=1e-9, abs=0)
    assert scores("snr_exp", column(mean), column(std), lam).item() == pytest.approx(-expected[-1], rel=1e-9)


def test_the_reference_is_the_integral():
    mean, std, lam = -0.7, 0.5, 2.0
    expected, snr, log_exp, ratio = reference(mean, std, lam)

    def expectation(of):
        pieces = [mean - 12 * std, mean, 0, mean + 12 * std]
        return mpmath.quad(lambda w: of(abs(w)) * mpmath.npdf(w, mean, std), sorted(pieces))

    first, second = expectation(lambda a: mpmath.exp(lam * a)), expectation(lambda a: mpmath.exp(2 * lam * a))
    assert float(expected) == pytest.approx(float(expectation(lambda a: a)), rel=1e-9)
    variance = mean**2 + std**2 - float(expected) ** 2
    assert float(snr) == pytest.approx(float(expected) / math.sqrt(variance), rel=1e-9)
    assert float(log_exp) == pytest.approx(float(mpmath.log(first)), rel=1e-9)
    assert float(ratio) == pytest.approx(float(mpmath.log(second / first**2)), rel=1e-9)


# z = |mean| / std beside 0, and s = lambda * std with std from 1e-12 to 10
ratios = st.one_of(st.just(0.0), st.floats(-5, 1.6).map(pow10), st.floats(1.4, 6).map(pow10))
scales = st.floats(-12, 1).map(pow10)
lambdas = st.sampled_from([0.1, 0.5, 1.0, 2.0])


@given(ratios, scales, lambdas, st.sampled_from([-1, 1]))
def test_values_against_60_digits(z, std, lam, sign):
    mean, s = sign * z * std, lam * std
    expected, snr, log_exp, ratio = reference(mean, std, lam)
    assert error(of_one("expected_abs", mean, std), expected) < 1e-15
    assert error(value("snr_abs", column(mean), column(std)).item(), snr) < 3e-15
    assert error(of_one("log_expected_exp", mean, std, lam), log_exp) < 1e-10
    # the exact form of D loses as 1/s^2, its leading term as s; they meet at 5e-6
    allowed = 1e-15 + (1e-15 / s**2 if s >= 5e-6 else 0.64 * s)
    assert error(of_one("log_moment_ratio", mean, std, lam), ratio) < allowed


def test_normal_loss_and_variance_of_the_unit_normal():
    z = column(0.0, 0.5, 3.0, 29.9, 30.0, 1e300, math.inf)
    with mpmath.workdps(60):
        exact = [mpmath.npdf(x) - x * mpmath.ncdf(-x) for x in z[:4].tolist()]
    moments = Moments(z, torch.ones_like(z))
    loss = moments.normal_loss
    assert [error(a, b) < 1e-12 for a, b in zip(loss[:4].tolist(), exact, strict=True)] == [True] * 4
    assert loss[4:].tolist() == [0.0] * 3
    variance = moments.unit_variance_abs
    assert variance[0].item() == pytest.approx(1 - 2 / math.pi, rel=1e-15)
    assert variance[-4:].tolist() == [1.0] * 4
    assert variance.diff().min() >= 0


# -- which weights go: rank identities ---------------------------------------------------


def layer(n=200_000, seed=0):
    """Means N(0, 0.03^2), scales log-normal with median 1e-3 and unit log-variance."""
    g = torch.Generator().manual_seed(seed)
    mean = 0.03 * torch.randn(n, generator=g, dtype=torch.float64)
    return mean, 1e-3 * torch.randn(n, generator=g, dtype=torch.float64).exp()


def removed(score, share=0.3):
    gone = torch.zeros(len(score), dtype=torch.bool)
    gone[score.argsort()[: round(share * len(score))]] = True
    return gone


def iou(a, b):
    return ((a & b).sum() / (a | b).sum()).item()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("abs_mean", "mean_abs", 0.987),
        ("abs_mean", "snr", 0.512),
        ("snr", "snr_abs", 1.0),
        ("mean_abs", "mean_exp", 1.0),
        ("abs_mean", "snr_exp", 0.163),
        ("snr", "snr_exp", 0.427),
    ],
)
def test_overlap_of_removed_sets_in_a_typical_layer(a, b, expected):
    found = iou(*(removed(scores(criterion, *layer())) for criterion in (a, b)))
    assert found == pytest.approx(expected, abs=0.01)


@given(st.integers(0, 10_000), st.floats(-2, 1).map(pow10), st.floats(-1, 1).map(pow10), lambdas)
def test_snr_and_snr_abs_remove_the_same_weights(seed, wider, noisier, lam):
    mean, std = layer(2000, seed)
    mean, std = mean * wider, std * noisier
    by_snr = scores("snr", mean, std, lam)
    assume(len(by_snr.unique()) == len(by_snr))
    assert torch.equal(removed(by_snr), removed(scores("snr_abs", mean, std, lam)))
    # and so does the definition, but for rounding
    assert value("snr_abs", mean, std, lam)[by_snr.argsort()].diff().min() > -1e-14


def test_snr_of_the_absolute_value_increases_with_z():
    z = np.concatenate([np.linspace(0, 1, 40), np.linspace(1.1, 40, 40)])
    exact = [reference(x, 1.0, 1.0)[1] for x in z]
    assert all(below < above for below, above in pairwise(exact))
    far_from_flat = torch.logspace(-2, 8, 2000, dtype=torch.float64)
    assert value("snr_abs", far_from_flat, torch.ones(2000)).diff().min() > 0


@pytest.mark.parametrize("spread", [0.005, 0.03, 0.1])
@pytest.mark.parametrize("median", [1e-4, 1e-3, 1e-2])
def test_mean_exp_ranks_as_mean_abs_at_lambda_1(spread, median):
    mean, std = layer(50_000)
    mean, std = mean * (spread / 0.03), std * (median / 1e-3)
    assert iou(removed(scores("mean_exp", mean, std)), removed(scores("mean_abs", mean, std))) >= 0.996


def test_mean_exp_tends_to_mean_abs_with_lambda():
    mean, std = layer(1000)
    expected = scores("mean_abs", mean, std)
    assert torch.allclose(scores("mean_exp", mean, std, 1e-9) / 1e-9, expected, rtol=1e-9, atol=0)
    # away from the limit the tails decide: E exp is carried by std^2
    mean, std = column(1.0, 0.9), column(0.01, 0.1)
    assert scores("mean_abs", mean, std).argmin() == scores("mean_exp", mean, std, 1.0).argmin() == 1
    assert scores("mean_exp", mean, std, 100.0).argmin() == 0


def test_mean_abs_is_the_magnitude_from_z_3_on_and_credits_uncertainty_below():
    std = torch.full((5,), 0.1, dtype=torch.float64)
    mean = column(0.3, -0.4, 1.0, 5.0, -3.1)
    assert torch.allclose(scores("mean_abs", mean, std), mean.abs(), rtol=3e-3)
    assert (scores("mean_abs", mean, std) >= mean.abs()).all()
    small = scores("mean_abs", column(0.01, 0.01), column(0.001, 0.1))
    assert small[1] > 5 * small[0]


def test_snr_exp_ranks_by_the_smallest_std():
    mean, std = layer(50_000)
    assert 0.96 <= spearmanr(scores("snr_exp", mean, std), -std).statistic <= 0.997
    # a large mean with a large scale goes first, though every other criterion keeps it
    mean, std = column(0.5, 0.001, 0.002), column(0.05, 0.001, 0.002)
    first = {name: scores(name, mean, std).argmin().item() for name in CRITERIA}
    assert first.pop("snr_exp") == 0
    assert 0 not in first.values()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_more_mean_at_equal_std_is_never_worse_but_for_snr_exp(criterion):
    mean = torch.linspace(0, 0.06, 61, dtype=torch.float64)
    std = torch.full_like(mean, 0.02)
    steps = scores(criterion, mean, std).diff()
    assert (steps < 0).all() if criterion == "snr_exp" else (steps > 0).all()
    assert torch.equal(scores(criterion, -mean, std), scores(criterion, mean, std))


@given(ratios, scales, ratios, scales, lambdas)
def test_scores_order_any_two_weights_as_the_definitions_do(z_a, std_a, z_b, std_b, lam):
    mean, std = column(z_a * std_a, -z_b * std_b), column(std_a, std_b)
    exact = [reference(m, s, lam) for m, s in zip(mean.tolist(), std.tolist(), strict=True)]
    keys = {"mean_abs": 0, "snr_abs": 1, "mean_exp": 2, "snr_exp": 3}
    # the larger by more than rounding; -D where SNR(exp) is meant
    for name, key in keys.items():
        a, b = (-e[key] if name == "snr_exp" else e[key] for e in exact)
        if abs(a - b) > (1e-4 if name == "snr_exp" else 1e-9) * max(abs(a), abs(b)):
            found = scores(name, mean, std, lam)
            assert bool(found[0] > found[1]) == bool(a > b), name


# -- extremes and bad input --------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("lam", [0.01, 1.0, 100.0])
def test_finite_over_all_scales(criterion, lam):
    std = torch.logspace(-12, 1, 27, dtype=torch.float64)
    mean = torch.cat([column(0.0), torch.logspace(-12, 1, 27, dtype=torch.float64)])
    grid = torch.meshgrid(mean, std, indexing="ij")
    score = scores(criterion, *grid, lam)
    assert score.shape == (28, 27)
    assert score.isfinite().all()
    assert not value(criterion, *grid, lam).isnan().any()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_underflow_of_std_gives_an_infinite_ratio_and_no_nan(criterion):
    mean, std = column(1.0, 1.0, 0.0), column(1e-3, 5e-324, 5e-324)
    score = scores(criterion, mean, std)
    assert not score.isnan().any()
    assert score[1] > score[2] or criterion == "snr_exp"
    if criterion in ("snr", "snr_abs"):
        assert score.tolist() == [1000.0, math.inf, 0.0]
        assert value(criterion, mean, std)[1] == math.inf


@pytest.mark.parametrize("criterion", CRITERIA)
def test_float32_is_taken_to_float64_first(criterion):
    mean = torch.tensor([0.3, -1e-4, 2e-30], requires_grad=True)
    std = torch.tensor([6e-4, 6e-4, 1e-38])
    score = scores(criterion, mean, std)
    assert score.dtype == torch.float64 and not score.requires_grad
    assert torch.equal(score, scores(criterion, mean.detach().double(), std.double()))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_nan_means_are_seen_and_scales_must_be_positive(criterion):
    assert scores(criterion, column(math.nan, 1.0), column(1.0, 1.0)).isnan().tolist() == [True, False]
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="std must be positive"):
            scores(criterion, column(1.0, 1.0), column(1.0, bad))
    for lam in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="lambda must be positive"):
            scores(criterion, column(1.0), column(1.0), lam)


def test_an_unknown_criterion_is_the_users_error():
    with pytest.raises(UserError, match=r"unknown criterion 'magnitude'.*; valid: abs_mean, mean_abs"):
        REGISTRY.get("magnitude")


# -- entries -----------------------------------------------------------------------------


def test_the_built_in_criteria_in_their_order():
    entries = [REGISTRY.get(name) for name in REGISTRY.names()]
    ours = [entry for entry in entries if REGISTRY.is_own(entry)]
    assert tuple(entry.name for entry in ours) == CRITERIA
    assert {entry.version for entry in ours} == {1}
    assert {entry.name: entry.ranks_as for entry in ours if entry.ranks_as} == {"snr_abs": "snr"}
    assert {entry.name for entry in ours if entry.uses_lam} == {"mean_exp", "snr_exp"}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_lambda_enters_where_it_is_said_to(criterion):
    mean, std = layer(100)
    same = torch.equal(scores(criterion, mean, std, 1.0), scores(criterion, mean, std, 2.0))
    assert same != REGISTRY.get(criterion).uses_lam


WORDS = {"style": Style("Mine", "#000000", "#ffffff", order=-1), "formula": "w", "latex": "w", "source": "me"}


def test_criteria_of_others_come_after_the_built_in_ones_whatever_their_order(monkeypatch):
    mine = type("Mine", (Criterion,), {"name": "mine", **WORDS})
    monkeypatch.setitem(REGISTRY._registered, "mine", mine)
    assert tuple(REGISTRY.names()) == (*CRITERIA, "mine")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"style": None}, "criterion mine: needs a style"),
        ({"formula": ""}, "criterion mine: formula must be a line of 1 to 300 characters"),
        ({"latex": "$w$"}, "criterion mine: latex must have no dollar signs"),
        ({"latex": "a\nb"}, "criterion mine: latex must be a line"),
        ({"source": None}, "criterion mine: source must be a line"),
        ({"source": "x" * 301}, "criterion mine: source must be a line"),
        ({"ranks_as": "snr"}, "criterion mine: ranks as snr, but because does not say why"),
    ],
)
def test_a_criterion_that_is_declared_wrongly_is_refused_where_it_is_written(wrong, words):
    with pytest.raises(TypeError, match=words):
        type("Mine", (Criterion,), {"name": "mine", **WORDS, **wrong})


def test_what_criteria_share_is_computed_once(monkeypatch):
    calls = []
    real = torch.special.erfcx
    monkeypatch.setattr(torch.special, "erfcx", lambda x: calls.append(x) or real(x))
    moments = Moments(*layer(100))
    for name in CRITERIA:
        REGISTRY.get(name)().score(moments)
    assert len(calls) == 1


@pytest.mark.parametrize("criterion", ["mean_exp", "snr_exp"])
def test_the_score_of_a_weight_does_not_depend_on_the_weights_beside_it(criterion):
    """Bit for bit: the expansions for tiny scales are only computed where there are such weights."""
    mean, std = torch.tensor([0.3, -0.02, 1.0, 0.0]), torch.tensor([0.1, 0.01, 2.0, 1e-3])
    alone = REGISTRY.get(criterion)().score(Moments(mean, std))
    tiny = torch.cat([mean, torch.tensor([0.1])]), torch.cat([std, torch.tensor([1e-6])])
    beside = REGISTRY.get(criterion)().score(Moments(*tiny))
    assert torch.equal(beside[:4], alone) and bool(beside[4].isfinite())


def test_the_signs_of_means_are_there_for_criteria_that_ask():
    moments = Moments(torch.tensor([-0.5, 2.0], requires_grad=True), torch.ones(2))
    assert moments.mean.tolist() == [-0.5, 2.0] and moments.mean.dtype == torch.float64
    assert not moments.mean.requires_grad and moments.a.tolist() == [0.5, 2.0]
