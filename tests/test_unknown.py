"""Inputs of no class: what each set holds, that it is always the same, and what is said without its files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.data import draws, files, validation
from bench.data.base import DATASETS, Split, Splits
from bench.data.splitting import feature_statistics
from bench.data.unknown import altered, noise, other_images, tables
from bench.data.unknown.letters import LETTERS
from methods.core.errors import UserError
from methods.core.streams import Streams
from tests import image_files

EMBEDDED = ("digits", "digits_without_9", "fashion_mnist_sample")


def parts(name, seed=0):
    return DATASETS.get(name)().parts(Streams(seed)["split"])


def made(name, chosen, seed=0):
    return DATASETS.get(name)().unknown()[chosen](parts(name, seed))


def digest(inputs):
    return hashlib.sha256(inputs.contiguous().numpy().tobytes()).hexdigest()[:12]


def colour(count=6, size=32):
    """Return parts with images in colour, drawn at random."""
    stream = torch.Generator().manual_seed(3)
    shape = (count, 3, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=stream)
    part = Split(images, torch.zeros(count, dtype=torch.long))
    mean, std = images.double().mean((0, 2, 3)), images.double().std((0, 2, 3))
    return Splits(part, None, part, 1, mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1))


def table(rows=400, columns=4):
    stream = torch.Generator().manual_seed(5)
    x = torch.randn(rows, columns, generator=stream) * torch.tensor([1.0, 10.0, 0.1, 0.0])[:columns] + 3
    x[:, 1] += 5 * x[:, 0]
    half = rows // 2
    labels = torch.zeros(half, dtype=torch.long)
    return Splits(Split(x[:half], labels), None, Split(x[half:], labels), 1)


# -- random numbers from content -----------------------------------------------------------------


def test_numbers_are_those_of_splitmix64():
    """The first numbers of the sequence with seed 1234567, as Vigna's reference program prints them."""
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    found = draws.uniform(np.array([1234567], dtype=np.uint64), 4)[0]
    assert found.tolist() == [((number >> 12) + 0.5) / 2**52 for number in first]


def test_numbers_depend_on_content_and_purpose_alone():
    one, two = draws.keys([b"a", b"b", b"a"], "fog 1"), draws.keys([b"b"], "fog 1")
    assert one[0] == one[2] != one[1] == two[0]
    assert draws.keys([b"a"], "fog 2") != one[:1]
    assert draws.keys([b"1a"], "fog ") != draws.keys([b"a"], "fog 1")
    drawn = draws.uniform(one, 2, 3)
    assert drawn.shape == (3, 2, 3) and np.array_equal(drawn[1:2], draws.uniform(two, 2, 3))
    assert not np.intersect1d(drawn, draws.uniform(one, 2, 3, part=1)).size


def test_numbers_are_distributed_as_they_should():
    from scipy.stats import kstest

    keys = draws.keys((bytes([i]) for i in range(50)), "x")
    assert kstest(draws.uniform(keys, 1000).ravel(), "uniform").pvalue > 0.01
    assert kstest(draws.normal(keys, 1000).ravel(), "norm").pvalue > 0.01


# -- what data sets declare ----------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_set_of_data_without_a_download_fits(name):
    dataset, splits = DATASETS.get(name)(), parts(name)
    sets = dataset.unknown()
    assert {"letters", "photographs", "inverted", "noise_uniform", "noise_gaussian"} <= {*sets}
    test = {bytes(image.flatten().tolist()) for image in splits.test.inputs}
    for chosen, function in sets.items():
        found = function(splits)
        validation.require_unknown(name, chosen, found, splits)
        assert found.max() <= dataset.top and found.max() > dataset.top * 0.9
        assert not test & {bytes(image.flatten().tolist()) for image in found}
        assert torch.equal(function(splits), found)


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "kmnist", "cifar10", "cifar100", "svhn"])
def test_a_set_is_not_unknown_to_itself(name):
    sets = DATASETS.get(name)().unknown()
    assert name not in sets and {"noise_uniform", "noise_gaussian"} <= {*sets}


def test_the_sets_of_cifar_and_fashion_mnist():
    shared = {"svhn", "svhn_sample", "dtd", "dtd_sample", "mnist", "patches_shuffled"}
    noises = {"noise_uniform", "noise_gaussian"}
    assert {*DATASETS.get("cifar10")().unknown()} == {"cifar100"} | shared | noises
    assert {*DATASETS.get("cifar100")().unknown()} == {"cifar10"} | shared | noises
    assert {*DATASETS.get("fashion_mnist")().unknown()} == {"mnist", "kmnist", "rotated", "inverted"} | noises


def test_nines_are_held_out_of_training():
    splits, whole = parts("digits_without_9"), parts("digits")
    assert splits.classes == 9
    labels = torch.cat([part.labels for part in (splits.train, splits.val, splits.test)])
    assert labels.unique().tolist() == list(range(9)) and len(labels) == 1617
    nines = made("digits_without_9", "digit_9")
    assert len(nines) == 180
    official = torch.cat([part.inputs[part.labels == 9] for part in (whole.train, whole.val, whole.test)])
    assert sorted(map(digest, nines)) == sorted(map(digest, official))


def test_letters_and_photographs_do_not_depend_on_the_run():
    for chosen in ("letters", "photographs"):
        assert torch.equal(made("digits", chosen, 0), made("digits", chosen, 1))
    assert len(made("digits", "letters")) == 15 * len(LETTERS)
    assert len(made("digits", "photographs")) == 2 * 13 * 20
    assert not {*"BDGIOQSZbgijloqsz"} & {*LETTERS}


def test_another_process_makes_the_same_bytes():
    code = """
from tests.test_unknown import EMBEDDED, digest, parts
from bench.data.base import DATASETS
for name in EMBEDDED:
    for chosen, function in DATASETS.get(name)().unknown().items():
        print(name, chosen, digest(function(parts(name))))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = [
        f"{name} {chosen} {digest(function(parts(name)))}"
        for name in EMBEDDED
        for chosen, function in DATASETS.get(name)().unknown().items()
    ]
    assert said.splitlines() == here


# -- kinds of sets -------------------------------------------------------------------------------


def test_noise_images_have_the_distribution_that_they_promise():
    splits = colour(40)
    for name, function in noise.image_noise(255).items():
        found = function(splits).double()
        assert found.shape == splits.test.inputs.shape and len(found.unique()) > 250, name
    uniform = noise.image_noise(16)["noise_uniform"](splits)
    shares = uniform.flatten().long().bincount() / uniform.numel()
    assert shares.tolist() == pytest.approx([1 / 17] * 17, rel=0.05)
    narrow = Splits(splits.train, None, splits.test, 1, splits.mean * 0 + 100, splits.std * 0 + 10)
    found = noise.image_noise(255)["noise_gaussian"](narrow).double()
    assert float(found.mean()) == pytest.approx(100, abs=0.1)
    assert float(found.std()) == pytest.approx(10, rel=0.01)


def test_noise_does_not_depend_on_how_much_of_it_is_made():
    few, many = colour(10), colour(600)
    many = Splits(few.train, None, many.test, 1, few.mean, few.std)
    for function in (*noise.image_noise(255).values(), *noise.table_noise().values()):
        assert torch.equal(function(many)[:10], function(few))
    wide = table(20).test.inputs.repeat(1, 700)
    labels = torch.zeros(len(wide), dtype=torch.long)
    splits = Splits(Split(wide, labels), None, Split(wide, labels), 1)
    shuffled = tables.columns_shuffled(splits)
    assert torch.equal(shuffled.sort(0).values, wide.sort(0).values)
    narrow = Splits(Split(wide[:, :9], labels), None, Split(wide[:, :9], labels), 1)
    assert torch.equal(tables.columns_shuffled(narrow), shuffled[:, :9])


def test_the_numbers_of_an_input_of_any_shape_are_columns():
    flat = table()
    train, test = (replace(part, inputs=part.inputs.view(-1, 2, 2)) for part in (flat.train, flat.test))
    shaped = Splits(train, None, test, 1)
    for chosen, function in tables.table_sets().items():
        found = function(shaped)
        validation.require_unknown("table", chosen, found, shaped)
        assert torch.equal(found.flatten(1), function(flat)), chosen


def test_statistics_of_features():
    inputs = torch.randint(0, 256, (7, 5000, 2), generator=torch.Generator().manual_seed(0)).byte()
    mean, std = feature_statistics(inputs)
    assert mean.shape == std.shape == (5000, 2)
    assert mean.numpy() == pytest.approx(inputs.numpy().mean(0))
    assert std.numpy() == pytest.approx(inputs.numpy().std(0))
    other = inputs.flip(1)
    assert torch.equal(feature_statistics(other)[0], mean.flip(0))


def test_shuffled_patches_are_all_there_and_elsewhere():
    splits = colour()
    found = altered.patches_shuffled(4)(splits)
    assert found.shape == splits.test.inputs.shape

    def patches(image):
        return [digest(p) for row in image.split(8, 1) for p in row.split(8, 2)]

    for image, shuffled in zip(splits.test.inputs, found, strict=True):
        assert sorted(patches(image)) == sorted(patches(shuffled))
        assert patches(image) != patches(shuffled)
    # each image has an order of its own, which does not depend on the others
    orders = [
        [patches(i).index(p) for p in patches(s)] for i, s in zip(splits.test.inputs, found, strict=True)
    ]
    assert len({*map(tuple, orders)}) == len(orders)
    alone = Splits(splits.train, None, Split(splits.test.inputs[2:3], splits.test.labels[2:3]), 1)
    assert torch.equal(altered.patches_shuffled(4)(alone), found[2:3])


def test_rotated_and_inverted():
    splits = colour()
    turned = altered.rotated(splits)
    assert torch.equal(turned[:, :, 0, 0], splits.test.inputs[:, :, 0, -1])
    assert torch.equal(turned.rot90(3, (2, 3)), splits.test.inputs)
    assert torch.equal(altered.inverted(255)(splits) + splits.test.inputs, torch.full((6, 3, 32, 32), 255))


def test_sets_of_tables():
    splits = table()
    test, train = splits.test.inputs, splits.train.inputs
    for chosen, function in tables.table_sets().items():
        found = function(splits)
        validation.require_unknown("table", chosen, found, splits)
        assert not torch.equal(found, test), chosen
    shuffled = tables.columns_shuffled(splits)
    assert torch.equal(shuffled.sort(0).values, test.sort(0).values)
    correlation = float(torch.corrcoef(test.T[:2])[0, 1]), float(torch.corrcoef(shuffled.T[:2])[0, 1])
    assert abs(correlation[0]) > 0.3 and abs(correlation[1]) < 0.15
    permuted = tables.columns_permuted(splits)
    # standardised, the same numbers in the same rows; the constant column stays constant
    assert torch.equal(permuted[:, 3], test[:, 3]) or float(train.std(0)[3]) == 0
    std, mean = train.double().std(0, correction=0)[:3], train.double().mean(0)[:3]
    z = ((permuted[:, :3] - mean) / std).round(decimals=4)
    known = (
        torch.cat([(test[:, :3] - mean) / std, torch.zeros(len(test), 1)], 1).round(decimals=4).sort(1).values
    )
    for column in z.T:
        assert bool((column[:, None] - known).abs().amin(1).max() < 2e-3)
    low, high = train.amin(0), train.amax(0)
    uniform = noise.table_noise()["noise_uniform"](splits)
    assert bool((uniform >= low).all() and (uniform <= high).all())


# -- files ---------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    for kept in (files.official_part, other_images._textures):
        kept.cache_clear()
    yield tmp_path
    for kept in (files.official_part, other_images._textures):
        kept.cache_clear()


@pytest.mark.parametrize("name", sorted({*other_images.SOURCES, *other_images.SAMPLES, "dtd"}))
def test_missing_files_are_one_line_that_says_which_where_and_how(name, root):
    with pytest.raises(UserError) as error:
        other_images.other_images(name)[name](colour())
    line = str(error.value)
    assert "\n" not in line and name in line and str(root) in line
    assert "bench.download" in line or "download=True" in line or "numpy.save" in line


def test_a_sample_is_read_and_what_is_no_array_is_refused(root):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    file = root / other_images.SAMPLES["svhn_sample"]
    file.parent.mkdir()
    np.save(file, images)
    found = other_images.other_images("svhn_sample")["svhn_sample"](colour())
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), images)
    file.write_bytes(b"no array")
    with pytest.raises(UserError, match=r"svhn_sample: .* cannot be read"):
        other_images.other_images("svhn_sample")["svhn_sample"](colour())


def test_textures_are_centre_squares(root):
    from PIL import Image

    folder = root / "dtd" / "dtd"
    (folder / "images" / "dotted").mkdir(parents=True)
    (folder / "labels").mkdir()
    wide = np.zeros((40, 80, 3), dtype=np.uint8)
    wide[:, 20:60] = (200, 100, 50)
    Image.fromarray(wide).save(folder / "images" / "dotted" / "dotted_0001.png")
    (folder / "labels" / "test1.txt").write_text("dotted/dotted_0001.png\n")
    found = other_images.other_images("dtd")["dtd"](colour())
    assert found.shape == (1, 3, 32, 32)
    assert found[0, :, 16, 16].tolist() == [200, 100, 50] and found[0, :, 0, 0].tolist() == [200, 100, 50]


def test_real_collections_fit():
    """Sizes of the official test parts, and of the samples where there are any."""
    sizes = {"cifar10": {"cifar100": 10_000, "mnist": 10_000}, "fashion_mnist": {"mnist": 10_000}}
    for name, wanted in sizes.items():
        with image_files.needed():
            splits = parts(name)
            for chosen, count in wanted.items():
                found = DATASETS.get(name)().unknown()[chosen](splits)
                validation.require_unknown(name, chosen, found, splits)
                assert len(found) == count
                if chosen == "mnist" and name == "cifar10":
                    assert torch.equal(found[:, 0], found[:, 2]) and not found[:, :, :2].any()
