"""Read the corrupted test images that the authors of CIFAR-10-C and CIFAR-100-C published.

The archives ``CIFAR-10-C.tar`` and ``CIFAR-100-C.tar`` (doi 10.5281/zenodo.2535967, 3555552) are unpacked
in the folder of image sets. A file has the 10,000 test images, in their order, at severities 1 to 5 one after
the other: uint8 (50000, 32, 32, 3).
"""

from __future__ import annotations

import hashlib
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from bench.data.base import SEVERITIES, Shift, Splits
from bench.data.files import data_root, official_part
from bench.data.fingerprint import row_bytes
from bench.data.shifts.constants import CONSTANTS
from methods.core.errors import UserError

#: Folder of the published images of a data set, by its name.
FOLDERS = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}


def official_shifts(name: str, source: str) -> dict[str, Shift]:
    """Return the published corruptions of a data set as ``official_fog`` and so on, if their folder is there.

    Parameters
    ----------
    name, source
        Names of the data set here and in torchvision.
    """
    if name not in FOLDERS or not (data_root() / FOLDERS[name]).is_dir():
        return {}
    return {f"official_{kind}": partial(_read, name, source, kind) for kind in CONSTANTS}


def _read(
    name: str, source: str, kind: str, inputs: torch.Tensor, severity: int, splits: Splits
) -> torch.Tensor:
    """Return the published images of test images, which are found by their bytes."""
    file = data_root() / FOLDERS[name] / f"{kind}.npy"
    places, whole = _places(name, source), _images(file)
    try:
        rows = np.array([places[_digest(image)] for image in row_bytes(inputs)])
    except KeyError:
        raise UserError(
            f"data set {name}: shift official_{kind}: there are published images of official test images only"
        ) from None
    images = len(whole) // len(SEVERITIES)
    if images != len(official_part(name, source, False)):
        raise UserError(f"{file}: has {len(whole)} images, not those of the test part at five severities")
    found = torch.from_numpy(whole[(severity - 1) * images + rows])
    return found.permute(0, 3, 1, 2).contiguous().to(inputs.device)


@cache
def _images(file: Path) -> np.ndarray:
    """Open a file of images without reading it whole."""
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: cannot be read ({type(error).__name__}); unpack {file.parent.name}.tar again, from "
            "github.com/hendrycks/robustness, or remove the folder"
        ) from None


@cache
def _places(name: str, source: str) -> dict[bytes, int]:
    """Return the row of each official test image, by the digest of its bytes."""
    return {
        _digest(image): row for row, image in enumerate(row_bytes(official_part(name, source, False).inputs))
    }


def _digest(image: bytes) -> bytes:
    return hashlib.blake2b(image, digest_size=16).digest()
