"""How much is drawn at random: a little in CI, many times as much by ``make fuzz``."""

from __future__ import annotations

import os

#: How many times as much as in CI; what is drawn first is the same.
TIMES = int(os.environ.get("BENCH_FUZZ", "1"))


def tries(count: int) -> int:
    """How often to try what CI tries ``count`` times."""
    return count * TIMES
