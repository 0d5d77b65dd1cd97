"""Splits, standardisation, and the embedded digits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data import digits
from bench.data.base import DATASETS, Dataset, Split, Splits
from bench.data.splitting import channel_statistics, stratified
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams


def load(seed=0, **options):
    dataset = digits.Digits(parse(digits.DigitsOptions, options))
    return dataset, dataset.parts(Streams(seed)["split"])


def images_of(split):
    return sorted(
        bytes(image.flatten().tolist()) + bytes([label]) for image, label in zip(*pair(split), strict=True)
    )


def pair(split):
    return split.inputs, split.labels.tolist()


def test_digits_are_found_and_have_the_documented_shapes():
    assert DATASETS.get("digits") is digits.Digits
    _, splits = load()
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [1097, 250, 450]
    assert splits.classes == 10
    for part in (splits.train, splits.val, splits.test):
        assert part.inputs.shape == (len(part), 1, 8, 8)
        assert (part.inputs.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert part.inputs.max() == 16
        assert part.labels.unique().tolist() == list(range(10))


def test_parts_make_up_the_whole_set_pixel_by_pixel():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    published = Split(torch.from_numpy(images), torch.from_numpy(labels))
    whole = Split(published.inputs.to(torch.uint8), published.labels)
    assert torch.equal(whole.inputs.double(), published.inputs)  # uint8 loses nothing
    _, splits = load(seed=3)
    parts = [image for part in (splits.train, splits.val, splits.test) for image in images_of(part)]
    assert sorted(parts) == images_of(whole)


def test_the_reading_without_importing_scikit_learn_is_what_it_gives(monkeypatch):
    direct = digits._table()
    monkeypatch.setattr(digits, "_FILE", "no/such/file")
    assert (digits._table() == direct).all()


def test_a_missing_scikit_learn_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^data set digits: ships inside scikit-learn, which is not installed$"
    ):
        digits._table()


def test_a_seed_gives_the_same_split_and_another_seed_another():
    (_, first), (_, again), (_, other) = load(1), load(1), load(2)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(first, part).inputs, getattr(again, part).inputs)
        assert torch.equal(getattr(first, part).labels, getattr(again, part).labels)
        assert images_of(getattr(first, part)) != images_of(getattr(other, part))


def test_loading_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    load(5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", range(5))
def test_every_part_holds_each_class_in_proportion(seed):
    _, splits = load(seed)
    parts = (splits.train, splits.val, splits.test)
    whole = sum(part.labels.bincount(minlength=10) for part in parts)
    for part in parts:
        expected = whole * len(part) / whole.sum()
        assert (part.labels.bincount(minlength=10) - expected).abs().max() <= 1.5


def test_sizes_are_options_with_bounds():
    _, splits = load(val=100, test=600)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [1097, 100, 600]
    for options in ({"val": 5}, {"test": 601}, {"val": 0.5}, {"validation": 100}):
        with pytest.raises(UserError, match=r"val|test"):
            load(**options)


def test_inputs_are_standardised_by_the_training_part_alone():
    dataset, splits = load()
    prepared = dataset.prepare(splits.train.inputs, splits, None)
    assert prepared.dtype == torch.float32
    assert prepared.mean().item() == pytest.approx(0, abs=1e-5)
    assert prepared.square().mean().item() == pytest.approx(1, abs=1e-5)

    values = splits.train.inputs.double()
    assert splits.mean.item() == pytest.approx(values.mean().item(), rel=1e-6)
    assert splits.std.item() == pytest.approx(values.std(correction=0).item(), rel=1e-6)
    everything = torch.cat([splits.train.inputs, splits.val.inputs, splits.test.inputs]).double()
    assert splits.mean.item() != pytest.approx(everything.mean().item(), rel=1e-6)


def test_preparing_is_invertible_and_leaves_what_is_stored():
    dataset, splits = load()
    stored = splits.val.inputs.clone()
    prepared = dataset.prepare(splits.val.inputs, splits, Streams(0)["augmentation"])
    assert torch.equal((prepared * splits.std + splits.mean).round().to(torch.uint8), stored)
    assert torch.equal(splits.val.inputs, stored)


def test_splits_without_statistics_pass_floats_through():
    inputs = torch.randn(4, 3)
    part = Split(inputs, torch.zeros(4, dtype=torch.long))
    splits = Splits(part, part, part, classes=1)
    assert torch.equal(Dataset().prepare(inputs, splits, None), inputs)


def test_splits_move_as_a_whole():
    _, splits = load()
    moved = splits.to("meta")
    tensors = [moved.mean, moved.std]
    tensors += [t for part in (moved.train, moved.val, moved.test) for t in (part.inputs, part.labels)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.classes == splits.classes


def test_statistics_are_per_channel_over_more_than_one_chunk():
    inputs = torch.randint(
        0, 256, (5000, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    inputs[:, 1] //= 4
    mean, std = channel_statistics(inputs)
    assert mean.shape == std.shape == (1, 3, 1, 1)
    assert torch.allclose(mean, inputs.double().mean((0, 2, 3), keepdim=True).float())
    assert torch.allclose(std, inputs.double().std((0, 2, 3), correction=0, keepdim=True).float())


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    shares=st.lists(st.floats(0, 0.4), min_size=1, max_size=2),
    seed=st.integers(0, 2**32),
)
def test_stratified_parts_are_disjoint_complete_and_in_proportion(counts, shares, seed):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    sizes = [int(share * len(labels)) for share in shares]
    parts = stratified(labels, sizes, torch.Generator().manual_seed(seed))
    assert [len(part) for part in parts] == [*sizes, len(labels) - sum(sizes)]
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(labels)))
    left = labels.bincount(minlength=len(counts))
    for part in parts:
        held = labels[part].bincount(minlength=len(counts))
        assert ((held - left * len(part) / left.sum()).abs() < 1).all()
        left = left - held
        if not left.sum():
            break


def test_stratified_class_counts_do_not_depend_on_the_seed():
    labels = torch.arange(103) % 7
    first, second = (stratified(labels, [31], torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(first[0].sort().values, second[0].sort().values)
    assert torch.equal(labels[first[0]].bincount(), labels[second[0]].bincount())
