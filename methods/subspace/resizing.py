"""One update that also changes the size of the subspace: slots not worth their cost go, others are tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from methods.subspace import surgery
from methods.subspace.exchange import Exchange, Pool, lowest_of_all


class Bounds(NamedTuple):
    """Least and largest number of slots, of a layer or of all together."""

    least: int
    most: int


class Resizing(Exchange):
    """Chooses slots to remove among those that are not worth their cost, and how many coordinates to try.

    With a number t of tries, at most 2 t slots that are not worth their cost go, those of lowest score, and t
    coordinates are added, those of largest magnitude among the ones that promise to be worth their cost. So
    the subspace grows by t where all slots are worth it, shrinks by t where few are, and rests where as many
    slots fail as are tried.

    Parameters
    ----------
    indices
        Active coordinates (s,) of each layer, sorted.
    scores
        Scores (s,) of each layer; among slots that are not worth their cost the lowest are removed.
    worth
        Which slots are worth their cost, boolean (s,) of each layer.
    promising
        Magnitude that a coordinate of each layer has to exceed to be tried.
    tries
        Numbers of coordinates to try in each layer, or one for all layers together.
    bounds
        Bounds of each layer, or one for the slots of all layers together.
    readmit
        Whether removed slots are candidates.
    """

    def __init__(
        self,
        indices: Sequence[torch.Tensor],
        scores: Sequence[torch.Tensor],
        worth: Sequence[torch.Tensor],
        promising: Sequence[float],
        tries: Sequence[int] | int,
        bounds: Sequence[Bounds] | Bounds,
        readmit: bool = True,
    ) -> None:
        self._indices, self._readmit, self._promising = list(indices), readmit, list(promising)
        self._missing = dict.fromkeys(range(len(indices)))
        # a slot that is worth its cost is never among the lowest
        ranked = [score.masked_fill(good, math.inf) for score, good in zip(scores, worth, strict=True)]
        good = [int(layer.sum()) for layer in worth]
        slots = [index.numel() for index in indices]
        if isinstance(bounds, Bounds) and isinstance(tries, int):
            removed, added = quotas(sum(slots), sum(good), tries, bounds)
            marked = lowest_of_all(ranked, removed)
            # each layer keeps its best slot; a good one must not go in its place
            self.removed = [layer & ~kept for layer, kept in zip(marked, worth, strict=True)]
            self._pools = [Pool(added)] * len(slots)
        else:
            assert not isinstance(bounds, Bounds) and not isinstance(tries, int)
            found = [quotas(*of_layer) for of_layer in zip(slots, good, tries, bounds, strict=True)]
            self.removed = [
                surgery.lowest(score, removed) for score, (removed, _) in zip(ranked, found, strict=True)
            ]
            self._pools = [Pool(added) for _, added in found]

    def _floor(self, layer: int) -> float:
        return self._promising[layer]


def quotas(slots: int, worth: int, tries: int, bounds: Bounds) -> tuple[int, int]:
    """Return how many slots are removed and how many coordinates are tried; the bounds hold afterwards.

    Parameters
    ----------
    slots
        Slots before the update.
    worth
        How many of them are worth their cost.
    tries
        Number of coordinates to try.
    bounds
        Least and largest number of slots.
    """
    removed = max(0, min(2 * tries, slots - worth, slots - bounds.least))
    return removed, max(0, min(tries, bounds.most - (slots - removed)))
