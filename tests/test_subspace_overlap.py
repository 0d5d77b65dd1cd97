"""The overlap of two subspaces against simulated chance, and of trained models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bench
from bench.statistics import subspace_overlap
from methods.layers.layer import sparse_layers

SIZES = {"fc1": (400, 60, 90), "fc2": (50, 30, 10)}


def drawn(generator, side):
    found = {}
    for name, (size, *counts) in SIZES.items():
        found[name] = np.zeros(size, dtype=bool)
        found[name][generator.permutation(size)[: counts[side]]] = True
    return found


def test_chance_is_that_of_random_subspaces():
    generator = np.random.default_rng(0)
    pairs = [subspace_overlap(drawn(generator, 0), drawn(generator, 1)) for _ in range(2000)]
    values = np.array([pair.iou for pair in pairs])
    assert len({pair.chance for pair in pairs}) == 1
    assert pairs[0].chance == pytest.approx(values.mean(), rel=0.02)
    inside = (values >= pairs[0].low) & (values <= pairs[0].high)
    assert 0.93 <= inside.mean() <= 0.98
    deviations = np.array([pair.deviations for pair in pairs])
    assert abs(deviations.mean()) < 0.1 and deviations.std() == pytest.approx(1, rel=0.05)


def test_equal_and_disjoint_subspaces():
    mask = np.arange(10) < 4
    equal = subspace_overlap({"a": mask}, {"a": mask.reshape(2, 5)})
    assert equal.iou == 1 and equal.chance == pytest.approx(1.6 / 6.4) and equal.deviations > 2
    assert subspace_overlap({"a": mask}, {"a": ~mask}).iou == 0
    whole = subspace_overlap({"a": mask | True}, {"a": mask | True})
    assert whole[:4] == (1, 1, 1, 1) and np.isnan(whole.deviations)


@pytest.mark.parametrize("other", [{}, {"b": np.ones(3)}, {"a": np.ones(4)}])
def test_subspaces_of_other_networks_are_refused(other):
    with pytest.raises(ValueError, match="not the same sparse layers"):
        subspace_overlap({"a": np.ones(3)} if other else {}, other)


def test_models_say_which_weights_are_active(tmp_path):
    network = {"name": "mlp", "hidden": [8]}
    given = {"dataset": "digits", "network": network, "sparsity": 0.8, "epochs": 1, "results": tmp_path}
    models = [bench.train("ssvi", seed=seed, **given).model for seed in (0, 1)]
    first, second = (model.active() for model in models)
    assert first.keys() == {"fc1", "classifier"} and first["fc1"].shape == (8, 64)
    for name, _, posterior in sparse_layers(models[0].module):
        assert torch.equal(first[name].flatten().nonzero().view(-1), posterior.index.long())
    found = subspace_overlap(first, second)
    assert 0 < found.iou < 1 and found.low < found.chance < found.high
