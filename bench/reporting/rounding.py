"""Round the fractions of published tables to as many digits as readers use, to make the files small."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

#: Significant bits of a double.
_BITS = 53
#: How many of them stay, by table: more than four digits of final scores, three of curves that are drawn, and
#: more than two of what is recorded of single updates.
KEPT = {
    "metrics": 14,
    "stages": 14,
    "history": 11,
    "calibration": 11,
    "selective": 11,
    "layers": 8,
    "criteria_pairs": 8,
}


def rounded(table: pa.Table, bits: int) -> pa.Table:
    """Return a table whose fractions have so many significant bits; all else is as it was.

    Whole numbers keep every digit, since they count something.
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            chunks = [_rounded(chunk, _BITS - bits) for chunk in table.column(place).chunks]
            table = table.set_column(place, field, pa.chunked_array(chunks, field.type))
    return table


def _rounded(column: pa.Array, dropped: int) -> pa.Array:
    values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    fraction = np.isfinite(values) & (values != np.rint(values))
    bits = values.view(np.int64) + (1 << (dropped - 1))
    found = np.where(fraction, (bits >> dropped << dropped).view(np.float64), values)
    return pa.array(found, column.type, mask=column.is_null().to_numpy(zero_copy_only=False))
