"""The embedded sample of Fashion-MNIST: what it holds, how seeds split it, and that it needs little."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
import torch

from bench.data import fashion_mnist_sample, files
from bench.data.base import DATASETS
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams
from tests import image_files


def parts(seed=0, **options):
    dataset = DATASETS.get("fashion_mnist_sample")
    return dataset(parse(dataset.Options, options)).parts(Streams(seed)["split"])


def images_of(*splits):
    return sorted(image.numpy().tobytes() for split in splits for image in split.inputs)


def test_parts_have_the_documented_sizes_and_every_class_equally_often():
    splits = parts()
    found = (splits.train, splits.val, splits.test)
    assert [len(part) for part in found] == [600, 150, 250]
    for part in found:
        assert part.inputs.shape == (len(part), 1, 28, 28)
        assert (part.inputs.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert Counter(part.labels.tolist()) == dict.fromkeys(range(10), len(part) // 10)
    assert splits.classes == 10


def test_every_seed_splits_the_same_thousand_images_anew():
    first, again, other = parts(1), parts(1), parts(2)
    whole = images_of(fashion_mnist_sample.FashionMNISTSample().examples())
    assert len(whole) == 1000 and len(set(whole)) == 1000
    for splits in (first, other):
        assert images_of(splits.train, splits.val, splits.test) == whole
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert images_of(first.train) != images_of(other.train)


def test_sizes_are_options_with_bounds():
    splits = parts(val=20, test=300)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [680, 20, 300]
    for options in ({"val": 5}, {"test": 351}):
        with pytest.raises(UserError, match=r"lies outside \[10, 350\]"):
            parts(**options)


def test_it_is_the_first_hundred_training_images_of_each_class():
    with image_files.needed():
        official = files.official_part("fashion_mnist", "FashionMNIST", True)
    rows = torch.cat([(official.labels == label).nonzero()[:100, 0] for label in range(10)])
    sample = fashion_mnist_sample.FashionMNISTSample().examples()
    assert torch.equal(sample.inputs, official.inputs[rows])
    assert torch.equal(sample.labels, official.labels[rows])


def test_it_is_read_without_torchvision_and_stands_beside_its_licence():
    code = """
import sys
from bench.experiment.problem import make_problem
from bench.experiment.settings import nest
from bench.experiment.spec import parse_spec
spec = parse_spec(nest({"dataset": "fashion_mnist_sample", "network": "mlp", "method": "ssvi"}))
print(make_problem(spec).task.examples, "torchvision" in sys.modules)
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["600", "False"]
    licence = fashion_mnist_sample.SHEET.with_suffix(".LICENSE.txt").read_text()
    assert licence.startswith("The MIT License (MIT) Copyright © 2017 Zalando SE")
