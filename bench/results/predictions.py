"""Read the predictions of a finished run, and score each test example by itself."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results.files import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bench.results.run_folder import RunFolder

#: File in a run folder with the labels of the test part, and for each predictor its probabilities,
#: entropies and mutual information.
PREDICTIONS = "predictions.npz"
#: Scores of a test part that are means over its examples.
EXAMPLE_SCORES = ("accuracy", "nll", "brier")


def example_scores(folder: RunFolder, score: str, predictor: str = "samples") -> NDArray[np.float64]:
    """Return the score of each test example by the last stage of a run.

    Parameters
    ----------
    folder
        Folder of the run.
    score
        One of ``EXAMPLE_SCORES``.
    predictor
        ``samples`` or ``mean``.

    Returns
    -------
    ndarray
        Shape (N,); their mean is the run's score up to the precision of stored probabilities (float32, in
        which a probability below 1e-45 is 0).

    Raises
    ------
    StoreError
        If the predictions are missing or damaged.
    """
    arrays = stored_predictions(folder)
    try:
        labels = arrays["labels"].astype(np.int64)
        probabilities = arrays[f"{predictor}/probabilities"].astype(np.float64)
        of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    except (LookupError, ValueError) as error:
        raise StoreError(f"{folder.path / PREDICTIONS}: {error or type(error).__name__}") from None
    if score == "accuracy":
        return (probabilities.argmax(axis=1) == labels).astype(np.float64)
    if score == "brier":
        return np.asarray((probabilities**2).sum(axis=1) - 2 * of_label + 1)
    with np.errstate(divide="ignore"):
        return -np.log(of_label)


def stored_predictions(folder: RunFolder) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``predictions.npz`` by name.

    Raises
    ------
    StoreError
        If the file is missing or damaged.
    """
    path = folder.path / PREDICTIONS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file") from None
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise StoreError(f"{path}: {error or type(error).__name__}") from None
