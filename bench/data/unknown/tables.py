"""Alter the test rows of a table until they belong to no class, or draw rows of noise."""

from __future__ import annotations

import numpy as np
import torch

from bench.data import draws
from bench.data.base import Splits, Unknown
from bench.data.splitting import feature_statistics
from bench.data.stored import as_stored
from bench.data.unknown.noise import table_noise

# Columns whose order is drawn at a time.
_AT_ONCE = 1024


def table_sets() -> dict[str, Unknown]:
    """Return the unknown sets that any table of numbers has; the numbers of an input (N, ...) are columns.

    Returns
    -------
    dict
        ``columns_shuffled``: in each column the test values change rows, so that each feature is distributed
        as before and features no longer go together. ``columns_permuted``: columns change places, each value
        keeping how many standard deviations it lies from the mean of its column in the training part.
        ``noise_uniform`` and ``noise_gaussian``: as ``table_noise`` says.
    """
    return {"columns_shuffled": columns_shuffled, "columns_permuted": columns_permuted, **table_noise()}


def columns_shuffled(splits: Splits) -> torch.Tensor:
    """Return the test rows with the values of each column in an order of its own."""
    rows = splits.test.inputs.cpu().flatten(1)
    keys, found = _keys(rows.shape[1], "columns_shuffled"), torch.empty_like(rows)
    for start in range(0, len(keys), _AT_ONCE):
        here = slice(start, start + _AT_ONCE)
        order = np.argsort(draws.uniform(keys[here], len(rows)), axis=1)
        found[:, here] = rows[:, here].gather(0, torch.from_numpy(order.T.copy()))
    return found.reshape(splits.test.inputs.shape)


def columns_permuted(splits: Splits) -> torch.Tensor:
    """Return the test rows with standardised columns in another order, the same for all rows."""
    rows = splits.test.inputs.cpu().flatten(1)
    mean, std = (value.flatten() for value in feature_statistics(splits.train.inputs))
    standardised = (rows.double() - mean) / torch.where(std > 0, std, 1)
    drawn = draws.uniform(_keys(rows.shape[1], "columns_permuted"))
    found = mean + std * standardised[:, torch.from_numpy(np.argsort(drawn))]
    return as_stored(found.reshape(splits.test.inputs.shape), rows)


def _keys(columns: int, purpose: str) -> draws.Keys:
    return draws.keys((str(column).encode() for column in range(columns)), purpose)
