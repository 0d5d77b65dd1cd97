"""Numbers of published tables: fractions in single precision, all else as it was."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bench.reporting.rounding import rounded


def column(values):
    return rounded(pa.table({"value": pa.array(values, pa.float64())})).column("value").to_pylist()


def test_fractions_are_those_of_single_precision():
    values = np.random.default_rng(0).normal(size=10_000) * 10.0 ** np.arange(-20, 20).repeat(250)
    found = np.array(column(values))
    fractions = values != np.rint(values)
    assert np.array_equal(found[fractions], values[fractions].astype(np.float32).astype(np.float64))
    assert np.array_equal(found[~fractions], values[~fractions]) and 0 < fractions.sum() < len(values)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 123_456_789_012.0, 2.0**52 + 1, float("inf"), -float("inf"), None]
)
def test_what_is_no_fraction_stays(value):
    assert column([value, 0.1]) == [value, float(np.float32(0.1))]


def test_what_single_precision_cannot_hold_is_rounded_alike():
    for value in (1.1e-60, -3.3e-300):
        (found,) = column([value])
        assert found == pytest.approx(value, rel=2.0**-24, abs=0) and found != value
    assert np.isnan(column([float("nan")])[0])


def test_other_columns_and_missing_values_stay():
    table = pa.table({"n": [1, 2**60 + 1], "name": ["a", None], "value": [0.1, None]})
    found = rounded(table)
    assert found.select(["n", "name"]) == table.select(["n", "name"])
    assert found.column("value").null_count == 1 and found.schema == table.schema
    assert rounded(found) == found
