"""Image sets through torchvision: real files where there are any, made ones of the same format elsewhere."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.stats
import torch

from bench import download
from bench.cli.entry import entry as entry_
from bench.data import files
from bench.data.augmentation import crop_and_flip
from bench.data.base import DATASETS
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import parse
from methods.core.streams import Streams
from tests import image_files

NAMES = ("fashion_mnist", "cifar10", "cifar100", "svhn")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(name, **options):
    dataset = DATASETS.get(name)
    return dataset(parse(dataset.Options, options))


@pytest.fixture(autouse=True)
def _nothing_remembered():
    files.official_part.cache_clear()
    yield
    files.official_part.cache_clear()


# -- files that the test makes ---------------------------------------------------------------


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def examples(count, classes, seed):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), labels


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    """A CIFAR-100 of 300 and 100 images, with torchvision told of its checksums."""
    from torchvision.datasets import CIFAR100

    folder = tmp_path / CIFAR100.base_folder
    folder.mkdir()
    made = {}
    for name, count in (("train", 300), ("test", 100)):
        pixels, labels = made[name] = examples(count, 100, count)
        entry = {"data": pixels.reshape(count, -1), "fine_labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5(folder / "meta")})
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    return made


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    """An SVHN of 60 and 40 images, in which 0 is labelled 10 as in the original."""
    from torchvision.datasets import SVHN

    made, listed = {}, {}
    for name, count in (("train", 60), ("test", 40)):
        pixels, labels = made[name] = examples(count, 10, count)
        path = tmp_path / f"{name}_32x32.mat"
        stored = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)
        scipy.io.savemat(path, {"X": pixels.transpose(2, 3, 1, 0), "y": stored})
        listed[name] = ["", path.name, md5(path)]
    monkeypatch.setattr(SVHN, "split_list", SVHN.split_list | listed)
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    return made


def rows(split):
    return {
        (image.numpy().tobytes(), int(label)) for image, label in zip(split.inputs, split.labels, strict=True)
    }


@pytest.mark.parametrize(("name", "classes", "val"), [("cifar100", 100, 100), ("svhn", 10, 20)])
def test_files_become_three_parts_that_hold_every_image_once(name, classes, val, request):
    made = request.getfixturevalue(name)
    splits = make(name, val=val).parts(Streams(0)["split"])
    assert splits.classes == classes
    for part in (splits.train, splits.val, splits.test):
        assert part.inputs.shape[1:] == (3, 32, 32)
        assert (part.inputs.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
    given = {
        part: {(image.tobytes(), int(label)) for image, label in zip(*made[part], strict=True)}
        for part in made
    }
    assert len(splits.val) == val
    assert rows(splits.train) | rows(splits.val) == given["train"]
    assert len(splits.train) + len(splits.val) == len(given["train"])
    assert rows(splits.test) == given["test"]
    assert Counter(splits.val.labels.tolist()) == dict.fromkeys(range(classes), val // classes)


def test_statistics_are_those_of_the_training_part_alone(svhn):
    splits = make("svhn", val=20).parts(Streams(0)["split"])
    pixels = splits.train.inputs.double()
    torch.testing.assert_close(splits.mean.double(), pixels.mean((0, 2, 3), keepdim=True))
    torch.testing.assert_close(splits.std.double(), pixels.std((0, 2, 3), correction=0, keepdim=True))


def test_the_seed_decides_what_is_held_out_and_the_test_part_stays(svhn):
    first, again, other = (make("svhn", val=20).parts(Streams(seed)["split"]) for seed in (0, 0, 1))
    assert torch.equal(first.val.inputs, again.val.inputs)
    assert rows(first.val) != rows(other.val)
    assert torch.equal(first.test.inputs, other.test.inputs)


def test_a_smaller_training_part_is_a_stratified_draw(svhn):
    splits = make("svhn", val=20, train=20).parts(Streams(0)["split"])
    assert Counter(splits.train.labels.tolist()) == dict.fromkeys(range(10), 2)
    assert not rows(splits.train) & rows(splits.val)


def test_more_examples_than_there_are_is_the_users_error(svhn):
    words = "data set svhn: val 50 and train 20 are more than its 60 training examples"
    with pytest.raises(UserError, match=words):
        make("svhn", val=50, train=20).parts(Streams(0)["split"])


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_set_is_one_line_that_says_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    with pytest.raises(UserError) as caught:
        make(name).parts(Streams(0)["split"])
    assert f"python -m bench.download {name} gets it" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_counts_as_missing(svhn, tmp_path):
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="data set svhn: missing or incomplete in"):
        make("svhn", val=20).parts(Streams(0)["split"])


def test_data_lie_where_the_variable_says_or_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path))
    assert files.data_root() == tmp_path
    monkeypatch.delenv("BENCH_DATA_ROOT")
    assert files.data_root() == Path.home() / ".cache" / "ssvi-bench" / "data"


# -- the command -------------------------------------------------------------------------------


def called(*arguments):
    with pytest.raises(SystemExit) as caught:
        entry_(lambda: download.main(list(arguments)))
    return caught.value.code


def test_what_is_there_already_is_not_fetched_again(cifar100, capsys, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", None)  # whoever fetches fails
    assert called("cifar100") == 0
    assert capsys.readouterr().out == f"cifar100: in {files.data_root()}\n"


def test_a_set_that_cannot_be_fetched_is_one_line(tmp_path, monkeypatch, capsys):
    from torchvision.datasets import SVHN

    absent = f"file://{tmp_path}/absent"
    monkeypatch.setattr(SVHN, "split_list", {part: [absent, "x", "0" * 32] for part in ("train", "test")})
    monkeypatch.setenv("BENCH_DATA_ROOT", str(tmp_path / "root"))
    assert called("svhn") == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(f"error: data set svhn: cannot be downloaded to {tmp_path}/root: ")


def test_only_image_sets_are_fetched(capsys):
    assert called("digits") == 2
    assert (
        "unknown image set 'digits'; valid: cifar10, cifar100, fashion_mnist, kmnist, mnist, svhn"
        in capsys.readouterr().err
    )


# -- augmentation --------------------------------------------------------------------------------


def crops(image, padding, flip):
    """Every result that torchvision's RandomCrop and RandomHorizontalFlip may have, by its bytes."""
    from torchvision.transforms import functional

    _, height, width = image.shape
    padded, found = functional.pad(image, padding), {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = functional.crop(padded, top, left, height, width)
            found[crop.contiguous().numpy().tobytes()] = (top, left, False)
            if flip:
                found[functional.hflip(crop).contiguous().numpy().tobytes()] = (top, left, True)
    return found


@pytest.mark.parametrize(("channels", "padding", "flip"), [(3, 1, True), (1, 2, True), (1, 1, False)])
def test_what_torchvision_may_do_is_done_equally_often_and_nothing_else(channels, padding, flip):
    images = torch.randint(1, 256, (4, channels, 6, 5), dtype=torch.uint8, generator=generator())
    batch = images.repeat(5000, 1, 1, 1)
    found = crop_and_flip(batch, padding, flip, generator(1))
    assert (found.shape, found.dtype) == (batch.shape, batch.dtype)
    possible = [crops(image, padding, flip) for image in images]
    outcomes = (2 * padding + 1) ** 2 * (1 + flip)
    assert {len(places) for places in possible} == {outcomes}
    for image in range(len(images)):  # pixel for pixel: anything else is no key
        seen = Counter(possible[image][result.numpy().tobytes()] for result in found[image :: len(images)])
        assert len(seen) == outcomes
        assert scipy.stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_each_image_is_cropped_by_itself_and_a_seed_fixes_all():
    batch = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=generator())
    first, again, other = (crop_and_flip(batch, 2, True, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    places = {
        crops(image, 2, True)[result.numpy().tobytes()] for image, result in zip(batch, first, strict=True)
    }
    assert len(places) > 20


def test_training_is_augmented_and_evaluation_is_not(svhn):
    dataset = make("svhn", val=20)
    splits = dataset.parts(Streams(0)["split"])
    stored = splits.train.inputs[:8]
    plain = (stored.float() - splits.mean) / splits.std
    torch.testing.assert_close(dataset.prepare(stored, splits, None), plain)
    assert not torch.equal(dataset.prepare(stored, splits, generator()), plain)
    left_alone = make("svhn", val=20, augment=False).prepare(stored, splits, generator())
    torch.testing.assert_close(left_alone, plain)
    # house numbers are never mirrored
    possible = [crops(image, 4, flip=False) for image in stored]
    augmented = dataset.prepare(stored, splits, generator()) * splits.std + splits.mean
    for image, places in zip(augmented.round().to(torch.uint8), possible, strict=True):
        assert image.contiguous().numpy().tobytes() in places


@pytest.mark.parametrize("refit", [False, True])
@pytest.mark.parametrize("options", [{"val": 20}, {"val": 30, "train": 25}])
def test_the_task_is_known_without_the_data(options, refit, svhn, monkeypatch):
    """What a plan is made from is what the loaded data will say."""
    dataset = make("svhn", **options)
    whole = files.official_part("svhn", "SVHN", True)
    monkeypatch.setattr(type(dataset), "images", len(whole))
    splits = dataset.parts(generator(), refit)
    loaded = Task(tuple(splits.train.inputs.shape[1:]), splits.classes, len(splits.train))
    assert dataset.task(refit) == loaded


@pytest.mark.parametrize(("options", "left"), [({"val": 50_000}, 0), ({"val": 60_000, "train": 5}, 5)])
def test_more_examples_than_there_are_are_refused_by_a_plan(options, left):
    with pytest.raises(UserError, match=rf"val {options['val']} and train {left} are more than its 50000"):
        make("cifar10", **options).task()


# -- the real files ------------------------------------------------------------------------------

REAL = {
    "fashion_mnist": ((1, 28, 28), 55_000, 10_000),
    "cifar10": ((3, 32, 32), 45_000, 10_000),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_files_have_the_known_sizes_and_classes(name):
    shape, train, test = REAL[name]
    assert make(name).task() == Task(shape, 10, train)
    with image_files.needed():
        splits = make(name).parts(Streams(0)["split"])
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [train, 5000, test]
    assert splits.train.inputs.shape[1:] == shape
    assert Counter(splits.test.labels.tolist()) == dict.fromkeys(range(10), 1000)
    assert Counter(splits.val.labels.tolist()) == dict.fromkeys(range(10), 500)
    # published figures of the training part, in units of 255
    means = {"fashion_mnist": [0.286], "cifar10": [0.4914, 0.4822, 0.4465]}[name]
    assert splits.mean.flatten().div(255).tolist() == pytest.approx(means, abs=2e-3)
