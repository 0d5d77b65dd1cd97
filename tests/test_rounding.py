"""Numbers of published tables: fractions of so many digits, all else as it was."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bench.reporting import merging
from bench.reporting.rounding import KEPT, rounded


def column(values, bits=16):
    return rounded(pa.table({"value": pa.array(values, pa.float64())}), bits).column("value").to_pylist()


@pytest.mark.parametrize("bits", sorted(set(KEPT.values())))
def test_fractions_have_so_many_bits(bits):
    values = np.random.default_rng(0).normal(size=10_000) * 10.0 ** np.arange(-20, 20).repeat(250)
    found = np.array(column(values, bits))
    fractions = values != np.rint(values)
    off = np.abs(found / values - 1)
    assert off[fractions].max() <= 2.0**-bits and np.array_equal(found[~fractions], values[~fractions])
    bits = np.frexp(found[fractions])[0] * 2.0**bits
    assert np.array_equal(bits, np.rint(bits)) and (off[fractions] > 0).all()


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 123_456_789_012.0, 2.0**52 + 1, float("inf"), -float("inf"), None]
)
def test_what_is_no_fraction_stays(value):
    assert column([value, 0.1])[0] == value


@pytest.mark.parametrize("value", [1.1e-60, -3.3e-300, 0.1])
def test_a_number_of_any_size_is_rounded_alike(value):
    (found,) = column([value])
    assert found == pytest.approx(value, rel=2.0**-16, abs=0) and found != value


def test_what_is_not_a_number_stays():
    assert np.isnan(column([float("nan")])[0])


def test_other_columns_and_missing_values_stay():
    table = pa.table({"n": [1, 2**60 + 1], "name": ["a", None], "value": [0.1, None]})
    found = rounded(table, 16)
    assert found.select(["n", "name"]) == table.select(["n", "name"])
    assert found.column("value").null_count == 1 and found.schema == table.schema
    assert rounded(found, 16) == found


def test_every_published_table_but_runs_is_rounded():
    assert KEPT.keys() == set(merging.TABLES) - {"runs"}
