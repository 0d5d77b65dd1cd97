"""Seeds collapsed: mean and interval of finished runs by configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
#: What describes a configuration; carried along where all runs of a group agree.
_DESCRIPTION = ("config_label", "recipe", "method", "dataset", "network", "sparsity", "criterion", "addition")


def summarise(
    runs: pd.DataFrame, by: str = "config_id", metrics: Sequence[str] = ("accuracy", "nll", "ece")
) -> pd.DataFrame:
    """Mean, half width of the 95 % t-interval and number of finished runs for each of ``metrics``.

    runs: the table ``runs``, of several suites if need be: a run counts once. One row a
    scale and value of ``by``, in order of first appearance: scales are never mixed. Columns:
    ``scale``, ``by``, what describes the configuration (null where the runs of the group
    differ), then ``<metric>_mean``, ``<metric>_half_width`` (NaN below two runs, where no
    interval exists) and ``<metric>_n`` (runs that are done and have the metric).

    Over seeds of one data split the interval is over training randomness alone.
    """
    done = runs[runs["status"] == "done"].drop_duplicates(["scale", "run_id"])
    keys = ["scale", by]
    groups = done.groupby(keys, sort=False, dropna=False)
    table = groups.size().index.to_frame(index=False)
    for column in (c for c in _DESCRIPTION if c in done and c != by):
        table[column] = groups[column].first().where(groups[column].nunique(dropna=False) == 1).array
    for metric in metrics:
        found = groups[metric].agg(["mean", "std", "count"])
        table[f"{metric}_mean"] = found["mean"].astype("float64").array
        table[f"{metric}_half_width"] = _half_width(found["std"], found["count"]).array
        table[f"{metric}_n"] = found["count"].astype("Int64").array
    return table


def _half_width(std: pd.Series[float], count: pd.Series[int]) -> pd.Series[float]:
    from scipy import stats  # slow to import, and most readers of tables never need it

    enough = count.where(count > 1)
    quantile = stats.t.ppf((1 + LEVEL) / 2, enough - 1)
    return (std * quantile / enough**0.5).astype("float64")
