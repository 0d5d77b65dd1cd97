"""Read a table of the user from a file of numpy's ``npz`` format; nothing in it is unpickled.

``X`` (N, …) holds numbers and ``y`` (N,) classes, as whole numbers or text. ``split`` (N,), if it is there,
holds ``train`` or ``test`` for each row. Other arrays, such as ``feature_names``, are not needed.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.tables.files import FileOptions, digest
from bench.data.tables.resampling import Resampled, ResamplingOptions, Rows
from bench.data.tables.tabular import Tabular
from methods.core.errors import UserError

#: The arrays whose content is the data set, and so its digest.
_ARRAYS = ("X", "y", "split")


@dataclass(frozen=True)
class NpzOptions(FileOptions, ResamplingOptions):
    """Options of a table in a file of the user."""

    def content(self, path: Path) -> str:
        """Return a digest of the arrays, whichever way the file compresses them."""
        arrays = _arrays(path, f"data set {Npz.name}")
        return digest(
            part
            for name, array in arrays.items()
            for part in (name.encode(), array.dtype.str.encode(), repr(array.shape).encode(), array.tobytes())
        )


class Npz(Tabular, Resampled):
    """A table of your own in an npz file, named by ``dataset.path``."""

    name = "npz"
    Options = NpzOptions

    def rows(self) -> Rows:
        """Return the rows in the order of the file.

        Raises
        ------
        UserError
            The file is missing or no table, or is not the one that the run is of.
        """
        return read(self.options.found(self.name), f"data set {self.name}")


def read(path: Path, place: str) -> Rows:
    """Read a table.

    Parameters
    ----------
    path
        The file.
    place
        Whose file it is, for messages.

    Raises
    ------
    UserError
        The file cannot be read, or its arrays are not as this module says.
    """
    arrays = _arrays(path, place)
    return _rows(arrays["X"], arrays["y"], arrays.get("split"), f"{place}: {path}")


def _arrays(path: Path, place: str) -> dict[str, np.ndarray]:
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise UserError(f"{place}: no file {path}") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        if "pickle" in str(error) or "Object arrays" in str(error):
            why = "an array holds Python objects, which would have to be unpickled; save numbers or text"
        else:
            why = f"not a file of numpy's npz format ({str(error) or type(error).__name__})"
        raise UserError(f"{place}: {path}: {why}") from None
    except KeyError as error:
        raise UserError(f"{place}: {path}: {error.args[0]}") from None


@lru_cache(maxsize=2)
def _read(path: Path, changed: int) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        names = getattr(file, "files", None)
        if names is None:
            raise ValueError("it holds one array; use numpy.savez")
        for needed in ("X", "y"):
            if needed not in names:
                raise KeyError(f"no array {needed!r}; it has {', '.join(names) or 'none'}")
        return {name: file[name] for name in _ARRAYS if name in names}


def _rows(inputs: Any, labels: Any, split: Any, place: str) -> Rows:
    if inputs.ndim < 2 or inputs.dtype.kind not in "fiub":
        raise UserError(
            f"{place}: X has shape {inputs.shape} and type {inputs.dtype}; it must be numbers (N, features)"
        )
    if inputs.dtype != np.uint8 or inputs.ndim == 2:
        inputs = inputs.astype(np.float32)
    if np.isinf(inputs).any():
        raise UserError(f"{place}: X has infinite numbers; a missing value is NaN")
    if labels.shape != inputs.shape[:1]:
        raise UserError(f"{place}: y has shape {labels.shape}; X has {len(inputs)} rows")
    whole, classes = numbered(labels, f"{place}: y")
    tested = None
    if split is not None:
        told = split.astype(str)
        strange = sorted({*told.flatten()} - {"train", "test"})
        if split.shape != labels.shape or strange:
            fault = f"the word {str(strange[0])!r}" if strange else f"shape {split.shape}"
            raise UserError(f"{place}: split has {fault}; it must say train or test for each row")
        tested = torch.from_numpy(told == "test")
    return Rows(torch.from_numpy(np.ascontiguousarray(inputs)), whole, classes, tested)


def numbered(labels: np.ndarray, place: str) -> tuple[torch.Tensor, int]:
    """Number classes from 0 in sorted order, and return the labels with the number of classes.

    Raises
    ------
    UserError
        The labels are not whole numbers or text, or there is only one class.
    """
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.round(labels))).all():
        raise UserError(f"{place}: holds numbers that are not whole; this is regression, not classes")
    if labels.dtype.kind not in "fiubUS":
        raise UserError(f"{place}: is of type {labels.dtype}; it must be whole numbers or text")
    names, whole = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise UserError(f"{place}: has {len(names)} class; it needs two")
    if len(names) > len(labels) / 2:
        raise UserError(
            f"{place}: has {len(names)} different values for {len(labels)} rows; this is no classification"
        )
    return torch.from_numpy(whole.reshape(labels.shape).astype(np.int64)), len(names)
