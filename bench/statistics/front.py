"""Say how sure a Pareto front is: how often each configuration is on it over resampled seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.statistics.seeds import by_seed, pareto_front

#: Number of resamples: a share is then known to 2 points.
_RESAMPLES = 500


def front_shares(runs: pd.DataFrame, cost: str, value: str, better: str, saves: bool = False) -> pd.Series:
    """Compute how often each configuration is on the Pareto front of means over resampled seeds.

    Seeds are drawn with replacement, the same ones for all configurations, since runs of one seed share data
    and noise. A configuration without a run of the drawn seeds is not on that front.

    Parameters
    ----------
    runs
        The table ``runs`` of one scale.
    cost, value
        Columns of ``runs``.
    better
        ``higher`` or ``lower``: which values are better.
    saves
        Whether more of ``cost`` is better, as of a compression.

    Returns
    -------
    pandas.Series
        Shares from 0 to 1 by ``config_id``; NaN if there are fewer than two seeds.
    """
    costs, values = by_seed(runs, cost), by_seed(runs, value)
    ids = costs.columns.intersection(values.columns, sort=False)
    seeds = costs.index.union(values.index)
    tables = [table.reindex(index=seeds, columns=ids) for table in (costs, values)]
    if len(seeds) < 2:
        return pd.Series(np.nan, index=ids)
    known = (tables[0].notna() & tables[1].notna()).to_numpy(dtype=float)
    draws = np.random.default_rng(0).multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), _RESAMPLES)
    counts = draws @ known
    with np.errstate(invalid="ignore"):
        means = [draws @ np.where(known, table.to_numpy(), 0) / counts for table in tables]
    sign = -1 if saves else 1
    fronts = [pareto_front(sign * one, two, better) for one, two in zip(*means, strict=True)]
    return pd.Series(np.mean(fronts, axis=0), index=ids)
