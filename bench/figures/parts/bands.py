"""Means over seeds of what is recorded while runs train."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.statistics.seeds import LEVEL

#: Below so many seeds no band is drawn: its interval would rest on one or no degree of freedom.
FEWEST = 3
#: Points a line, at most: neighbouring updates are averaged.
MOST_POINTS = 100


def over_seeds(frame: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Mean, half width of the 95 % t-interval and number of runs of each of ``values``, by ``keys``.

    frame: a row a run and value of ``keys``. Columns: ``keys``, ``<value>_mean``, ``<value>_half_width`` (NaN
    below two runs) and ``<value>_n``, in the order of first appearance. Missing values don't count.
    """
    from scipy import stats  # slow to import

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
    """A row a run and moment: updates as they are, or means of neighbouring ones where there are too many.

    table: a row a run and update, with ``run_id``, ``stage``, ``step``, ``epoch``, ``keys`` and ``values``.
    Moments are counted by ``keys``, at most ``most`` of them, in the column ``time``; ``step`` and ``epoch``
    are means like ``values``.
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
