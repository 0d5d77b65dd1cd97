"""Pick the rows of the long tables that describe the last stage of finished runs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs of the table ``runs``, each once."""
    return runs[runs["status"] == "done"].drop_duplicates("run_id")


def last_rows(
    rows: pd.DataFrame, runs: pd.DataFrame, predictor: str, split: str | None = None, shifted: bool = False
) -> pd.DataFrame:
    """Pick the rows of ``predictor`` that describe the last stage of finished runs.

    Parameters
    ----------
    rows
        A table with ``run_id``, ``stage``, ``predictor`` and ``split``.
    runs
        The table ``runs``; rows of other runs are left out.
    predictor
        A value of the column ``predictor``.
    split
        Only rows of this part of the data; None for all.
    shifted
        Whether to keep rows of corrupted data.
    """
    kept = rows["predictor"] == predictor
    if split is not None:
        kept &= rows["split"] == split
    if "shift" in rows and not shifted:
        kept &= rows["shift"].isna()
    found = rows[kept]
    done = finished(runs)
    stages = dict(zip(done["run_id"].astype(str), done["stage"].astype(str), strict=True))
    ended = found["run_id"].astype(str).map(stages) == found["stage"].astype(str)
    return found[ended]


def scored(
    runs: pd.DataFrame, metrics: pd.DataFrame, names: Sequence[str], predictor: str, split: str
) -> pd.DataFrame:
    """Add scores of the last stage to the finished runs of ``runs``.

    Parameters
    ----------
    runs
        The table ``runs``.
    metrics
        The table ``metrics``.
    names
        Metrics; each becomes a column, NaN for runs without it, and replaces a column of the same name.
    predictor, split
        The predictor and the part of the data that are scored.
    """
    rows = last_rows(metrics[metrics["metric"].isin(list(names))], runs, predictor, split)
    rows = rows.astype({"run_id": str, "metric": str}).drop_duplicates(["run_id", "metric"])
    wide = rows.pivot(index="run_id", columns="metric", values="value").reindex(columns=list(names))
    done = finished(runs)
    found = done.drop(columns=[name for name in names if name in done])
    # one concatenation, since adding columns one by one would fragment the frame
    values = wide.reindex(found["run_id"].astype(str)).astype("float64").set_axis(found.index)
    return pd.concat([found, values], axis=1)


def where(predictor: str, split: str) -> str:
    """Say which rows a chart shows."""
    return f"Predictor `{predictor}`, split `{split}`, last stage of each run."
