"""Indian Pines: regions of training and test that lie apart, and what random pixels leak."""

from __future__ import annotations

import pytest
import torch

from bench.data.tables.pixels import IndianPines, PixelOptions
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams
from tests.image_files import needed


def pines(**options):
    return IndianPines(parse(PixelOptions, options))


def distances(dataset, first, second):
    """Return the Chebyshev distance of each pixel of one part to the nearest pixel of another."""
    pixels = dataset.pixels()
    places = torch.stack([pixels.row, pixels.column], 1).float()
    return torch.cdist(places[first], places[second], p=torch.inf).amin(1)


@pytest.fixture(scope="module", autouse=True)
def _file():
    with needed():
        pines().pixels()


def test_the_file_is_the_corrected_scene():
    pixels = pines().pixels()
    assert pixels.spectra.shape == (10249, 200)
    assert pixels.labels.bincount().tolist() == [
        46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93,
    ]  # fmt: skip
    places = pixels.row * 145 + pixels.column
    assert len(places.unique()) == 10249 and int(places.max()) < 145**2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("block", "gap"), [(8, 2), (12, 1), (8, 0)])
def test_regions_are_apart_and_every_class_is_trained_on(seed, block, gap):
    dataset = pines(block=block, gap=gap, train=800, val=300, test=1000)
    train, val, test = dataset.divided(Streams(seed)["split"])
    assert [len(train), len(val), len(test)] == [800, 300, 1000]
    assert distances(dataset, train, test).min() > gap
    assert distances(dataset, train, val).min() > gap
    assert distances(dataset, val, test).min() > gap
    assert bool((dataset.pixels().labels[train].bincount(minlength=16) > 0).all())


def test_random_pixels_lie_beside_test_pixels_and_leak():
    """A nearest neighbour among the training pixels does much better if they surround the test pixels."""
    accuracy = {}
    for regions in ("random", "blocks"):
        dataset, scores = pines(regions=regions), []
        for seed in range(3):
            parts = dataset.divided(Streams(seed)["split"])
            splits = dataset.parts(Streams(seed)["split"], False, seed)
            inputs = {
                name: dataset.prepare(getattr(splits, name).inputs, splits, None)
                for name in ("train", "test")
            }
            nearest = splits.train.labels[torch.cdist(inputs["test"], inputs["train"]).argmin(1)]
            scores.append(float((nearest == splits.test.labels).float().mean()))
            share = float((distances(dataset, parts[2], parts[0]) <= 2).float().mean())
            assert share > 0.9 if regions == "random" else share == 0
        accuracy[regions] = sum(scores) / 3
    assert accuracy["random"] - accuracy["blocks"] > 0.05, accuracy


def test_more_pixels_than_the_regions_have_are_refused():
    with pytest.raises(
        UserError, match=r"^data set indian_pines: train: 5000 pixels, but its regions have only \d+"
    ):
        pines(train=5000).divided(Streams(0)["split"])
