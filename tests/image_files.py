"""Image sets that may not be there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from methods.core.errors import UserError


@contextmanager
def needed() -> Iterator[None]:
    """Skip the test where files that the block loads are missing; fail if BENCH_DATA_ROOT promises them."""
    try:
        yield
    except UserError as error:
        if os.environ.get("BENCH_DATA_ROOT"):
            raise
        pytest.skip(str(error))
