"""The statements of docs/theory.md, on linear regression in float64, where they are exact."""

from __future__ import annotations

import math

import pytest
import torch

from methods.layers.posterior import SparseGaussian

LAM, PRIOR = 0.02, 0.7


def gaussian(mean, std):
    size = len(mean)
    index = torch.arange(size, dtype=torch.int32)
    return SparseGaussian((size,), index, mean, std, "exp")


class Regression:
    """L(w) = mean (y - X w)^2 / 2, with posterior means and scales of all weights."""

    def __init__(self, seed=0, size=6, share=0.0):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(40, size, generator=g, dtype=torch.float64)
        self.x = (1 - share) * self.x + share * self.x[:, :1]
        self.y = self.x @ torch.linspace(0, 1, size, dtype=torch.float64)
        self.y += 0.2 * torch.randn(40, generator=g, dtype=torch.float64)
        self.hessian = self.x.t() @ self.x / 40
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.std = torch.full((size,), PRIOR, dtype=torch.float64)
        self.settle(range(size))

    def gradient(self, mean):
        return self.x.t() @ (self.x @ mean - self.y) / 40

    def settle(self, weights):
        """Make means and scales of ``weights`` stationary, and leave the others as they are."""
        weights = list(weights)
        curvature = self.hessian.diagonal()[weights]
        self.std[weights] = (curvature / LAM + PRIOR**-2) ** -0.5
        part = self.hessian[weights][:, weights] + LAM / PRIOR**2 * torch.eye(
            len(weights), dtype=torch.float64
        )
        others = self.mean.clone()
        others[weights] = 0
        self.mean[weights] = torch.linalg.solve(part, -self.gradient(others)[weights])

    def free_energy(self, active, mean=None, std=None):
        """F, with the loss averaged over the posterior in closed form and the KL of this package."""
        mean, std = (
            given if given is not None else own for given, own in ((mean, self.mean), (std, self.std))
        )
        on = torch.zeros(len(mean), dtype=torch.bool)
        on[list(active)] = True
        residual = self.y - self.x @ torch.where(on, mean, 0)
        spread = (self.x.square() @ torch.where(on, std.square(), 0)).mean()
        kl = float(gaussian(mean[on], std[on]).kl(PRIOR).detach()) if on.any() else 0.0
        return float((residual.square().mean() + spread) / 2 + LAM * kl)


@pytest.mark.parametrize("seed", range(5))
def test_removing_a_stationary_weight_costs_its_signal_to_noise_ratio(seed):
    model, everything = Regression(seed), set(range(6))
    before, signs = model.free_energy(everything), set()
    for i in everything:
        change = model.free_energy(everything - {i}) - before
        ratio, log = float(model.mean[i] ** 2 / model.std[i] ** 2), 2 * math.log(model.std[i] / PRIOR)
        assert change == pytest.approx(LAM / 2 * (ratio + log), rel=1e-6, abs=1e-9)
        assert (change <= 0) == (math.sqrt(ratio) <= math.sqrt(-log))
        signs.add(change > 0)
    assert signs == {True, False}


@pytest.mark.parametrize("scale", [0.01, 0.2, 2.0])
def test_adding_a_weight_never_decreases_the_free_energy(scale):
    model = Regression()
    active = {0, 1, 2, 3}
    model.mean[[4, 5]] = 0
    model.settle(active)
    std = model.std.clone()
    std[4] = scale
    before = model.free_energy(active)
    assert model.free_energy(active | {4}, std=std) > before
    best = (model.hessian[4, 4] / LAM + PRIOR**-2) ** -0.5
    std[4] = best
    added = model.free_energy(active | {4}, std=std) - before
    assert added == pytest.approx(LAM / 2 * math.log(PRIOR**2 / best**2), rel=1e-6)
    assert added <= model.free_energy(active | {4}, std=torch.where(std == best, scale, std)) - before


@pytest.mark.parametrize(("gone", "added"), [(0, 5), (1, 4), (3, 5)])
def test_an_exchange_pays_if_the_gradient_is_large_enough(gone, added):
    model = Regression(3)
    active = set(range(6)) - {4, 5}
    model.mean[[4, 5]] = 0
    model.settle(active)
    before, after = model.free_energy(active), active - {gone} | {added}
    std, mean = model.std.clone(), model.mean.clone()
    std[added] = (model.hessian[added, added] / LAM + PRIOR**-2) ** -0.5
    ratio = float(mean[gone] ** 2 / std[gone] ** 2)
    cost = LAM / 2 * (ratio + 2 * math.log(std[gone] / std[added]))
    assert model.free_energy(after, mean, std) - before == pytest.approx(cost, rel=1e-6)
    mean[gone] = 0
    gradient, curvature = (
        float(model.gradient(mean)[added]),
        float(model.hessian[added, added]) + LAM / PRIOR**2,
    )
    mean[added] = -gradient / curvature
    change = model.free_energy(after, mean, std) - before
    assert change == pytest.approx(cost - gradient**2 / (2 * curvature), rel=1e-6)
    assert (change <= 0) == (gradient**2 / curvature >= 2 * cost)


def test_weights_that_may_go_alone_may_not_go_together():
    """Two equal inputs; the slope of the data is chosen so that each weight alone is just cheap enough."""
    model = Regression(size=2, share=1.0)
    v = float(model.std[0] / PRIOR) ** 2
    wanted = 0.99 * math.sqrt(math.log(1 / v)) * float(model.std[0])
    # both means are stationary at `wanted` if the gradient there is -LAM wanted / PRIOR^2
    model.y = model.x @ torch.full((2,), wanted, dtype=torch.float64)
    model.y += model.x[:, 0] * LAM * wanted / PRIOR**2 / model.hessian[0, 0]
    model.mean = torch.full((2,), wanted, dtype=torch.float64)
    assert torch.allclose(model.gradient(model.mean), -LAM / PRIOR**2 * model.mean)
    both = model.free_energy({0, 1})
    assert model.free_energy({0}) < both and model.free_energy({1}) < both
    together = model.free_energy(set()) - both
    assert together > 0
    cross = float(model.hessian[0, 1]) * wanted**2
    alone = sum(model.free_energy({i}) - both for i in (0, 1))
    assert together == pytest.approx(alone + cross, rel=1e-6)


def test_a_weight_that_is_still_moving_may_be_dear_at_any_signal_to_noise_ratio():
    model = Regression()
    model.std[0] = 0.3
    model.mean[0] = 0.01 * 0.3
    model.y = model.x @ model.mean + 50 * model.x[:, 0]
    assert model.free_energy({1, 2, 3, 4, 5}) > model.free_energy(set(range(6)))
    assert abs(float(model.mean[0] / model.std[0])) < math.sqrt(2 * math.log(PRIOR / 0.3))
