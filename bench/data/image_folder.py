"""Read images of the user from a folder that has one folder a class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from bench.data.augmentation import crop_and_flip
from bench.data.base import Split, Splits
from bench.data.splitting import channel_statistics
from bench.data.tables.files import FileOptions, digest
from bench.data.tables.resampling import Resampled, ResamplingOptions, Rows
from methods.core.errors import UserError
from methods.core.options import option

#: Endings of files that are images; other files are ignored.
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageFolderOptions(FileOptions, ResamplingOptions):
    """Options of a folder of images."""

    resampling: str = option(
        "split", "which examples a seed tests", choices=("folds", "leave_one_out", "split")
    )
    size: int = option(
        32,
        "side of an image in pixels: the shorter side gets this length, the centre is kept",
        within="[4, 1024]",
    )
    grey: bool = option(False, "turn images grey: one channel instead of three")
    augment: bool = option(False, "in training, crop (by an eighth of the side) and mirror at random")

    def content(self, path: Path) -> str:
        """Return a digest of the names and bytes of all images."""
        return digest(
            part
            for file in _files(path)
            for part in (str(file.relative_to(path)).encode(), file.read_bytes())
        )


class ImageFolder(Resampled):
    """Images of your own, one folder a class, in the folder that ``dataset.path`` names."""

    name = "image_folder"
    Options = ImageFolderOptions

    def rows(self) -> Rows:
        """Return all images, uint8 (N, C, size, size), sorted by class and name.

        Raises
        ------
        UserError
            The folder is missing or has no classes, or an image cannot be read.
        """
        path = self.options.found(self.name)
        return _rows(path, self.options.digest, self.options.size, self.options.grey)

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each channel."""
        return channel_statistics(train.inputs)

    def prepare(
        self, inputs: torch.Tensor, splits: Splits, augmentation: torch.Generator | None
    ) -> torch.Tensor:
        """Standardise a batch; in training also crop and mirror it, if this is asked for."""
        if augmentation is not None and self.options.augment:
            inputs = crop_and_flip(inputs, self.options.size // 8, True, augmentation)
        return super().prepare(inputs, splits, augmentation)


def _files(path: Path) -> list[Path]:
    """Return the images of all classes, sorted."""
    place = f"data set {ImageFolder.name}: {path}"
    if not path.is_dir():
        raise UserError(f"{place}: no such folder")
    folders = sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    if len(folders) < 2:
        raise UserError(f"{place}: has {len(folders)} folders; it needs one for each of at least two classes")
    found = []
    for folder in folders:
        here = sorted(one for one in folder.iterdir() if one.suffix.lower() in ENDINGS)
        if not here:
            raise UserError(
                f"{place}: folder {folder.name} has no images; valid endings: {', '.join(ENDINGS)}"
            )
        found += here
    return found


@lru_cache(maxsize=1)
def _rows(path: Path, content: str, size: int, grey: bool) -> Rows:
    files = _files(path)
    names = sorted({file.parent.name for file in files})
    inputs = torch.from_numpy(np.stack([_image(file, size, grey) for file in files]))
    return Rows(inputs, torch.tensor([names.index(file.parent.name) for file in files]), len(names))


def _image(file: Path, size: int, grey: bool) -> np.ndarray:
    """Return an image as uint8 (C, size, size)."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            fitted = ImageOps.fit(image.convert("L" if grey else "RGB"), (size, size))
    except (OSError, ValueError) as error:
        raise UserError(
            f"data set {ImageFolder.name}: {file}: cannot be read as an image ({error})"
        ) from None
    pixels = np.array(fitted)
    return pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))
