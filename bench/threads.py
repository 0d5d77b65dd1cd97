"""How many threads libraries take: they size their pools when they load, before anything could tell them."""

from __future__ import annotations


def limits(threads: int) -> dict[str, str]:
    """The environment in which no library takes more than ``threads``."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
