"""What runs say and how sure it is: means over seeds, differences paired by seed, ranks, Pareto fronts.

A run counts once however many suites hold it, one that isn't done and a metric that is null count as
absent, and scales are never mixed. Intervals have the level ``LEVEL``; over seeds of one data split they are
over training randomness alone. What no normal distribution is needed for is in ``nonparametric``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results.tables.columns import definitions

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]

LEVEL = 0.95
#: Two configurations are separable where the adjusted p value of their difference is below this.
ALPHA = 0.05
#: What describes a configuration; carried along where all runs of a group agree.
_DESCRIPTION = ("config_label", "recipe", "method", "dataset", "network", "sparsity", "criterion", "addition")
_TEST_SET = ("dataset", "network")


# -- seeds ------------------------------------------------------------------------------


def summarise(
    runs: pd.DataFrame, by: str = "config_id", metrics: Sequence[str] = ("accuracy", "nll", "ece")
) -> pd.DataFrame:
    """Mean, half width of the 95 % t-interval and number of finished runs for each of ``metrics``.

    runs: the table ``runs``, of several suites if need be. One row a scale and value of ``by``,
    in order of first appearance. Columns: ``scale``, ``by``, what describes the configuration (null
    where the runs of the group differ), then ``<metric>_mean``, ``<metric>_half_width`` (NaN below two
    runs, where no interval exists) and ``<metric>_n`` (runs that are done and have the metric).
    """
    import pandas as pd

    done = _done(runs)
    groups = done.groupby(["scale", by], sort=False, dropna=False, observed=True)
    columns: dict[Any, Any] = dict(groups.size().index.to_frame(index=False).items())
    for column in (c for c in _DESCRIPTION if c in done and c != by):
        columns[column] = groups[column].first().where(groups[column].nunique(dropna=False) == 1).array
    for metric in metrics:
        mean, std, count = _moments_of(groups[metric])
        columns[f"{metric}_mean"] = mean
        columns[f"{metric}_half_width"] = _half_width(std, count)
        columns[f"{metric}_n"] = pd.array(count, dtype="Float64").astype("Int64")
    return pd.DataFrame(columns)


def by_seed(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Finished values of ``metric``: a row a seed, a column a ``config_id`` in order of appearance.

    NaN where a configuration lacks the seed. Raises ``ValueError`` where runs are of several scales.
    """
    done = _done(runs)
    if done["scale"].nunique() > 1:
        raise ValueError(f"runs of several scales: {', '.join(sorted(done['scale'].unique()))}")
    done = done.assign(config_id=done["config_id"].astype(object)).dropna(subset=["seed", metric])
    table = done.pivot(index="seed", columns="config_id", values=metric).astype("float64")
    return table[done["config_id"].unique()]


# -- differences ------------------------------------------------------------------------


def paired(runs: pd.DataFrame, metric: str, references: Mapping[str, str]) -> pd.DataFrame:
    """Differences of ``metric`` to a reference configuration, seed by seed, averaged.

    references: ``config_id`` to that of its reference. One row a scale and ``config_id`` that shares
    a seed with its reference: ``difference`` (configuration less reference), ``half_width`` of the 95 %
    t-interval, ``n`` pairs, ``p`` of the paired t-test and ``p_holm``, adjusted for all configurations here
    of the same scale, data set and network; widths and p are NaN below two pairs. A configuration that is
    its own reference is no comparison and isn't counted as one.
    """
    done = _done(runs)
    test_set = [column for column in _TEST_SET if column in done]
    keys = ["scale", "config_id", "seed"]
    values = done[[*keys, *test_set, metric]].dropna(subset=[*keys, metric])
    mine = values.assign(reference=values["config_id"].map(dict(references))).dropna(subset="reference")
    pairs = mine.merge(
        values[[*keys, metric]], left_on=["scale", "reference", "seed"], right_on=keys,
        suffixes=("", "_reference"),
    )  # fmt: skip
    pairs["difference"] = (pairs[metric] - pairs[f"{metric}_reference"]).astype("float64")
    groups = pairs.groupby(["scale", "config_id"], sort=False, observed=True)
    found = groups.size().index.to_frame(index=False)
    mean, std, count = _moments_of(groups["difference"])
    found["difference"] = mean
    found["half_width"] = _half_width(std, count)
    found["n"] = count
    found["p"] = _p_value(mean, std / np.sqrt(count), count - 1)
    family = [found["scale"], *(groups[column].first().reset_index(drop=True) for column in test_set)]
    itself = found["config_id"].astype(object) == groups["reference"].first().astype(object).array
    tested = found["p"].where(~itself).groupby(family, dropna=False, observed=True)
    found["p_holm"] = tested.transform(holm).astype("float64").where(~itself, found["p"])
    return found.astype({"n": "Int64"})


def holm(p: ArrayLike) -> Numbers:
    """Adjusted p values of a family by Holm's step-down procedure (1979), at most 1.

    p: of any shape, taken as one family; NaN is no test and stays.
    """
    values = np.asarray(p, dtype=np.float64)
    flat = values.ravel()
    tests = int((~np.isnan(flat)).sum())
    order = np.argsort(flat, kind="stable")[:tests]  # NaN is last
    adjusted = np.full(flat.shape, np.nan)
    stepped = np.maximum.accumulate(flat[order] * (tests - np.arange(tests)))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.reshape(values.shape)


def ranking(runs: pd.DataFrame, metric: str, better: str | None = None) -> pd.DataFrame:
    """Configurations, best mean of ``metric`` first, with the ranks that can't be ruled out.

    better: ``higher`` or ``lower``; what ``bench/columns.yaml`` says unless given. Of each scale, data set
    and network a row a configuration with the metric: ``scale``, ``config_id``, ``n``; ``rank_low``, 1 + how
    many are significantly better, and ``rank_high``, all less how many are significantly worse;
    ``p_holm`` of the difference to the best mean (NaN for that itself, and where either has one seed) and
    ``separable``, whether the best is significantly better.

    All pairs are compared, by the paired t-test where they share two seeds and Welch's elsewhere, and make
    one family of Holm's. Comparisons with the best mean alone would be a smaller one, but which it is
    the same data chose: among 10 equals over 5 seeds, 13 % of such tables told some of them apart.
    Takes memory for seeds times pairs of numbers.
    """
    import pandas as pd

    sign = direction(better or definitions()["runs"].get(metric, {}).get("better"), metric)
    done = _done(runs).dropna(subset=[metric])
    keys = ["scale", *(column for column in _TEST_SET if column in done)]
    groups = done.groupby(keys, sort=False, dropna=False, observed=True)
    parts = [part for _, part in groups] or [done]
    return pd.concat([_ranks(part, metric, sign) for part in parts], ignore_index=True)


def pareto_front(costs: ArrayLike, values: ArrayLike, better: str) -> NDArray[np.bool_]:
    """Which points no other dominates: none is at least as good in both and better in one.

    costs, values: of one length; a lower cost is better, and of values what ``better`` says. Equal points are
    on the front together; one with a NaN never is.
    """
    cost = np.asarray(costs, dtype=np.float64)
    value = direction(better) * np.asarray(values, dtype=np.float64)
    front = ~(np.isnan(cost) | np.isnan(value))
    levels, level = np.unique(cost[front], return_inverse=True)
    best = np.full(len(levels), -np.inf)
    np.maximum.at(best, level, value[front])
    rises = np.ones(len(levels), dtype=bool)  # whether a level's best is above that of all cheaper ones
    rises[1:] = best[1:] > np.maximum.accumulate(best)[:-1]
    front[front] = (value[front] == best[level]) & rises[level]
    return front


def direction(better: str | None, metric: str = "it") -> int:
    """1 where ``better`` is ``higher``, -1 where it is ``lower``; of anything else ``ValueError``."""
    if better not in ("higher", "lower"):
        raise ValueError(f"whether higher or lower is better of {metric} has to be said, not {better!r}")
    return 1 if better == "higher" else -1


# ---------------------------------------------------------------------------------------


def _done(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["status"] == "done"].drop_duplicates(["scale", "run_id"])


def _moments_of(groups: Any) -> tuple[Numbers, Numbers, Numbers]:
    """Mean, standard deviation (NaN below two) and count of each group of a grouped column."""
    found = groups.agg(["mean", "std", "count"])
    mean, std, count = (found[name].to_numpy(np.float64, na_value=np.nan) for name in found)
    return mean, std, count


def _moments(values: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Mean, variance (NaN below two) and count of each column, NaN absent."""
    count = (~np.isnan(values)).sum(axis=0).astype(np.float64)
    lowest = np.fmin.reduce(values, axis=0, initial=np.inf)
    # less their minimum, equal numbers are exactly 0: else rounding of the mean would be their variance
    above = values - lowest
    count = np.where(count > 0, count, np.nan)
    mean = np.nansum(above, axis=0) / count
    squares = np.nansum((above - mean) ** 2, axis=0)
    return lowest + mean, squares / np.where(count > 1, count - 1, np.nan), count


def _half_width(std: Numbers, count: Numbers) -> Numbers:
    """Of the t-interval of a mean: NaN below two values, as ``std`` is."""
    from scipy import stats  # slow to import, and most readers of tables never need it

    return np.asarray(std * stats.t.ppf((1 + LEVEL) / 2, count - 1) / np.sqrt(count))


def _p_value(mean: Numbers, error: Numbers, freedom: Numbers) -> Numbers:
    """Two-sided p value of Student's t; without any error 1 for a mean of 0, and 0 for another."""
    from scipy import stats

    exact = error == 0
    with np.errstate(invalid="ignore"):  # infinite figures, of which there is no t
        t = np.abs(mean) / np.where(exact, np.nan, error)
    return np.asarray(np.where(exact, mean == 0, 2 * stats.t.sf(t, freedom)))


def _pairwise(values: Numbers) -> tuple[Numbers, Numbers]:
    """Differences of means and p values of all pairs of columns, in the order of ``triu_indices``."""
    one, other = np.triu_indices(values.shape[1], 1)
    mean, variance, shared = _moments(values[:, one] - values[:, other])
    means, variances, counts = _moments(values)
    squares = variances / counts
    unpaired = squares[one] + squares[other]
    # Welch and Satterthwaite's degrees of freedom, in shares: no square can underflow to 0 / 0
    share = squares[one] / np.where(unpaired > 0, unpaired, np.nan)
    left = np.where(counts > 1, counts - 1, np.nan)
    welch = 1 / (share**2 / left[one] + (1 - share) ** 2 / left[other])
    pairs = shared > 1
    difference = np.where(pairs, mean, means[one] - means[other])
    error = np.sqrt(np.where(pairs, variance / shared, unpaired))
    return difference, _p_value(difference, error, np.where(pairs, shared - 1, welch))


def _ranks(runs: pd.DataFrame, metric: str, sign: int) -> pd.DataFrame:
    """Rows of ``ranking`` for runs of one scale and test set."""
    import pandas as pd

    table = by_seed(runs, metric)
    means = table.mean()
    table = table[means.index[np.argsort(-sign * means.to_numpy(), kind="stable")]]
    size = table.shape[1]
    difference, p = _pairwise(sign * table.to_numpy())
    adjusted = holm(p)
    one, other = np.triu_indices(size, 1)
    first, second = ((adjusted < ALPHA) & wins for wins in (difference > 0, difference < 0))
    beats = np.bincount(one[first], minlength=size) + np.bincount(other[second], minlength=size)
    beaten = np.bincount(other[first], minlength=size) + np.bincount(one[second], minlength=size)
    scale = runs["scale"].array.take(np.zeros(size, dtype=np.intp))
    config_id = table.columns.astype(runs["config_id"].dtype)
    found = pd.DataFrame({"scale": scale, "config_id": config_id, "n": table.count().to_numpy()})
    found["rank_low"], found["rank_high"] = 1 + beaten, size - beats
    # the best is the first column, without a pair of its own; the first pairs are those with it, in order
    itself = min(size, 1)
    found["p_holm"] = np.concatenate([[np.nan] * itself, adjusted[: size - itself]])
    found["separable"] = np.concatenate([[False] * itself, first[: size - itself]])
    return found.astype({"n": "Int64", "rank_low": "Int64", "rank_high": "Int64", "separable": "bool"})
