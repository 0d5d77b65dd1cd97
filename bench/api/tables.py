"""Read results as data frames that carry the definitions of their columns."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results import styles
from bench.results.store import Store
from bench.results.tables.columns import definitions

if TYPE_CHECKING:
    import pandas as pd


def tables(suite: str, results: str | Path = "results", scale: str | None = None) -> dict[str, pd.DataFrame]:
    """Read the tables of a suite as ``bench.grid`` or ``bench.collect`` last wrote them.

    Parameters
    ----------
    suite
        Name of a suite that was launched, such as ``"criteria_ablation"``.
    results
        The results folder, or a folder of published tables.
    scale
        Scale whose runs are read (such as ``"demo"`` or ``"small"``); all scales by default.

    Returns
    -------
    dict of DataFrame
        ``runs`` has one row per run and scale, planned and failed runs included. ``metrics``, ``history``,
        ``layers``, ``criteria_pairs``, ``calibration``, ``selective`` and ``stages`` are long tables with a
        column ``run_id``. The ``attrs`` of each table hold

        - ``definitions``: column to its ``type``, ``unit``, ``definition``, ``source`` and ``better``;
        - ``metrics``: the same for each metric (tables ``metrics`` and ``history`` only);
        - ``styles`` and ``criteria``: how charts show methods and criteria;
        - ``references``: ``config_id`` to the ``config_id`` that it is compared with.

    Raises
    ------
    StoreError
        If there is no such folder, suite or scale, or the tables were not made yet.

    Examples
    --------
    >>> import bench
    >>> runs = bench.tables("sparsity_sweep", "results/reference", scale="demo")["runs"]
    >>> runs.attrs["definitions"]["nll"]["unit"]
    'nats'
    """
    store = Store(results)
    frames = store.read_tables(suite)
    scales = store.scales(suite) if scale is None else [scale]
    references: dict[str, str] = {}
    for name in scales:
        references |= store.references(suite, name)
    if scale is not None:
        runs = frames["runs"]
        frames = only(frames, runs.loc[runs["scale"] == scale, "run_id"].unique())
        frames["runs"] = frames["runs"][frames["runs"]["scale"] == scale]
    methods, criteria = (_styles(store, suite, of) for of in (styles.METHODS, styles.CRITERIA))
    return described(frames, methods, criteria, references)


def _styles(store: Store, suite: str, of: styles.StyleFile) -> dict[str, dict[str, Any]]:
    """Return the styles in the folder; none if an earlier version, which had no such file, wrote it."""
    return store.read_styles(suite, of) if (store.root / suite / of.file).exists() else {}


def only(frames: Mapping[str, pd.DataFrame], run_ids: Collection[str]) -> dict[str, pd.DataFrame]:
    """Return every table with the rows of ``run_ids`` only."""
    return {name: frame[frame["run_id"].isin(run_ids)] for name, frame in frames.items()}


def described(
    frames: Mapping[str, pd.DataFrame],
    methods: Mapping[str, Any],
    criteria: Mapping[str, Any],
    references: Mapping[str, str],
) -> dict[str, pd.DataFrame]:
    """Return ``frames`` with definitions, styles and references in their ``attrs``; see ``tables``."""
    known = copy.deepcopy(definitions())  # whoever gets the tables may change what they carry
    for name, frame in frames.items():
        frame.attrs = {
            "definitions": known[name],
            "styles": dict(methods),
            "criteria": dict(criteria),
            "references": dict(references),
        }
        if (metrics := known.get(f"{name}.metric")) is not None:
            frame.attrs["metrics"] = metrics
    return dict(frames)
