"""Seeds collapsed: mean and interval of finished runs by configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def paired(runs: pd.DataFrame, metric: str, references: Mapping[str, str]) -> pd.DataFrame:
    """Differences of ``metric`` to a reference configuration, seed by seed, averaged.

    references: ``config_id`` to that of its reference. One row a scale and ``config_id`` that shares
    a seed with its reference: ``difference`` (configuration less reference), ``half_width`` of the 95 %
    t-interval (NaN below two pairs), ``n`` pairs.
    """
    import pandas as pd

    done = runs[runs["status"] == "done"].drop_duplicates(["scale", "run_id"])
    mine = done[["scale", "config_id", "seed", metric]].dropna()
    mine = mine.assign(reference=mine["config_id"].map(dict(references))).dropna(subset="reference")
    theirs = done[["scale", "config_id", "seed", metric]].dropna()
    pairs = mine.merge(
        theirs, left_on=["scale", "reference", "seed"], right_on=["scale", "config_id", "seed"],
        suffixes=("", "_reference"),
    )  # fmt: skip
    pairs["difference"] = (pairs[metric] - pairs[f"{metric}_reference"]).astype("float64")
    groups = pairs.groupby(["scale", "config_id"], sort=False)["difference"].agg(["mean", "std", "count"])
    found = groups.index.to_frame(index=False)
    found["difference"] = groups["mean"].array
    found["half_width"] = _half_width(groups["std"], groups["count"]).array
    found["n"] = groups["count"].astype("Int64").array
    return pd.DataFrame(found)


def _half_width(std: pd.Series[float], count: pd.Series[int]) -> pd.Series[float]:
    from scipy import stats  # slow to import, and most readers of tables never need it

    enough = count.where(count > 1)
    quantile = stats.t.ppf((1 + LEVEL) / 2, enough - 1)
    return (std * quantile / enough**0.5).astype("float64")
