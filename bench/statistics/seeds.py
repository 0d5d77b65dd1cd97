"""Compute statistics over seeds: means with intervals, differences paired by seed, ranks, Pareto fronts.

A run counts once, however many suites hold it. Runs that are not done and metrics that are null are left
out, and scales are never mixed. Intervals have the level ``LEVEL`` and assume normal values. If all seeds
share one test set, they cover the randomness of training only; if each seed draws its own, they are corrected
for the overlap (``splits``). Statistics that do not assume normal values are in ``nonparametric``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results.tables.columns import definitions
from bench.statistics.multiple import ALPHA, holm, shaffer, verdicts
from bench.statistics.splits import overlap, variance_factor

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]

#: Confidence level of all intervals.
LEVEL = 0.95
#: Greatest number of configurations to compare in pairs; twice as many would take seconds and hundreds of MB.
MOST_COMPARED = 500
#: Columns that describe a configuration; a group of runs keeps a value on which all its runs agree.
_DESCRIPTION = ("config_label", "recipe", "method", "dataset", "network", "sparsity", "criterion", "addition")
_TEST_SET = ("dataset", "network")
#: Name of the column that holds ``overlap`` of each run, in tables of this module alone.
_OVERLAP = " overlap"


# -- seeds ------------------------------------------------------------------------------


def summarise(
    runs: pd.DataFrame, by: str = "config_id", metrics: Sequence[str] = ("accuracy", "nll", "ece")
) -> pd.DataFrame:
    """Compute mean, half width of the 95 % t-interval and number of finished runs for each of ``metrics``.

    Intervals are corrected where seeds draw their own test parts (see ``bench.statistics.splits``).

    Parameters
    ----------
    runs
        The table ``runs`` of one or more suites.
    by
        Column whose values form the groups.
    metrics
        Columns of ``runs``.

    Returns
    -------
    pandas.DataFrame
        One row for each scale and value of ``by``, in order of first appearance. Columns: ``scale``, ``by``,
        the columns that describe the configuration (null if the runs of the group differ), and for each
        metric ``<metric>_mean``, ``<metric>_half_width`` (NaN below two runs) and ``<metric>_n`` (number of
        finished runs that have the metric).

    Examples
    --------
    >>> import bench
    >>> runs = bench.tables("sparsity_sweep", "results/reference", scale="demo")["runs"]
    >>> first = bench.statistics.summarise(runs).iloc[0]
    >>> f"{first['config_label']}: {first['accuracy_mean']:.3f} ± {first['accuracy_half_width']:.3f}"
    'dense_vi: 0.977 ± 0.002'
    """
    import pandas as pd

    done = _done(runs, *metrics)
    done = done.assign(**{_OVERLAP: overlap(done)})
    groups = done.groupby(["scale", by], sort=False, dropna=False, observed=True)
    share = groups[_OVERLAP].max().to_numpy(np.float64)
    columns: dict[Any, Any] = dict(groups.size().index.to_frame(index=False).items())
    for column in (c for c in _DESCRIPTION if c in done and c != by):
        columns[column] = groups[column].first().where(groups[column].nunique(dropna=False) == 1).array
    for metric in metrics:
        mean, std, count = _moments_of(groups[metric])
        columns[f"{metric}_mean"] = mean
        columns[f"{metric}_half_width"] = _half_width(std, count, share if is_score(metric) else 0.0)
        columns[f"{metric}_n"] = pd.array(count, dtype="Float64").astype("Int64")
    return pd.DataFrame(columns)


def by_seed(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Arrange the values of ``metric`` of finished runs by seed and configuration.

    Returns
    -------
    pandas.DataFrame
        One row per seed, one column per ``config_id`` in order of appearance; NaN where a configuration has
        no run with this seed.

    Raises
    ------
    ValueError
        The finished runs have different scales.
    """
    done = _done(runs, metric)
    if done["scale"].nunique() > 1:
        raise ValueError(f"runs of several scales: {', '.join(sorted(done['scale'].unique()))}")
    done = done.assign(config_id=done["config_id"].astype(object)).dropna(subset=["seed", metric])
    table = done.pivot(index="seed", columns="config_id", values=metric).astype("float64")
    return table[done["config_id"].unique()]


# -- differences ------------------------------------------------------------------------


def paired(
    runs: pd.DataFrame,
    metric: str,
    references: Mapping[str, str] | str | None = None,
    margin: float | None = None,
) -> pd.DataFrame:
    """Compute the mean difference of ``metric`` to a reference configuration, paired by seed, with a verdict.

    The paired t-test tells whether a configuration differs; two one-sided t-tests tell whether it is
    equivalent, that is, whether it differs by less than ``margin`` (Schuirmann 1987). Both are corrected
    where seeds draw their own test parts (see ``bench.statistics.splits``), and by Holm's procedure for all
    comparisons at the same scale, data set and network.

    Parameters
    ----------
    runs
        The table ``runs`` of one or more suites.
    metric
        Column of ``runs``.
    references
        ``config_id`` of the reference by ``config_id`` of the configuration, or anything else that
        ``references_of`` takes; by default the references of the suite.
    margin
        Largest difference that does not matter, in the unit of the column; by default the margin of the
        metric in ``bench/columns.yaml``. Without one, no configuration is called equivalent.

    Returns
    -------
    pandas.DataFrame
        One row for each scale and ``config_id`` that shares a seed with its reference: ``difference``
        (configuration minus reference), ``half_width`` of its 95 % t-interval, ``n`` (number of pairs), ``p``
        of the paired t-test, ``p_holm``, adjusted for the family, ``smallest``, the smallest difference that
        would have been significant with these pairs if it were the clearest of the family,
        ``p_equivalent``, adjusted, and ``verdict``: ``differs``, ``equivalent`` or ``undecided`` (see
        ``verdicts``). Values that need a variance are NaN below two pairs. A configuration that is its own
        reference has a row with the verdict ``reference``, but is not counted as a comparison.

    Examples
    --------
    >>> import bench
    >>> runs = bench.tables("sparsity_sweep", "results/reference", scale="demo")["runs"]
    >>> found = bench.statistics.paired(runs, "nll")
    >>> int((found["verdict"] == "differs").sum())  # from dense VI
    5
    """
    import pandas as pd

    known = dict(references_of(runs, references))
    done = _done(runs, metric)
    done = done.assign(**{_OVERLAP: overlap(done)})
    test_set = [column for column in _TEST_SET if column in done]
    keys = ["scale", "config_id", "seed"]
    values = done[[*keys, *test_set, _OVERLAP, metric]].dropna(subset=[*keys, metric])
    mine = values.assign(reference=values["config_id"].map(known)).dropna(subset="reference")
    pairs = mine.merge(
        values[[*keys, metric]], left_on=["scale", "reference", "seed"], right_on=keys,
        suffixes=("", "_reference"),
    )  # fmt: skip
    pairs["difference"] = (pairs[metric] - pairs[f"{metric}_reference"]).astype("float64")
    groups = pairs.groupby(["scale", "config_id"], sort=False, observed=True)
    found = groups.size().index.to_frame(index=False)
    mean, std, count = _moments_of(groups["difference"])
    share = groups[_OVERLAP].max().to_numpy(np.float64) * is_score(metric)
    error = std * np.sqrt(variance_factor(count, share))
    found["difference"] = mean
    found["half_width"] = _half_width(std, count, share)
    found["n"] = count
    found["p"] = p_value(mean, error, count - 1)
    family = [found["scale"], *(groups[column].first().reset_index(drop=True) for column in test_set)]
    itself = found["config_id"].astype(object) == groups["reference"].first().astype(object).array

    def of_family(p: Any, how: Any) -> pd.Series[float]:
        tested = pd.Series(p, found.index).where(~itself).groupby(family, dropna=False, observed=True)
        adjusted: pd.Series[float] = tested.transform(how).astype("float64")
        return adjusted

    found["p_holm"] = of_family(found["p"], holm).where(~itself, found["p"])
    found["smallest"] = _critical(of_family(found["p"], "count"), count - 1) * error
    if margin is None:
        margin = margin_of(metric)
    found["p_equivalent"] = of_family(_p_equivalent(mean, error, count - 1, margin), holm)
    found["verdict"] = np.where(itself, "reference", verdicts(found["p_holm"], found["p_equivalent"]))
    return found.astype({"n": "Int64", "verdict": "str"})


def is_score(metric: str) -> bool:
    """Tell whether ``metric`` depends on the examples that it was computed on, as costs do not."""
    return str(_defined(metric).get("source", "metrics")).startswith("metrics")


def margin_of(metric: str) -> float:
    """Return the largest difference of ``metric`` that does not matter; NaN if no column defines it."""
    return float(_defined(metric).get("margin", np.nan))


def _defined(metric: str) -> Mapping[str, Any]:
    """Return the entry of a column of ``runs``, empty if there is none."""
    return definitions()["runs"].get(metric, {})


def references_of(runs: pd.DataFrame, given: Mapping[str, str] | str | None = None) -> Mapping[str, str]:
    """Return the reference of each configuration.

    Parameters
    ----------
    runs
        The table ``runs``.
    given
        References, ``config_id`` to ``config_id``; or one ``config_id`` with which all others are compared;
        or None for the references of the suite, which tables of ``bench.tables`` carry in their ``attrs``.

    Returns
    -------
    mapping
        ``config_id`` to the ``config_id`` of its reference.

    Raises
    ------
    ValueError
        If ``given`` is None and the table carries no references.
    """
    if isinstance(given, str):
        return {str(config_id): given for config_id in runs["config_id"].unique() if config_id != given}
    found = runs.attrs.get("references") if given is None else given
    if found is None:
        raise ValueError(
            "this table does not say what is compared with what: give references, as one config_id or as a "
            "mapping from config_id to config_id, or take the table from bench.tables"
        )
    references: Mapping[str, str] = found
    return references


def ranking(
    runs: pd.DataFrame, metric: str, better: str | None = None, margin: float | None = None
) -> pd.DataFrame:
    """Sort configurations by the mean of ``metric``, best first, with the range of their possible ranks.

    All pairs of configurations of a scale, data set and network are compared, by the paired t-test if they
    share at least two seeds and by Welch's t-test otherwise, and are one family for Shaffer's correction.
    Tests are corrected where seeds draw their own test parts (see ``bench.statistics.splits``). A
    configuration belongs to the best unless another one, the best mean or not, is significantly better.

    Of the procedures that were simulated (10 configurations, 3 to 10 seeds, 600 tables each), this one has
    the most power among those that call at most 5 % of tables of equal configurations different: 3 to 4 %.
    Comparing with the best mean alone has half the power; a bootstrap of the largest t has less. Hsu's
    comparisons with the best call equals different in 30 % of tables, since the same data choose the best.

    Memory grows with the number of seeds times the number of pairs.

    Parameters
    ----------
    runs
        The table ``runs`` of one or more suites.
    metric
        Column of ``runs``.
    better
        ``higher`` or ``lower``; by default as ``bench/columns.yaml`` says.
    margin
        As in ``paired``.

    Returns
    -------
    pandas.DataFrame
        For each scale, data set and network, one row per configuration with the metric: ``scale``,
        ``config_id``, ``n`` (number of seeds); ``rank_low``, 1 plus the number of configurations that are
        significantly better; ``rank_high``, the number of all configurations minus that of those
        significantly worse; ``p_adjusted`` of the difference to the best mean (NaN for the best itself, and
        if either has only one seed); ``smallest``, the smallest difference to the best mean that would have
        been significant if it were the clearest of all pairs (NaN likewise); ``separable``, whether any
        configuration is significantly better; and ``verdict``: ``best`` (the best mean), ``worse``
        (separable), ``equivalent`` (to the best mean, within the margin) or ``undecided``.

    Raises
    ------
    ValueError
        The table has no column ``metric``, or neither ``better`` nor ``bench/columns.yaml`` says which
        direction is better.

    Examples
    --------
    >>> import bench
    >>> runs = bench.tables("sparsity_sweep", "results/reference", scale="demo")["runs"]
    >>> bench.statistics.ranking(runs, "nll")[["rank_low", "rank_high"]].iloc[0].tolist()
    [1, 72]
    """
    import pandas as pd

    _require(runs, [metric])
    sign = direction(better or _defined(metric).get("better"), metric)
    done = _done(runs).dropna(subset=[metric])
    done = done.assign(**{_OVERLAP: is_score(metric) * overlap(done)})
    keys = ["scale", *(column for column in _TEST_SET if column in done)]
    groups = done.groupby(keys, sort=False, dropna=False, observed=True)
    parts = [part for _, part in groups] or [done]
    limit = margin_of(metric) if margin is None else margin
    return pd.concat([_ranks(part, metric, sign, limit) for part in parts], ignore_index=True)


def pairwise(runs: pd.DataFrame, metric: str, margin: float | None = None) -> pd.DataFrame:
    """Compare all pairs of configurations of one scale, data set and network, with corrected p values.

    Parameters
    ----------
    runs
        The table ``runs``; the pairs of all its configurations with ``metric`` are one family.
    metric
        Column of ``runs``.
    margin
        As in ``paired``.

    Returns
    -------
    pandas.DataFrame
        One row per pair, as in ``ranking``: ``config_id``, ``other``, ``difference`` (of the first minus the
        other), ``p_adjusted`` by Shaffer's procedure, and ``verdict``: ``differs``, ``equivalent`` (adjusted
        by Holm's) or ``undecided``.
    """
    import pandas as pd

    done = _done(runs, metric).dropna(subset=[metric])
    done = done.assign(**{_OVERLAP: is_score(metric) * overlap(done)})
    table = by_seed(done, metric)
    shares = done.groupby(done["config_id"].astype(object))[_OVERLAP].max()
    limit = margin_of(metric) if margin is None else margin
    share = shares[table.columns].to_numpy(np.float64)
    difference, p, p_equivalent, _ = _pairwise(table.to_numpy(), share, limit)
    one, other = np.triu_indices(table.shape[1], 1)
    adjusted = shaffer(p, table.shape[1])
    return pd.DataFrame(
        {
            "config_id": table.columns[one], "other": table.columns[other], "difference": difference,
            "p_adjusted": adjusted, "verdict": verdicts(adjusted, holm(p_equivalent)),
        }
    )  # fmt: skip


def pareto_front(costs: ArrayLike, values: ArrayLike, better: str) -> NDArray[np.bool_]:
    """Find the points of the Pareto front: those that no other point dominates.

    A point dominates another if it is at least as good in cost and value and better in one of them.

    Parameters
    ----------
    costs, values
        Shape (n,); lower costs are better. A point with a NaN is never on the front.
    better
        ``higher`` or ``lower``: which values are better.

    Returns
    -------
    ndarray
        Shape (n,): whether each point is on the front. Equal points are on it together.
    """
    cost = np.asarray(costs, dtype=np.float64)
    value = direction(better) * np.asarray(values, dtype=np.float64)
    front = ~(np.isnan(cost) | np.isnan(value))
    levels, level = np.unique(cost[front], return_inverse=True)
    best = np.full(len(levels), -np.inf)
    np.maximum.at(best, level, value[front])
    rises = np.ones(len(levels), dtype=bool)  # whether a cost's best value beats those of all lower costs
    rises[1:] = best[1:] > np.maximum.accumulate(best)[:-1]
    front[front] = (value[front] == best[level]) & rises[level]
    return front


def direction(better: str | None, metric: str = "it") -> int:
    """Return 1 if ``better`` is ``higher`` and -1 if it is ``lower``; anything else raises ``ValueError``."""
    if better not in ("higher", "lower"):
        raise ValueError(f"the better direction of {metric} must be higher or lower, not {better!r}")
    return 1 if better == "higher" else -1


# ---------------------------------------------------------------------------------------


def _done(runs: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Return the finished runs, each once per scale; ``ValueError`` if a column of ``metrics`` is missing."""
    _require(runs, metrics)
    return runs[runs["status"] == "done"].drop_duplicates(["scale", "run_id"])


def _require(runs: pd.DataFrame, metrics: Iterable[str]) -> None:
    for metric in metrics:
        if metric not in runs:
            numbers = map(str, runs.select_dtypes("number").columns)
            raise ValueError(f"the table has no column {metric!r}; valid: {', '.join(numbers)}")


def _moments_of(groups: Any) -> tuple[Numbers, Numbers, Numbers]:
    """Compute mean, standard deviation (NaN below two values) and count of each group of a grouped column."""
    found = groups.agg(["mean", "std", "count"])
    mean, std, count = (found[name].to_numpy(np.float64, na_value=np.nan) for name in found)
    return mean, std, count


def _moments(values: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Compute mean, variance (NaN below two values) and count of each column, ignoring NaN."""
    count = (~np.isnan(values)).sum(axis=0).astype(np.float64)
    lowest = np.fmin.reduce(values, axis=0, initial=np.inf)
    # with their minimum subtracted, equal numbers are exactly 0; otherwise rounding of the mean would give
    # them a variance
    with np.errstate(invalid="ignore"):  # a score that is infinite has no mean and no variance
        above = values - lowest
        count = np.where(count > 0, count, np.nan)
        mean = np.nansum(above, axis=0) / count
        squares = np.nansum((above - mean) ** 2, axis=0)
        return lowest + mean, squares / np.where(count > 1, count - 1, np.nan), count


def half_width(values: ArrayLike) -> float:
    """Return the half width of the 95 % t-interval of the mean of independent values; NaN below two."""
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return float("nan")
    return float(_half_width(found.std(ddof=1, keepdims=True), np.array([len(found)]), 0.0)[0])


def _half_width(std: Numbers, count: Numbers, share: Numbers | float) -> Numbers:
    """Compute the half width of the t-interval of a mean; NaN below two values, as ``std`` is."""
    return np.asarray(std * np.sqrt(variance_factor(count, share)) * _critical(1, count - 1))


def _critical(tests: Any, freedom: Numbers) -> Numbers:
    """Compute how many standard errors are significant in the first of ``tests`` steps of Holm's."""
    from scipy import stats  # imported here: it is slow to load, and most readers of tables do not need it

    number = np.asarray(tests, np.float64)
    return np.asarray(stats.t.isf(ALPHA / (2 * np.where(number > 0, number, np.nan)), freedom))


def _p_equivalent(mean: Numbers, error: Numbers, freedom: Numbers, margin: float) -> Numbers:
    """Compute the p value of two one-sided t-tests that a mean lies within ± ``margin``."""
    from scipy import stats

    gap = margin - np.abs(mean)
    exact = error == 0
    with np.errstate(invalid="ignore"):
        t = gap / np.where(exact, np.nan, error)
    return np.asarray(np.where(exact, np.where(gap > 0, 0.0, 1.0), stats.t.sf(t, freedom)))


def p_value(mean: Numbers, error: Numbers, freedom: Numbers) -> Numbers:
    """Compute the two-sided p value of Student's t; if ``error`` is 0, it is 1 for a mean of 0 and else 0."""
    from scipy import stats

    exact = error == 0
    with np.errstate(invalid="ignore"):  # infinite values have no t statistic
        t = np.abs(mean) / np.where(exact, np.nan, error)
    return np.asarray(np.where(exact, mean == 0, 2 * stats.t.sf(t, freedom)))


def _pairwise(values: Numbers, share: Numbers, margin: float) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Compare all pairs of columns, in the order of ``triu_indices``.

    Parameters
    ----------
    values
        Shape (seeds, configurations); NaN where there is no run.
    share
        ``overlap`` of each configuration.
    margin
        Differences below this do not matter.

    Returns
    -------
    tuple
        Differences of means, p values of the differences, p values of equivalence, and the smallest
        differences that would be significant as the first of all pairs.
    """
    one, other = np.triu_indices(values.shape[1], 1)
    mean, variance, shared = _moments(values[:, one] - values[:, other])
    means, variances, counts = _moments(values)
    squares = variances * variance_factor(counts, share)
    unpaired = squares[one] + squares[other]
    # Welch–Satterthwaite degrees of freedom from shares of the variance: no square underflows to 0 / 0
    part = squares[one] / np.where(unpaired > 0, unpaired, np.nan)
    left = np.where(counts > 1, counts - 1, np.nan)
    welch = 1 / (part**2 / left[one] + (1 - part) ** 2 / left[other])
    pairs = shared > 1
    difference = np.where(pairs, mean, means[one] - means[other])
    factor = variance_factor(np.where(pairs, shared, np.nan), np.maximum(share[one], share[other]))
    error = np.sqrt(np.where(pairs, variance * factor, unpaired))
    freedom = np.where(pairs, shared - 1, welch)
    p = p_value(difference, error, freedom)
    smallest = _critical((~np.isnan(p)).sum(), freedom) * error
    return difference, p, _p_equivalent(difference, error, freedom, margin), smallest


def _ranks(runs: pd.DataFrame, metric: str, sign: int, margin: float) -> pd.DataFrame:
    """Compute the rows of ``ranking`` for runs of one scale, data set and network."""
    import pandas as pd

    table = by_seed(runs, metric)
    means = table.mean()
    table = table[means.index[np.argsort(-sign * means.to_numpy(), kind="stable")]]
    size = table.shape[1]
    shares = runs.groupby(runs["config_id"].astype(object))[_OVERLAP].max()
    share = shares[table.columns].to_numpy(np.float64)
    difference, p, p_equivalent, smallest = _pairwise(sign * table.to_numpy(), share, margin)
    adjusted, alike = shaffer(p, size), holm(p_equivalent)
    one, other = np.triu_indices(size, 1)
    first, second = ((adjusted < ALPHA) & wins for wins in (difference > 0, difference < 0))
    beats = np.bincount(one[first], minlength=size) + np.bincount(other[second], minlength=size)
    beaten = np.bincount(other[first], minlength=size) + np.bincount(one[second], minlength=size)
    scale = runs["scale"].array.take(np.zeros(size, dtype=np.intp))
    config_id = table.columns.astype(runs["config_id"].dtype)
    found = pd.DataFrame({"scale": scale, "config_id": config_id, "n": table.count().to_numpy()})
    found["rank_low"], found["rank_high"] = 1 + beaten, size - beats
    # the best configuration is the first column; the first pairs are those of it with all others, in order
    itself = min(size, 1)
    found["p_adjusted"] = np.concatenate([[np.nan] * itself, adjusted[: size - itself]])
    found["smallest"] = np.concatenate([[np.nan] * itself, smallest[: size - itself]])
    found["separable"] = beaten > 0
    near = np.concatenate([[np.nan] * itself, alike[: size - itself]])
    verdict = np.where(found["separable"], "worse", verdicts(np.full(size, np.nan), near))
    verdict[:itself] = np.where(verdict[:itself] == "worse", "worse", "best")
    found["verdict"] = verdict
    kinds = {"n": "Int64", "rank_low": "Int64", "rank_high": "Int64", "separable": "bool", "verdict": "str"}
    return found.astype(kinds)
