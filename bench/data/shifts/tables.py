"""Shift rows of a table: noise on each value, values that are missing, and features on another scale."""

from __future__ import annotations

import torch

from bench.data import draws
from bench.data.base import Shift, Splits
from bench.data.draws import Keys
from bench.data.fingerprint import row_bytes
from bench.data.stored import as_stored

#: Constants of each shift, in the order of severities 1 to 5.
CONSTANTS = {
    # standard deviation, as a share of that of the feature in the training part
    "additive_noise": (0.1, 0.2, 0.4, 0.7, 1.0),
    # share of the values that are missing
    "missing_features": (0.05, 0.1, 0.2, 0.35, 0.5),
    # standard deviation of the logarithm of the factor of a feature
    "scaled_features": (0.05, 0.1, 0.2, 0.35, 0.5),
}


def table_shifts() -> dict[str, Shift]:
    """Return the shifts that any table of numbers has, inputs (N, F).

    Returns
    -------
    dict
        ``additive_noise``: normal noise is added to each value. ``missing_features``: values are replaced by
        the mean of their feature in the training part, each with the same probability. ``scaled_features``:
        each feature is multiplied by a factor of its own, the same for all rows, as by an instrument that was
        calibrated anew.
    """
    return {
        "additive_noise": additive_noise,
        "missing_features": missing_features,
        "scaled_features": scaled_features,
    }


def additive_noise(inputs: torch.Tensor, severity: int, splits: Splits) -> torch.Tensor:
    """Add normal noise in units of the standard deviations of the training part."""
    noise = draws.normal(_keys("additive_noise", inputs, severity), *inputs.shape[1:])
    std = splits.train.inputs.cpu().double().std(0, correction=0)
    return as_stored(
        inputs.cpu().double() + CONSTANTS["additive_noise"][severity - 1] * std * torch.from_numpy(noise),
        inputs,
    )


def missing_features(inputs: torch.Tensor, severity: int, splits: Splits) -> torch.Tensor:
    """Replace values by the mean of their feature in the training part."""
    drawn = draws.uniform(_keys("missing_features", inputs, severity), *inputs.shape[1:])
    missing = torch.from_numpy(drawn < CONSTANTS["missing_features"][severity - 1])
    mean = splits.train.inputs.cpu().double().mean(0)
    return as_stored(torch.where(missing, mean, inputs.cpu().double()), inputs)


def scaled_features(inputs: torch.Tensor, severity: int, splits: Splits) -> torch.Tensor:
    """Multiply each feature by a factor of its own, which is farther from 1 at a higher severity."""
    features = draws.keys((str(number).encode() for number in range(inputs[0].numel())), "scaled_features")
    logarithms = CONSTANTS["scaled_features"][severity - 1] * torch.from_numpy(draws.normal(features))
    return as_stored(inputs.cpu().double() * logarithms.exp().reshape(inputs.shape[1:]), inputs)


def _keys(name: str, inputs: torch.Tensor, severity: int) -> Keys:
    return draws.keys(row_bytes(inputs), f"{name} {severity}")
