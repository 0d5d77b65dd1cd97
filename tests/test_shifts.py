"""Shifted inputs: constants as published, what operators do, and results that are the same everywhere."""

from __future__ import annotations

import colorsys
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage

from bench.data import validation
from bench.data.base import DATASETS, SEVERITIES, Split, Splits
from bench.data.shifts import blur, digital, noise, official, tables, weather
from bench.data.shifts.batch import Batch, applied
from bench.data.shifts.constants import CONSTANTS
from bench.data.shifts.corruptions import CORRUPTIONS, corruptions
from methods.core.errors import UserError
from methods.core.streams import Streams

#: The lines of make_cifar_c.py that hold constants, as published.
PUBLISHED = """
gaussian_noise: [0.04, 0.06, .08, .09, .10]
shot_noise: [500, 250, 100, 75, 50]
impulse_noise: [.01, .02, .03, .05, .07]
defocus_blur: [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)]
glass_blur: [(0.05,1,1), (0.25,1,1), (0.4,1,1), (0.25,1,2), (0.4,1,2)]
motion_blur: [(6,1), (6,1.5), (6,2), (8,2), (9,2.5)]
zoom_blur: [np.arange(1, 1.06, 0.01), np.arange(1, 1.11, 0.01), np.arange(1, 1.16, 0.01), \
np.arange(1, 1.21, 0.01), np.arange(1, 1.26, 0.01)]
snow: [(0.1,0.2,1,0.6,8,3,0.95), (0.1,0.2,1,0.5,10,4,0.9), (0.15,0.3,1.75,0.55,10,4,0.9), \
(0.25,0.3,2.25,0.6,12,6,0.85), (0.3,0.3,1.25,0.65,14,12,0.8)]
frost: [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)]
fog: [(.2,3), (.5,3), (0.75,2.5), (1,2), (1.5,1.75)]
brightness: [.05, .1, .15, .2, .3]
contrast: [.75, .5, .4, .3, 0.15]
elastic_transform: [(32*0, 32*0, 32*0.08), (32*0.05, 32*0.2, 32*0.07), (32*0.08, 32*0.06, 32*0.06), \
(32*0.1, 32*0.04, 32*0.05), (32*0.1, 32*0.03, 32*0.03)]
pixelate: [0.95, 0.9, 0.85, 0.75, 0.65]
jpeg_compression: [80, 65, 58, 50, 40]
"""


def digest(inputs):
    return hashlib.sha256(inputs.contiguous().numpy().tobytes()).hexdigest()[:12]


def photographs(count=48):
    """Return squares of scikit-learn's photographs in colour, uint8 (N, 3, 32, 32)."""
    from sklearn.datasets import load_sample_images

    found = []
    for picture in load_sample_images().images:
        halves = picture[:416, :640].reshape(208, 2, 320, 2, 3).mean((1, 3))
        cut = halves[:192].reshape(6, 32, 10, 32, 3).transpose(0, 2, 4, 1, 3)
        found.append(np.rint(cut.reshape(-1, 3, 32, 32)).astype(np.uint8))
    return torch.from_numpy(np.concatenate(found)[:: 120 // count][:count])


def embedded(name, count=40):
    return DATASETS.get(name)().examples().inputs[::17][:count]


IMAGES = {
    "colour 32x32": (photographs, 255),
    "grey 28x28": (lambda: embedded("fashion_mnist_sample"), 255),
    "grey 8x8": (lambda: embedded("digits"), 16),
}


def batch(images, top=255):
    return Batch(images, np.arange(len(images), dtype=np.uint64), top)


def grey(value, count=40):
    return np.full((count, 1, 32, 32), value)


# -- constants -----------------------------------------------------------------------------------


def test_constants_are_the_published_ones():
    published = dict(line.split(": ", 1) for line in PUBLISHED.strip().splitlines())
    assert list(published) == list(CONSTANTS) == list(CORRUPTIONS) and len(CONSTANTS) == 15
    for name, text in published.items():
        ours, theirs = CONSTANTS[name], eval(text, {"np": np})
        assert len(ours) == len(SEVERITIES)
        for mine, wanted in zip(ours, theirs, strict=True):
            size = 32 if name == "elastic_transform" else 1
            assert np.array_equal(size * np.array(mine), np.array(wanted)), name


# -- distance from the clean image -----------------------------------------------------------------

#: Severities at which a corruption is no farther from the clean image than at the one before. The published
#: constants take back there what they add elsewhere: frost darkens the image, elastic_transform moves its
#: triangle less, and the blur of glass_blur smooths over pixels that it moved.
NOT_FARTHER = {
    "colour 32x32": {"glass_blur": [3, 5], "frost": [4, 5], "elastic_transform": [2, 3, 4, 5]},
    "grey 28x28": {"glass_blur": [5], "frost": [4], "elastic_transform": [2, 3, 4, 5]},
    # 17 levels hide a blur of a tenth of a pixel, and 0.15 after 0.1; eight pixels become 7, 7, 6, 6 and 5
    "grey 8x8": {
        "defocus_blur": [1],
        "glass_blur": [2],
        "frost": [4],
        "brightness": [3],
        "elastic_transform": [2, 3, 4, 5],
        "pixelate": [2, 4, 5],
    },
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_severity_is_farther_from_the_clean_image_than_the_one_before(kind):
    make, top = IMAGES[kind]
    images, found = make(), {}
    for name, shift in corruptions(top).items():
        shifted = [shift(images, severity, None).double() for severity in SEVERITIES]
        distances = [float((one - images.double()).abs().mean()) for one in shifted]
        steps = np.diff([0, *distances])
        if not (steps > 0).all():
            found[name] = (np.flatnonzero(steps <= 0) + 1).tolist()
    assert found == NOT_FARTHER[kind]


# -- the same everywhere -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_is_corrupted_by_itself(kind):
    """The result of an image does not depend on the others in its batch, nor on their order."""
    make, top = IMAGES[kind]
    images = make()[:7]
    for name, shift in corruptions(top).items():
        whole = shift(images, 3, None)
        validation.require_shifted(kind, name, whole, images)
        assert whole.max() <= top
        alone = torch.cat([shift(image[None], 3, None) for image in images])
        assert torch.equal(alone, whole), name
        assert torch.equal(shift(images.flip(0), 3, None).flip(0), whole), name


def test_large_batches_are_corrupted_in_parts():
    images = embedded("digits", 7).repeat(50, 1, 1, 1)
    for name in ("gaussian_noise", "jpeg_compression"):
        found = corruptions(16)[name](images, 2, None)
        assert torch.equal(found, corruptions(16)[name](images[:7], 2, None).repeat(50, 1, 1, 1))


def test_images_names_and_severities_have_noise_of_their_own():
    images = torch.full((2, 1, 32, 32), 100, dtype=torch.uint8)
    images[1, 0, 0, 0] += 1
    found = [corruptions(255)[name](images, s, None) for name in ("gaussian_noise", "fog") for s in (3, 4)]
    noises = {digest(one[i, :, 1:]) for one in found for i in (0, 1)}
    assert len(noises) == 8


def test_another_process_makes_the_same_bytes():
    code = """
from tests.test_shifts import CORRUPTIONS, IMAGES, corruptions, digest
for kind, (make, top) in IMAGES.items():
    for name in CORRUPTIONS:
        print(kind, name, digest(corruptions(top)[name](make()[:5], 4, None)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = [
        f"{kind} {name} {digest(corruptions(top)[name](make()[:5], 4, None))}"
        for kind, (make, top) in IMAGES.items()
        for name in CORRUPTIONS
    ]
    assert said.splitlines() == here


#: Digests at severity 5 of twelve images of fashion_mnist_sample and of digits.
CHECKSUMS = {
    "gaussian_noise": ["5e4cb18daaf0", "ccc64375fa2c"],
    "shot_noise": ["3852ad936165", "443054c991ad"],
    "impulse_noise": ["a09eabc638d1", "f0605db5e8c6"],
    "glass_blur": ["e189d37410a1", "683a48ff84fe"],
    "zoom_blur": ["777f180c53a7", "89f2ed26d5a7"],
    "snow": ["c2ddc9fec38a", "ba8155bed144"],
    "fog": ["235af210f5c7", "164409bdbf5b"],
}


def test_bytes_are_those_of_the_machine_on_which_the_checksums_were_made():
    found = {
        name: [
            digest(corruptions(top)[name](embedded(data, 12), 5, None))
            for data, top in (("fashion_mnist_sample", 255), ("digits", 16))
        ]
        for name in (
            "gaussian_noise",
            "shot_noise",
            "impulse_noise",
            "glass_blur",
            "zoom_blur",
            "snow",
            "fog",
        )
    }
    assert found == CHECKSUMS


# -- what operators do ---------------------------------------------------------------------------


def test_noise_has_the_spread_of_its_constant():
    images = grey(0.5)
    noisy = noise.gaussian_noise(batch(images), 0.06) - images
    assert noisy.mean() == pytest.approx(0, abs=1e-3) and noisy.std() == pytest.approx(0.06, rel=0.02)
    for level in (0, 51, 255):
        shot = noise.shot_noise(batch(grey(level / 255)), 75)
        assert shot.mean() == pytest.approx(level / 255, rel=0.01)
        assert shot.var() == pytest.approx(level / 255 / 75, rel=0.03)
        assert np.rint(shot * 75) == pytest.approx(shot * 75, abs=1e-9)
    salted = noise.impulse_noise(batch(images), 0.07)
    assert (salted == 0).mean() == pytest.approx(0.035, rel=0.1)
    assert (salted == 1).mean() == pytest.approx(0.035, rel=0.1)
    assert (salted == 0.5).mean() == pytest.approx(0.93, rel=0.01)


def test_counts_of_photons_are_poisson():
    from scipy.stats import chisquare, poisson

    counts = np.rint(noise.shot_noise(batch(grey(20 / 255)), 50) * 50).astype(int).ravel()
    wanted = poisson(50 * 20 / 255).pmf(np.arange(11))
    found = np.bincount(counts, minlength=12)
    together = [*found[:11], found[11:].sum()]
    assert chisquare(together, len(counts) * np.array([*wanted, 1 - wanted.sum()])).pvalue > 0.01


@pytest.mark.parametrize(
    "name", [name for name in CORRUPTIONS if "blur" in name or name == "elastic_transform"]
)
def test_a_flat_image_stays_flat(name):
    found = CORRUPTIONS[name](batch(grey(100 / 255, 3)), CONSTANTS[name][4])
    assert found == pytest.approx(grey(100 / 255, 3), abs=1 / 255 if name == "glass_blur" else 1e-6)


def test_a_linear_corruption_is_the_function_itself():
    images = photographs(3).double().numpy() / 255
    found = applied(blur._defocused, images, (1.5, 0.1))
    direct = blur._defocused(images.reshape(-1, 32, 32), (1.5, 0.1)).reshape(images.shape)
    assert found == pytest.approx(direct, abs=1e-12)


def test_defocus_averages_over_a_disk():
    """A radius of 1.5 covers nine pixels, and one of 1 five; below 1 only the soft edge blurs."""
    point = np.zeros((1, 1, 32, 32))
    point[..., 16, 16] = 1
    nine = blur.defocus_blur(batch(point), (1.5, 0.1))
    assert nine[0, 0, 15:18, 15:18] == pytest.approx(np.full((3, 3), 1 / 9), abs=1e-6)
    five = blur.defocus_blur(batch(point), (1, 0.2))
    assert five[0, 0, 16, 14:19] == pytest.approx([0, 0.2, 0.2, 0.2, 0], abs=1e-4)
    soft = blur.defocus_blur(batch(point), (0.3, 0.4))[0, 0, 15:18, 15:18]
    side = np.exp(-0.5 / 0.4**2)
    line = np.array([side, 1, side]) / (1 + 2 * side)
    assert soft == pytest.approx(np.outer(line, line), abs=1e-12)


def test_glass_copies_pixels_from_above_and_left():
    images = np.arange(1024.0).reshape(1, 1, 32, 32) / 255 / 4.1
    images = np.floor(images * 255) / 255
    found = blur.glass_blur(batch(images), (0.05, 1, 1))
    around = np.stack([np.roll(images, (i, j), (2, 3)) for i in (0, 1) for j in (0, 1)])
    inner = (slice(None), slice(None), slice(2, 32), slice(2, 32))
    assert (np.abs(found[inner] - around[(slice(None), *inner)]) < 1e-6).any(0).all()
    assert found[:, :, :2] == pytest.approx(images[:, :, :2]) and not np.allclose(found, images)


def test_motion_smears_to_one_side_along_a_line():
    point = np.zeros((2, 1, 32, 32))
    point[..., 16, 16] = 1
    along, up = blur.smeared(point, 6, 2, np.array([0.0, 90.0]))
    weights = np.exp(-0.5 * (np.arange(13) / 2) ** 2)
    weights /= weights.sum()
    assert along[0, 16, 4:17][::-1] == pytest.approx(weights, abs=1e-5)
    assert up[0, 4:17, 16][::-1] == pytest.approx(weights, abs=1e-5)
    assert along.sum() == pytest.approx(1, abs=1e-5)


def test_zooming_is_that_of_the_published_program():
    """For 32 pixels and a factor of 1.25, the middle 26 become 32 by linear interpolation (scipy's zoom)."""
    images = photographs(2)[:, 0].double().numpy()
    wanted = ndimage.zoom(images[:, 3:29, 3:29], (1, 1.25, 1.25), order=1)
    assert wanted.shape == (2, 32, 32)
    assert blur.zoomed(images, 1.25) == pytest.approx(wanted, abs=1e-9)
    assert np.array_equal(blur.zoomed(images, 1.01), images)


def test_brightness_adds_to_the_value_of_hsv():
    images = photographs(1).double().numpy()[:, :, :4, :4] / 255
    images[0, :, 0, 0] = 0
    found = weather.brightness(batch(images), 0.15)
    for row in range(4):
        for column in range(4):
            hue, saturation, value = colorsys.rgb_to_hsv(*images[0, :, row, column])
            wanted = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.15, 1))
            assert found[0, :, row, column] == pytest.approx(wanted, abs=1e-12)


def test_fog_keeps_the_brightest_value_and_heights_fill_their_range():
    images = photographs(5).double().numpy() / 255
    heights = weather.plasma(batch(images), 2)
    assert heights.shape == (5, 32, 32)
    assert heights.min((1, 2)).tolist() == [0] * 5 and heights.max((1, 2)).tolist() == [1] * 5
    assert weather.plasma(batch(images[:, :, :28, :28]), 2).shape == (5, 28, 28)
    foggy = weather.fog(batch(images), (1, 2))
    assert (foggy.max((1, 2, 3)) <= images.max((1, 2, 3)) + 1e-12).all()

    def roughness(fading):
        maps = weather.plasma(batch(images), fading)
        return np.abs(np.diff(maps, axis=1)).mean()

    assert roughness(3) < roughness(2) < roughness(1.5)


def test_contrast_keeps_the_mean_of_each_channel():
    images = photographs(3).double().numpy() / 255
    found = digital.contrast(batch(images), 0.15)
    assert found.mean((2, 3)) == pytest.approx(images.mean((2, 3)))
    assert found.std((2, 3)) == pytest.approx(0.15 * images.std((2, 3)))


@pytest.mark.parametrize("border", ["mirror", "reflect"])
def test_reading_between_pixels_is_that_of_scipy(border):
    images = photographs(2).double().numpy() / 255
    random = np.random.default_rng(0)
    rows, columns = random.uniform(-6, 38, (2, 2, 32, 32))
    found = digital._bilinear(images, rows, columns, border)
    for i in range(2):
        for channel in range(3):
            wanted = ndimage.map_coordinates(images[i, channel], [rows[i], columns[i]], order=1, mode=border)
            assert found[i, channel] == pytest.approx(wanted, abs=1e-12)


def test_an_elastic_transformation_without_moves_is_none():
    images = photographs(2).double().numpy() / 255
    assert digital.elastic_transform(batch(images), (0, 0, 0)) == pytest.approx(images, abs=1e-9)
    moved = digital.elastic_transform(batch(images), CONSTANTS["elastic_transform"][2])
    assert moved.mean() == pytest.approx(images.mean(), abs=0.03)
    assert not np.allclose(moved, images, atol=0.05)


def test_pixelate_leaves_fewer_pixels():
    images = photographs(2).double().numpy() / 255
    found = digital.pixelate(batch(images), 0.65)
    assert len(np.unique(found[0].reshape(3, -1), axis=1).T) <= 20 * 20 < 900
    small = corruptions(16)["pixelate"](embedded("digits", 4), 5, None)
    assert all(len(torch.unique(image[0], dim=0)) <= 5 for image in small)


def test_small_images_are_enlarged_where_constants_are_lengths():
    """A blur by a pixel of 32 is one by a quarter of a pixel of 8."""
    images = embedded("digits", 6)
    large = (images.double() / 16).repeat_interleave(4, 2).repeat_interleave(4, 3).numpy()
    found = blur.defocus_blur(batch(large), (1, 0.2)).reshape(6, 1, 8, 4, 8, 4).mean((3, 5))
    assert torch.equal(
        corruptions(16)["defocus_blur"](images, 4, None), torch.from_numpy(np.rint(found * 16)).byte()
    )


def test_built_in_image_sets_have_the_fifteen_corruptions():
    for name in ("digits", "digits_without_9", "fashion_mnist_sample", "fashion_mnist", "svhn", "mnist"):
        assert list(DATASETS.get(name)().shifts()) == list(CONSTANTS)
    splits = DATASETS.get("digits")().parts(Streams(0)["split"])
    found = DATASETS.get("digits")().shifts()["fog"](splits.test.inputs, 5, splits)
    validation.require_shifted("digits", "fog", found, splits.test.inputs)


# -- published files -----------------------------------------------------------------------------


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Write six test images in the format of CIFAR-10, and their corrupted versions in that of CIFAR-10-C."""
    images = np.random.default_rng(1).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    monkeypatch.setattr(
        official,
        "official_part",
        lambda *_: Split(torch.from_numpy(images), torch.zeros(6, dtype=torch.long)),
    )
    (tmp_path / "CIFAR-10-C").mkdir()
    published = np.random.default_rng(2).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "CIFAR-10-C" / "fog.npy", published)
    for kept in (official._places, official._images):
        kept.cache_clear()
    yield torch.from_numpy(images), torch.from_numpy(published).permute(0, 3, 1, 2)
    for kept in (official._places, official._images):
        kept.cache_clear()


def test_published_images_are_found_by_the_test_image(cifar10):
    images, published = cifar10
    shifts = DATASETS.get("cifar10")().shifts()
    assert list(shifts) == [*CONSTANTS, *(f"official_{name}" for name in CONSTANTS)]
    order = torch.tensor([4, 0, 5])
    found = shifts["official_fog"](images[order], 3, None)
    assert torch.equal(found, published[2 * 6 + order])
    validation.require_shifted("cifar10", "official_fog", found, images[order])


def test_published_images_that_are_not_there_are_one_line(cifar10, tmp_path):
    images, _ = cifar10
    shifts = DATASETS.get("cifar10")().shifts()
    with pytest.raises(
        UserError, match=r"official_fog: there are published images of official test images only"
    ):
        shifts["official_fog"](255 - images, 1, None)
    with pytest.raises(UserError, match=r"snow.npy: cannot be read .*; unpack CIFAR-10-C.tar again"):
        shifts["official_snow"](images, 1, None)
    np.save(tmp_path / "CIFAR-10-C" / "frost.npy", np.zeros((10, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"frost.npy: has 10 images"):
        shifts["official_frost"](images, 1, None)


def test_there_are_no_published_shifts_without_their_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    for name in ("cifar10", "cifar100", "svhn"):
        assert list(DATASETS.get(name)().shifts()) == list(CONSTANTS)


# -- tables --------------------------------------------------------------------------------------


def table():
    stream = torch.Generator().manual_seed(5)
    x = torch.randn(600, 5, generator=stream) * torch.tensor([1.0, 10.0, 0.1, 0.0, 3.0]) + 3
    labels = torch.zeros(300, dtype=torch.long)
    return Splits(Split(x[:300], labels), None, Split(x[300:], labels), 1)


def test_integers_in_tables_stay_in_their_range():
    rows = torch.arange(600, dtype=torch.int32).view(200, 3) % 256
    part = Split(rows.to(torch.uint8), torch.zeros(200, dtype=torch.long))
    splits = Splits(part, None, part, 1)
    for shift in tables.table_shifts().values():
        found = shift(part.inputs, 5, splits)
        validation.require_shifted("table", "shift", found, part.inputs)
    added = tables.additive_noise(part.inputs, 5, splits).long() - part.inputs.long()
    assert (added[part.inputs < 10] > -10).all() and (added[part.inputs > 245] < 10).all()


def test_shifts_of_tables():
    splits = table()
    rows, train = splits.test.inputs, splits.train.inputs
    for name, shift in tables.table_shifts().items():
        whole = shift(rows, 4, splits)
        validation.require_shifted("table", name, whole, rows)
        assert torch.equal(torch.cat([shift(row[None], 4, splits) for row in rows[:20]]), whole[:20]), name
        distances = [float((shift(rows, s, splits) - rows).abs().mean()) for s in SEVERITIES]
        assert distances == sorted(distances) and distances[0] > 0, name
    noisy = tables.additive_noise(rows, 3, splits) - rows
    assert noisy.std(0).tolist() == pytest.approx((0.4 * train.std(0)).tolist(), rel=0.15)
    missing = tables.missing_features(rows, 5, splits)
    replaced = missing != rows
    assert torch.allclose(missing[replaced], train.mean(0).expand(300, 5)[replaced], atol=1e-5)
    assert float(replaced[:, [0, 1, 2, 4]].double().mean()) == pytest.approx(0.5, abs=0.05)
    factors = tables.scaled_features(rows, 2, splits) / rows
    assert torch.allclose(factors, factors[:1].expand_as(factors), rtol=1e-4)
    logs = [(tables.scaled_features(rows, s, splits) / rows)[0].log() for s in (1, 5)]
    assert torch.allclose(logs[1], 10 * logs[0], rtol=1e-2)
