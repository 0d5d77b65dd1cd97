"""Round the fractions of published tables to six digits, so that files are less than half as large."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

#: Significant bits of a double, and how many of them stay.
_BITS, _KEPT = 53, 20
_DROPPED = _BITS - _KEPT


def rounded(table: pa.Table) -> pa.Table:
    """Return a table whose fractions have 20 significant bits, which is six digits; all else is as it was.

    Whole numbers keep every digit, since they count something.
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            chunks = [_rounded(chunk) for chunk in table.column(place).chunks]
            table = table.set_column(place, field, pa.chunked_array(chunks, field.type))
    return table


def _rounded(column: pa.Array) -> pa.Array:
    values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    fraction = np.isfinite(values) & (values != np.rint(values))
    bits = values.view(np.int64) + (1 << (_DROPPED - 1))
    found = np.where(fraction, (bits >> _DROPPED << _DROPPED).view(np.float64), values)
    return pa.array(found, column.type, mask=column.is_null().to_numpy(zero_copy_only=False))
