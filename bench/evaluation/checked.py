"""Check predictions and labels before they are scored."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def predictions(values: ArrayLike, dimensions: int, what: str) -> Array:
    """Return ``values`` in float64, checked to have so many dimensions, at least one example and no NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(f"expected {what} of at least one example, got an array of shape {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"{what} contain NaN")
    return array


def labels_of(values: ArrayLike, predictions: Array) -> NDArray[np.intp]:
    """Check labels (N,) against predictions (N, C)."""
    labels = np.asarray(values)
    n, classes = predictions.shape
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"expected {n} integer labels, got {labels.dtype} of shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    return labels.astype(np.intp)


def top_label(probs: Array, labels: NDArray[np.intp]) -> tuple[Array, NDArray[np.bool_]]:
    """Return for each example the probability of the predicted class, and whether that class is the label."""
    # the average of probabilities near 1 may be rounded to slightly more than 1
    return np.minimum(probs.max(axis=1), 1.0), probs.argmax(axis=1) == labels
