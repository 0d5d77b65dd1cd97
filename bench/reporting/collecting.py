"""Update the tables of a suite, and the styles of its methods and criteria."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results import styles
from bench.results.store import Store

if TYPE_CHECKING:
    from bench.results.tables.run_reader import Renewed


def collect(store: Store, suite: str, renewed: Renewed | None = None) -> dict[str, Path]:
    """Update the tables of ``suite``, its ``methods.json`` and ``criteria.json``.

    Parameters
    ----------
    store
        Results folder.
    suite
        Name of a suite that was launched.
    renewed
        Make the metrics of every run again by this function (see ``Store.update_tables``).

    Returns
    -------
    dict
        Paths of the files by name, those of styles included.
    """
    paths = store.update_tables(suite, renewed)
    known = {styles.METHODS: method_styles(), styles.CRITERIA: criterion_styles()}
    written = [store.write_styles(suite, entries, of) for of, entries in known.items()]
    return {**paths, **{path.name: path for path in written}}


def method_styles() -> dict[str, dict[str, Any]]:
    """Return the style, version and first line of the docstring of every method, by name."""
    from methods.base import METHODS  # imported here because it loads torch, for which errors should not wait

    return {name: _shown(METHODS.get(name)) for name in METHODS.names()}


def criterion_styles() -> dict[str, dict[str, Any]]:
    """Return the same of every criterion, with its formula, source and the criterion that it ranks as."""
    from methods.criteria.base import CRITERIA

    found = {}
    for name in CRITERIA.names():
        criterion = CRITERIA.get(name)
        words = {field: getattr(criterion, field) for field in ("formula", "latex", "source")}
        found[name] = {**_shown(criterion), **words, "ranks_as": criterion.ranks_as or ""}
    return found


def _shown(item: Any) -> dict[str, Any]:
    return {**vars(item.style), "doc": styles.one_line(item.__doc__), "version": item.version}
