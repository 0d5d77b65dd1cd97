"""Planted problems: classes, the relevant set, and what a seed decides."""

from __future__ import annotations

import pytest
import torch

from bench.data.tables.planted import Planted, PlantedOptions
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams


def planted(**options):
    return Planted(parse(PlantedOptions, {"features": 200, "train": 300, **options}))


def load(seed=0, **options):
    dataset = planted(**options)
    return dataset, dataset.parts(Streams(seed)["split"], False, seed)


@pytest.mark.parametrize("teacher", ["linear", "network"])
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_balanced_in_every_part(teacher, classes):
    dataset, splits = load(teacher=teacher, classes=classes, val=31, correlation=0.5)
    for part in (splits.train, splits.val, splits.test):
        counts = part.labels.bincount(minlength=classes)
        assert counts.max() - counts.min() <= 1
    assert [len(splits.train), len(splits.val), len(splits.test)] == [300, 31, 500]
    assert dataset.task().examples == 300 and dataset.task(refit=True).examples == 331


def test_only_relevant_features_tell_the_classes_apart():
    dataset, splits = load(train=4000, relevant=8, noise=0.0)
    relevant = dataset.relevant()
    assert relevant.tolist() == sorted(set(relevant.tolist())) and len(relevant) == 8
    means = [splits.train.inputs[splits.train.labels == label].mean(0) for label in (0, 1)]
    strength = (means[1] - means[0]).abs()
    assert sorted(strength.topk(8).indices.tolist()) == relevant.tolist()


def test_a_noiseless_linear_teacher_is_learned_by_its_own_features():
    dataset, splits = load(noise=0.0, relevant=5)
    seen = splits.train.inputs[:, dataset.relevant()]
    signs = torch.linalg.lstsq(seen, splits.train.labels.float()[:, None] * 2 - 1).solution.sign()
    guessed = (splits.test.inputs[:, dataset.relevant()] @ signs)[:, 0] > 0
    assert (guessed == splits.test.labels).float().mean() > 0.97


def test_the_problem_is_one_for_all_seeds_and_the_training_part_is_a_seed_s_own():
    (one, first), (_, second) = load(0), load(1)
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert not torch.equal(first.train.inputs, second.train.inputs)
    other = planted(problem=1)
    assert not torch.equal(one.relevant(), other.relevant())
    assert torch.equal(one.relevant(), planted(train=17).relevant())


def test_neighbours_are_correlated_as_asked():
    _, splits = load(train=3000, correlation=0.7)
    inputs = splits.train.inputs
    found = (inputs[:, 1:] * inputs[:, :-1]).mean() / inputs.square().mean()
    assert float(found) == pytest.approx(0.7, abs=0.02)


def test_more_relevant_features_than_features_are_refused():
    with pytest.raises(UserError, match=r"relevant: 300 is above features, 200"):
        planted(relevant=300)


def test_a_hundred_thousand_features_are_drawn():
    _, splits = load(features=100_000, train=20, val=10, test=10)
    assert splits.train.inputs.shape == (20, 100_000)
