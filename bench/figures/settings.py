"""In which settings runs differ."""

from __future__ import annotations

import pandas as pd

_PREFIX = "config."


def differing(runs: pd.DataFrame) -> pd.DataFrame:
    """The settings in which ``runs`` differ, a row each, as texts; ``–`` where a run has none.

    runs: two or more rows of the table ``runs``. Columns: ``setting``, then a run's id each.
    """
    texts = {
        name: [_text(value) for value in runs[name]] for name in map(str, runs) if name.startswith(_PREFIX)
    }
    names = [name for name, values in texts.items() if len(set(values)) > 1]
    found = {
        run_id: [texts[name][number] for name in names]
        for number, run_id in enumerate(runs["run_id"].astype(str))
    }
    return pd.DataFrame({"setting": [name.removeprefix(_PREFIX) for name in names], **found})


def settings(run: pd.Series) -> pd.DataFrame:
    """All settings that a run has, as texts: ``setting`` and ``value``."""
    known = {str(name): _text(value) for name, value in run.items() if str(name).startswith(_PREFIX)}
    rows = [(name.removeprefix(_PREFIX), text) for name, text in known.items() if text != "–"]
    return pd.DataFrame(rows, columns=["setting", "value"])


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # the last of which is NaN
        return "–"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
