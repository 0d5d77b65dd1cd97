"""Update the tables of a suite, and the file of its methods' styles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.results.method_styles import one_line
from bench.results.store import Store


def collect(store: Store, suite: str, recompute: bool = False) -> dict[str, Path]:
    """Update the tables of ``suite`` and its ``methods.json``.

    Parameters
    ----------
    store
        Results folder.
    suite
        Name of a suite that was launched.
    recompute
        Make the tables anew even if no plan and no run has changed.

    Returns
    -------
    dict
        Paths of the files by name, ``methods.json`` included.
    """
    paths = store.update_tables(suite, recompute)
    styles = store.write_styles(suite, method_styles())
    return {**paths, styles.name: styles}


def method_styles() -> dict[str, dict[str, Any]]:
    """Return the style, version and first line of the docstring of every method, by name."""
    from methods.base import METHODS  # imported here because it loads torch, for which errors should not wait

    found = {}
    for name in METHODS.names():
        method = METHODS.get(name)
        found[name] = {**vars(method.style), "doc": one_line(method.__doc__), "version": method.version}
    return found
