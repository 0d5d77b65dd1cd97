"""Alter the test rows of a table until they belong to no class, or draw rows of noise."""

from __future__ import annotations

import numpy as np
import torch

from bench.data import draws
from bench.data.base import Splits, Unknown
from bench.data.stored import as_stored
from bench.data.unknown.noise import table_noise


def table_sets() -> dict[str, Unknown]:
    """Return the unknown sets that any table of numbers has, inputs (N, F).

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
    rows = splits.test.inputs.cpu()
    order = np.argsort(draws.uniform(_keys(rows.shape[1], "columns_shuffled"), len(rows)), axis=1)
    return rows.gather(0, torch.from_numpy(order.T.copy()))


def columns_permuted(splits: Splits) -> torch.Tensor:
    """Return the test rows with standardised columns in another order, the same for all rows."""
    rows, train = splits.test.inputs.cpu(), splits.train.inputs.cpu().double()
    mean, std = train.mean(0), train.std(0, correction=0)
    standardised = (rows.double() - mean) / torch.where(std > 0, std, 1)
    drawn = draws.uniform(_keys(rows.shape[1], "columns_permuted"))
    return as_stored(mean + std * standardised[:, torch.from_numpy(np.argsort(drawn))], rows)


def _keys(columns: int, purpose: str) -> draws.Keys:
    return draws.keys((str(column).encode() for column in range(columns)), purpose)
