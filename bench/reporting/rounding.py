"""Round the fractions of published tables to single precision, so that files are half as large."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

#: Bits of a double's fraction that a single-precision number lacks.
_DROPPED = 29


def rounded(table: pa.Table) -> pa.Table:
    """Return a table whose fractions have 24 significant bits, about 7 digits; all else is as it was.

    Whole numbers keep every digit, since they count something. So do exponents: what is too small or too
    large for single precision is rounded like other numbers.
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
