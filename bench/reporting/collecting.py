"""Collect a suite: bring its tables and the looks of its methods up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.results.method_styles import one_line
from bench.results.store import Store


def collect(store: Store, suite: str, recompute: bool = False) -> dict[str, Path]:
    """Bring the tables of ``suite`` up to date; returns their paths by name, ``methods.json`` included.

    recompute: make them anew even if no plan and no run changed since they were made.
    """
    paths = store.update_tables(suite, recompute)
    styles = store.write_styles(suite, method_styles())
    return {**paths, styles.name: styles}


def method_styles() -> dict[str, dict[str, Any]]:
    """What views need of every method: its style, version and the first line of its docstring, by name."""
    from methods.base import METHODS  # here, as it imports torch: errors should not wait for it

    found = {}
    for name in METHODS.names():
        method = METHODS.get(name)
        found[name] = {**vars(method.style), "doc": one_line(method.__doc__), "version": method.version}
    return found
