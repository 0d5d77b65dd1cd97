"""Compare configurations for examples that were not seen: over seeds and over test examples at once.

Where all seeds share one test set, intervals over seeds say nothing about other examples of the same kind.
Here, seeds and test examples are both random, and each pair of them has one score (crossed random effects).
The variance of their mean is that of the two-way bootstrap over seeds and examples (Owen, The Pigeonhole
Bootstrap, 2007), without its noise and without the small excess of a bootstrap that resamples both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.results.files import StoreError
from bench.statistics.multiple import ALPHA, holm
from bench.statistics.seeds import p_value, references_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]


class Mean(NamedTuple):
    """Hold a mean over seeds and examples, its standard error, and the degrees of freedom of that."""

    mean: Numbers
    error: Numbers
    freedom: Numbers


def crossed_mean(scores: ArrayLike) -> Mean:
    """Compute the mean of scores over seeds and examples, with its error if both were drawn anew.

    Parameters
    ----------
    scores
        Shape (..., n, m): n ≥ 2 seeds and m ≥ 2 examples.

    Returns
    -------
    Mean
        Of shape (...). The error follows from the mean squares of a crossed analysis of variance, its
        degrees of freedom are Satterthwaite's (1946).
    """
    values = np.asarray(scores, np.float64)
    seeds, examples = values.shape[-2:]
    mean = values.mean(axis=(-2, -1))
    of_seed = values.mean(axis=-1) - mean[..., None]
    of_example = values.mean(axis=-2) - mean[..., None]
    rest = values - mean[..., None, None] - of_seed[..., :, None] - of_example[..., None, :]
    both = (seeds - 1) * (examples - 1)
    # variances of the mean by each of the three, and by chance within a pair
    seed = (of_seed**2).sum(axis=-1) / (seeds - 1) / seeds
    example = (of_example**2).sum(axis=-1) / (examples - 1) / examples
    pair = (rest**2).sum(axis=(-2, -1)) / both / (seeds * examples)
    # seeds and examples each hold the chance within pairs once, so that it is in their sum twice
    variance = np.maximum(seed + example - pair, np.maximum(seed, example))
    spread = seed**2 / (seeds - 1) + example**2 / (examples - 1) + pair**2 / both
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = variance**2 / spread
    return Mean(mean, np.sqrt(variance), freedom)


def _over_seeds(scores: Numbers) -> Mean:
    """Compute the mean of scores (n, m) with its error over seeds alone, by Student's t."""
    of_seed = scores.mean(axis=1)
    error, freedom = of_seed.std(ddof=1) / np.sqrt(len(of_seed)), len(of_seed) - 1
    return Mean(of_seed.mean(), error, np.asarray(freedom, np.float64))


def for_new_examples(
    runs: pd.DataFrame,
    scores: Callable[[str], ArrayLike],
    references: Mapping[str, str] | str | None = None,
) -> pd.DataFrame:
    """Compare configurations with their references, paired by seed and by test example.

    Parameters
    ----------
    runs
        Rows of the table ``runs`` of one scale, data set and network.
    scores
        Returns the score of each test example, shape (m,), of the run with this id.
    references
        As in ``bench.statistics.paired``.

    Returns
    -------
    pandas.DataFrame
        One row for each ``config_id`` that shares two seeds or more, and their test sets, with its
        reference: ``difference`` (configuration minus reference), ``half_width`` of its 95 % interval, ``n``
        (number of seeds), ``examples``, ``p``, ``p_holm``, adjusted for these comparisons, and ``reason``.
        Interval and p are no surer than those of Student's t over seeds alone. A difference that is not
        finite, as of an infinite NLL, has no interval; nor has one of runs whose scores cannot be read, for
        which ``reason`` says why.
    """
    import pandas as pd
    from scipy import stats

    done = runs[runs["status"] == "done"].dropna(subset=["test_set"])
    keys = (done[name].tolist() for name in ("config_id", "seed", "run_id", "test_set"))
    known = {(config, seed): (run_id, part) for config, seed, run_id, part in zip(*keys, strict=True)}
    read: dict[str, Numbers] = {}

    def score(run_id: str) -> Numbers:
        if run_id not in read:
            read[run_id] = np.asarray(scores(run_id), np.float64)
        return read[run_id]

    rows: list[tuple[Any, ...]] = []
    for mine, theirs in references_of(runs, references).items():
        seeds = sorted(seed for config, seed in known if config == mine and (theirs, seed) in known)
        pairs = [(known[mine, seed], known[theirs, seed]) for seed in seeds]
        if mine == theirs or len(pairs) < 2 or len({part for pair in pairs for _, part in pair}) > 1:
            continue
        try:
            table = np.stack([score(one) - score(other) for (one, _), (other, _) in pairs])
        except StoreError as error:  # such as predictions that were deleted to save space
            rows.append((mine, np.nan, np.nan, len(pairs), 0, np.nan, str(error)))
            continue
        if not np.isfinite(table).all():
            rows.append((mine, np.nan, np.nan, len(pairs), table.shape[1], np.nan, None))
            continue
        # never surer than over seeds alone: with few seeds, their own variance is known least
        both = [crossed_mean(table), _over_seeds(table)]
        half = max(
            float(stats.t.isf(ALPHA / 2, freedom)) * error if error else 0.0 for _, error, freedom in both
        )
        p = max(float(p_value(*found)) for found in both)
        mean = float(both[0].mean)
        rows.append((mine, mean, half, len(pairs), table.shape[1], p, None))
    columns = ["config_id", "difference", "half_width", "n", "examples", "p", "reason"]
    found = pd.DataFrame(rows, columns=columns)
    found["p_holm"] = holm(found["p"])
    return found
