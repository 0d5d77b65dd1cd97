"""Average over seeds what runs record while they train."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.statistics.seeds import LEVEL

#: Least number of seeds for a band; with fewer, its interval would have at most one degree of freedom.
FEWEST = 3
#: Greatest number of points of a line; if there are more updates, neighbouring ones are averaged.
MOST_POINTS = 100


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Compute mean, half width of the 95 % t-interval and number of runs of each of ``values``.

    Parameters
    ----------
    frame
        One row for each run and value of ``keys``.
    keys
        Columns whose values form the groups.
    values
        Columns to average; missing values are ignored.

    Returns
    -------
    pandas.DataFrame
        One row per group, in order of first appearance: ``keys``, and for each value ``<value>_mean``,
        ``<value>_half_width`` (NaN below two runs) and ``<value>_n``.
    """
    from scipy import stats  # imported here since it is slow to load

    groups = frame.groupby(list(keys), sort=False, observed=True)
    table = groups.size().index.to_frame(index=False)
    for value in values:
        found = groups[value].agg(["mean", "std", "count"])
        enough = found["count"].where(found["count"] > 1).astype("float64")
        quantile = stats.t.ppf((1 + LEVEL) / 2, enough - 1)
        table[f"{value}_mean"] = found["mean"].astype("float64").array
        table[f"{value}_half_width"] = (found["std"] * quantile / enough**0.5).astype("float64").array
        table[f"{value}_n"] = found["count"].array
    return table


def in_bins(table: pd.DataFrame, keys: Sequence[str], most: int, values: Sequence[str]) -> pd.DataFrame:
    """Average neighbouring updates of each run if there are more than ``most``.

    Parameters
    ----------
    table
        One row for each run and update, with ``run_id``, ``stage``, ``step``, ``epoch``, ``keys`` and
        ``values``.
    keys
        Columns within whose values updates are numbered.
    most
        Greatest number of points for each value of ``keys``.
    values
        Columns to average.

    Returns
    -------
    pandas.DataFrame
        One row for each run and point. The column ``time`` numbers the points; ``step`` and ``epoch`` are
        averaged like ``values``.
    """
    order = table[[*keys, "stage", "step"]].drop_duplicates()
    stages = pd.Series(pd.factorize(order["stage"])[0], index=order.index)
    order = order.assign(_stage=stages).sort_values([*keys, "_stage", "step"], kind="stable")
    groups = order.groupby(list(keys) or (lambda _: 0), sort=False, observed=True)
    number, count = groups.cumcount(), groups["step"].transform("size")
    order["time"] = number.where(count <= most, number * most // count)
    merged = table.merge(order.drop(columns="_stage"), on=[*keys, "stage", "step"])
    wanted = list(dict.fromkeys([*values, "step", "epoch"]))
    return merged.groupby([*keys, "run_id", "time"], sort=False, observed=True)[wanted].mean().reset_index()
