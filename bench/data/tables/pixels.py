"""Read hyperspectral pixels, and split them so that training and test regions lie apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from bench.data.base import Dataset, DatasetOptions, Split, Splits
from bench.data.files import data_root
from bench.data.splitting import stratified
from methods.base import Task
from methods.core.errors import UserError
from methods.core.options import option

_FILE = "hyperspectral/indian_pines_labelled_10249x200.npz"
_REGIONS = {
    "blocks": "whole square blocks of the image are for the test, for validation or for training, and "
    "training pixels keep a distance from the others",
    "random": "pixels are drawn at random, so that neighbours of test pixels are trained on and scores "
    "are too good",
}


@dataclass(frozen=True)
class PixelOptions(DatasetOptions):
    """Options for where training, validation and test pixels lie, and how many there are."""

    regions: str = option("blocks", "how pixels are divided", choices=_REGIONS)
    block: int = option(8, "side of a block, in pixels", within="[1, 145]")
    gap: int = option(2, "pixels between a training pixel and the next one of another part", within="[0, 20]")
    train: int = option(1500, "training pixels", within="[100, 5000]")
    val: int = option(500, "validation pixels", within="[50, 2000]")
    test: int = option(2000, "test pixels", within="[100, 5000]")


@dataclass(frozen=True)
class Pixels:
    """Hold the labelled pixels of an image: spectra (N, bands), labels (N,), rows and columns (N,)."""

    spectra: torch.Tensor
    labels: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor


class IndianPines(Dataset):
    """Crops and woods seen from the air: 10,249 labelled pixels of 200 bands, 16 classes (AVIRIS 1992).

    An input is the spectrum (200,) of one pixel. Each seed divides the image anew.
    """

    name = "indian_pines"
    Options = PixelOptions

    def task(self, refit: bool = False) -> Task:
        """Return the sizes, which are options."""
        train = self.options.train + (self.options.val if refit else 0)
        return Task((200,), 16, train)

    def load(self, split: torch.Generator) -> Splits:
        """Divide the pixels.

        Raises
        ------
        UserError
            The file is missing, or the regions have fewer pixels than the options ask for.
        """
        pixels = self.pixels()
        chosen = self.divided(split)
        train, val, test = (Split(pixels.spectra[part], pixels.labels[part]) for part in chosen)
        return Splits(train, val, test, 16)

    def pixels(self) -> Pixels:
        """Return all labelled pixels; raise ``UserError`` if the file is missing."""
        path = data_root() / _FILE
        if not path.is_file():
            raise UserError(
                f"data set {self.name}: no file {_FILE} in {data_root()}; set BENCH_DATA_ROOT to the folder "
                "that has it"
            )
        return _pixels(str(path))

    def divided(self, split: torch.Generator) -> list[torch.Tensor]:
        """Return the positions of the training, validation and test pixels among all labelled ones."""
        pixels, chosen = self.pixels(), self.options
        if chosen.regions == "random":
            drawn = (chosen.test, chosen.val, chosen.train)
            test, val, train, _ = stratified(pixels.labels, drawn, split)
            return [train, val, test]
        part = parts_of_blocks(pixels, chosen.block, split)
        near = {name: _near(pixels, part == name, chosen.gap) for name in (1, 2)}
        free = {
            0: (part == 0) & ~near[1] & ~near[2],
            1: (part == 1) & ~near[2],
            2: part == 2,
        }
        sizes = {0: chosen.train, 1: chosen.val, 2: chosen.test}
        found = []
        for number, name in enumerate(("train", "val", "test")):
            here = free[number].nonzero().flatten()
            if len(here) < sizes[number]:
                raise UserError(
                    f"data set {self.name}: {name}: {sizes[number]} pixels, but its regions have only "
                    f"{len(here)}; ask for fewer, or set a smaller gap"
                )
            found.append(here[stratified(pixels.labels[here], (sizes[number],), split)[0]])
        return found

    def statistics(self, train: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each band."""
        inputs = train.inputs.double()
        return inputs.mean(0).float(), inputs.std(0, correction=0).float()


def parts_of_blocks(pixels: Pixels, side: int, split: torch.Generator) -> torch.Tensor:
    """Return the part of each pixel, 0 for training, 1 for validation and 2 for test; a block has one.

    Blocks are dealt class by class, the rarest first: in random order, until the test part has 30 % and the
    validation part 15 % of the pixels of the class. The last block of a class is always for training, so
    that a class which lies in one block is trained and not tested.
    """
    columns = int(pixels.column.max()) // side + 1
    _, block = (pixels.row // side * columns + pixels.column // side).unique(return_inverse=True)
    blocks, classes = int(block.max()) + 1, int(pixels.labels.max()) + 1
    count = torch.zeros(blocks, classes, dtype=torch.long)
    count.index_put_((block, pixels.labels), torch.ones(len(block), dtype=torch.long), accumulate=True)
    part = torch.full((blocks,), -1)
    for label in count.sum(0).argsort(stable=True).tolist():
        here = torch.randperm(blocks, generator=split)
        here = here[(count[here, label] > 0)]
        total = int(count[:, label].sum())
        if not bool((part[here] == 0).any()) and bool((part[here] == -1).any()):
            largest = here[part[here] == -1]
            part[largest[count[largest, label].argmax()]] = 0
        for number, share in ((2, 0.3), (1, 0.15)):
            have = int(count[part == number, label].sum())
            for one in here[part[here] == -1].tolist():
                if have >= share * total:
                    break
                part[one] = number
                have += int(count[one, label])
        part[here[part[here] == -1]] = 0
    return part[block]


def _near(pixels: Pixels, chosen: torch.Tensor, gap: int) -> torch.Tensor:
    """Tell which pixels have at most ``gap`` rows and columns to one of the ``chosen`` pixels."""
    height, width = int(pixels.row.max()) + 1, int(pixels.column.max()) + 1
    image = torch.zeros(1, 1, height, width)
    image[0, 0, pixels.row[chosen], pixels.column[chosen]] = 1
    if gap:
        image = torch.nn.functional.max_pool2d(image, 2 * gap + 1, stride=1, padding=gap)
    return image[0, 0, pixels.row, pixels.column] > 0


@cache
def _pixels(path: str) -> Pixels:
    with np.load(path, allow_pickle=False) as file:
        spectra, labels, row, column = (file[name] for name in ("X", "y", "row", "col"))
    return Pixels(
        torch.from_numpy(spectra.astype(np.float32)),
        torch.from_numpy(labels),
        torch.from_numpy(row.astype(np.int64)),
        torch.from_numpy(column.astype(np.int64)),
    )
