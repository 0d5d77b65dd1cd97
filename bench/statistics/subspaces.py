"""Compare sets that were selected, active weights or features, with what chance would give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.statistics.seeds import LEVEL

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Overlap(NamedTuple):
    """Overlap of two subspaces.

    Parameters
    ----------
    iou
        Intersection over union of the active weights of all layers together.
    chance
        What it would be at the mean intersection of random subspaces with as many weights in each layer.
    low, high
        Where it would lie with 95 % probability, if both were random.
    deviations
        Standard deviations by which the intersection exceeds its mean under chance; NaN if it cannot vary.
    """

    iou: float
    chance: float
    low: float
    high: float
    deviations: float


def subspace_overlap(first: Mapping[str, ArrayLike], second: Mapping[str, ArrayLike]) -> Overlap:
    """Compare which weights are active in two networks of one architecture.

    Given the numbers of active weights in each layer, the intersection of random subspaces has a
    hypergeometric distribution, and layers are independent. The interval is that of a normal distribution.

    Parameters
    ----------
    first, second
        Of each sparse layer, by name: whether each weight is active, of any shape (``Model.active``).

    Raises
    ------
    ValueError
        The layers are not the same, or there are none.
    """
    masks = {
        name: [np.asarray(side[name], dtype=bool).ravel() for side in (first, second) if name in side]
        for name in {**first, **second}
    }
    wrong = [name for name, pair in masks.items() if len(pair) < 2 or pair[0].size != pair[1].size]
    if wrong or not masks:
        raise ValueError(f"not the same sparse layers: {', '.join(wrong) or 'there are none'}")
    common = both = 0
    mean = variance = 0.0
    for one, other in masks.values():
        n, a, b = one.size, int(one.sum()), int(other.sum())
        common, both = common + int((one & other).sum()), both + a + b
        mean += a * b / n
        variance += a * b * (n - a) * (n - b) / (n**2 * max(n - 1, 1))

    def iou(intersection: float) -> float:
        return intersection / (both - intersection) if both else 1.0

    from scipy import stats  # imported here since it is slow to load

    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(variance)
    deviations = (common - mean) / math.sqrt(variance) if variance > 0 else math.nan
    low, high = iou(max(mean - half, 0.0)), iou(min(mean + half, both / 2))
    return Overlap(iou(common), iou(mean), low, high, deviations)


def kuncheva(sets: Sequence[Iterable[int]], size: int) -> float:
    """Return how stable a selection is over repetitions: Kuncheva's index, averaged over all pairs of sets.

    1: the same set each time; 0: what random sets have in common on average (Kuncheva 2007). Sets of unequal
    sizes have the form of Lustgarten et al. (2009): (intersection - its mean by chance) / (the smaller size -
    that mean), which is Kuncheva's where sizes are equal.

    Parameters
    ----------
    sets
        Selected items of each repetition, such as features or folds' active inputs.
    size
        Number of items that there are.

    Returns
    -------
    float
        NaN below two sets, and if every pair has a set that is empty or has all items: chance then leaves
        nothing to tell.

    Raises
    ------
    ValueError
        An item is not below ``size``.

    Examples
    --------
    >>> round(kuncheva([{0, 1, 2}, {0, 1, 3}], 10), 3)  # 2 in common, 0.9 by chance, 3 at most
    0.524
    """
    chosen = [{int(item) for item in one} for one in sets]
    if any(not 0 <= item < size for one in chosen for item in one):
        raise ValueError(f"items must be from 0 to {size - 1}")
    indices = []
    for one, other in combinations(chosen, 2):
        chance, most = len(one) * len(other) / size, min(len(one), len(other))
        if most > chance:
            indices.append((len(one & other) - chance) / (most - chance))
    return math.fsum(indices) / len(indices) if indices else math.nan
