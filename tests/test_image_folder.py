"""Images of the user: one folder a class."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bench.data.image_folder import ImageFolder, ImageFolderOptions
from methods.core.errors import UserError
from methods.core.options import hashed_dict, parse
from methods.core.streams import Streams


@pytest.fixture
def folder(tmp_path):
    """Two classes of twelve images of different sizes and modes, and a file that is no image."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number in range(12):
            shape = (20 + number, 24, 3) if number % 2 else (20, 30)
            pixels = rng.integers(0, 100, shape).astype(np.uint8) + 100 * label
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number:02}.png")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def options(folder, **changed):
    return parse(ImageFolderOptions, {"path": str(folder), "size": 16, **changed})


def load(folder, **changed):
    dataset = ImageFolder(options(folder, **changed))
    return dataset, dataset.parts(Streams(0)["split"], False, 0)


@pytest.mark.parametrize(("grey", "channels"), [(True, 1), (False, 3)])
def test_images_are_read_by_class_and_brought_to_one_size(folder, grey, channels):
    dataset, splits = load(folder, grey=grey)
    rows = dataset.rows()
    assert rows.inputs.shape == (24, channels, 16, 16) and rows.labels.tolist() == [0] * 12 + [1] * 12
    assert rows.inputs[:12].float().mean() < 100 < rows.inputs[12:].float().mean()
    assert len(splits.train) + len(splits.val) + len(splits.test) == 24
    prepared = dataset.prepare(splits.train.inputs, splits, None)
    assert prepared.mean().abs() < 1e-5


def test_augmentation_changes_training_batches_only(folder):
    dataset, splits = load(folder, augment=True)
    inputs = splits.train.inputs
    plain = dataset.prepare(inputs, splits, None)
    assert not dataset.prepare(inputs, splits, Streams(0)["augmentation"]).equal(plain)


def test_the_id_follows_the_content_and_not_the_place(folder, tmp_path_factory):
    before = hashed_dict(options(folder))
    moved = tmp_path_factory.mktemp("elsewhere") / "moved"
    folder.rename(moved)
    assert hashed_dict(options(moved)) == before
    (moved / "cat" / "00.png").rename(moved / "dog" / "99.png")
    assert hashed_dict(options(moved)) != before


def test_each_fault_is_one_line(folder):
    with pytest.raises(UserError, match=r"^data set image_folder: .*/none: no such folder$"):
        load(folder / "none")
    with pytest.raises(
        UserError, match=r"cat: has 0 folders; it needs one for each of at least two classes$"
    ):
        load(folder / "cat")
    (folder / "emu").mkdir()
    with pytest.raises(UserError, match=r"folder emu has no images; valid endings: \.bmp, "):
        load(folder)
    (folder / "emu" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"emu/a\.png: cannot be read as an image"):
        load(folder)
