"""Compare rankings of the same things in several settings: do they agree, and by more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.statistics.seeds import LEVEL

#: Resampled and permuted rankings.
_DRAWS = 2000


class RankAgreement(NamedTuple):
    """Agreement of the rankings in m settings.

    Parameters
    ----------
    pairs, low, high
        Spearman's correlation of the rankings by the means over seeds in each two settings, and the ends of
        its 95 % interval, (m, m).
    mean, mean_low, mean_high
        The same of the mean over all pairs.
    p
        Probability that independent random rankings have a mean at least as large.
    """

    pairs: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: float
    mean_low: float
    mean_high: float
    p: float


def rank_agreement(scores: Sequence[ArrayLike], seed: int = 0) -> RankAgreement:
    """Compare how the same c things rank in m settings.

    Intervals are percentiles over resampled seeds, the same seeds for all things of a setting: they cover how
    well seeds decide each ranking, not the choice of settings. The probability is that of a permutation test.

    Parameters
    ----------
    scores
        Scores (seeds, c) of each setting; numbers of seeds may differ.
    seed
        Seed of resampling and permutations.

    Raises
    ------
    ValueError
        Fewer than two settings or two things, or a score that is not finite.
    """
    tables = [np.asarray(table, np.float64) for table in scores]
    if len(tables) < 2 or any(table.ndim != 2 or table.shape[1] < 2 for table in tables):
        raise ValueError("needs at least two settings with two things each")
    if not all(np.isfinite(table).all() and len(table) for table in tables):
        raise ValueError("scores must be finite")
    generator = np.random.default_rng(seed)
    pairs = _correlations(np.stack([table.mean(0) for table in tables])[None])[0]
    resampled = [table[generator.integers(len(table), size=(_DRAWS, len(table)))].mean(1) for table in tables]
    drawn = _correlations(np.stack(resampled, 1))
    ends = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    low, high = np.percentile(drawn, ends, axis=0)
    mean_low, mean_high = np.percentile(_mean(drawn), ends)
    order = np.broadcast_to(np.arange(tables[0].shape[1]), (_DRAWS, len(tables), tables[0].shape[1]))
    random = generator.permuted(order, axis=2)
    mean = float(_mean(pairs[None])[0])
    above = int((_mean(_correlations(random)) >= mean - 1e-12).sum())
    return RankAgreement(
        pairs, low, high, mean, float(mean_low), float(mean_high), (1 + above) / (1 + _DRAWS)
    )


def _correlations(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return Spearman's correlations (draws, m, m) of values (draws, m, c); 0 where all values are equal."""
    from scipy import stats  # imported here since it is slow to load

    ranks = stats.rankdata(values, axis=2)
    ranks -= ranks.mean(2, keepdims=True)
    norm = np.linalg.norm(ranks, axis=2, keepdims=True)
    ranks = np.divide(ranks, norm, out=np.zeros_like(ranks), where=norm > 0)
    found: NDArray[np.float64] = ranks @ ranks.transpose(0, 2, 1)
    return found


def _mean(correlations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over all pairs of settings (draws,)."""
    first, second = np.triu_indices(correlations.shape[1], 1)
    found: NDArray[np.float64] = correlations[:, first, second].mean(1)
    return found
