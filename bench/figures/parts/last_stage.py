"""What the long tables say of finished runs: of their last stage, on one part of the data."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def last_rows(
    rows: pd.DataFrame, runs: pd.DataFrame, predictor: str, split: str | None = None, shifted: bool = False
) -> pd.DataFrame:
    """The rows of ``predictor`` that describe the last stage of the finished ones of ``runs``.

    rows: a table with ``run_id``, ``stage``, ``predictor`` and ``split``, of which other runs are left out.
    split: of this alone. shifted: of data with a corruption too.
    """
    kept = rows["predictor"] == predictor
    if split is not None:
        kept &= rows["split"] == split
    if "shift" in rows and not shifted:
        kept &= rows["shift"].isna()
    found = rows[kept]
    done = runs[runs["status"] == "done"].drop_duplicates("run_id")
    stages = dict(zip(done["run_id"].astype(str), done["stage"].astype(str), strict=True))
    ended = found["run_id"].astype(str).map(stages) == found["stage"].astype(str)
    return found[ended]


def scored(
    runs: pd.DataFrame, metrics: pd.DataFrame, names: Sequence[str], predictor: str, split: str
) -> pd.DataFrame:
    """The finished ones of ``runs`` with columns ``names`` as ``predictor`` scored on ``split`` at their end.

    metrics: the table ``metrics``. NaN where a run has no such figure.
    """
    rows = last_rows(metrics[metrics["metric"].isin(list(names))], runs, predictor, split)
    rows = rows.astype({"run_id": str, "metric": str}).drop_duplicates(["run_id", "metric"])
    wide = rows.pivot(index="run_id", columns="metric", values="value").reindex(columns=list(names))
    done = runs[runs["status"] == "done"].drop_duplicates("run_id")
    found = done.drop(columns=[name for name in names if name in done])
    # one concatenation: joining many columns one by one would fragment the frame
    values = wide.reindex(found["run_id"].astype(str)).astype("float64").set_axis(found.index)
    return pd.concat([found, values], axis=1)
