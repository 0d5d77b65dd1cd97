"""Compute statistics over seeds: means and intervals, paired differences, ranks, tests for small samples.

Functions take the table ``runs`` of ``bench.tables``, or columns of it.
"""

from bench.statistics.agreement import RankAgreement, rank_agreement
from bench.statistics.consistency import differences
from bench.statistics.corruption import corruption_errors
from bench.statistics.multiple import ALPHA, holm, shaffer, verdicts
from bench.statistics.nonparametric import (
    AverageRanks,
    Interval,
    TooFew,
    average_ranks,
    bootstrap_interval,
    interquartile_mean,
    rank_correlation,
    superiority,
    wilcoxon,
    wilson,
)
from bench.statistics.seeds import (
    LEVEL,
    by_seed,
    half_width,
    paired,
    pareto_front,
    ranking,
    references_of,
    summarise,
)
from bench.statistics.splits import overlap, scope
from bench.statistics.subspaces import Overlap, kuncheva, subspace_overlap

__all__ = [
    "ALPHA",
    "LEVEL",
    "AverageRanks",
    "Interval",
    "Overlap",
    "RankAgreement",
    "TooFew",
    "average_ranks",
    "bootstrap_interval",
    "by_seed",
    "corruption_errors",
    "differences",
    "half_width",
    "holm",
    "interquartile_mean",
    "kuncheva",
    "overlap",
    "paired",
    "pareto_front",
    "rank_agreement",
    "rank_correlation",
    "ranking",
    "references_of",
    "scope",
    "shaffer",
    "subspace_overlap",
    "summarise",
    "superiority",
    "verdicts",
    "wilcoxon",
    "wilson",
]
