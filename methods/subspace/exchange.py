"""One update of the subspace over all layers: choose slots to remove and coordinates to add."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from methods.subspace import surgery


class Exchange:
    """Chooses which slots each layer loses, and which coordinates it gains.

    Slots to remove are chosen at once. Candidates for addition are all inactive coordinates and, with
    ``readmit``, the removed slots; a removed slot that is chosen stays as it was. If there are fewer
    candidates than removed slots, the best of these stay. Ties go to the earlier layer, then to the lower
    position.

    Magnitudes are offered one layer at a time, in any order. Only the best ones so far are kept, so that
    memory is that of the slots and of one layer's magnitudes.

    Parameters
    ----------
    indices
        Active coordinates (s,) of each layer, sorted.
    scores
        Scores (s,) of each layer; the lowest are removed.
    quotas
        Slots to exchange in each layer, or one number for all layers together. With one number, scores
        and magnitudes are compared across layers, and layers may grow or shrink while their sum stays.
    readmit
        Whether removed slots are candidates.

    Attributes
    ----------
    removed
        Slots chosen for removal, boolean (s,) of each layer; some may be taken back.
    """

    def __init__(
        self,
        indices: Sequence[torch.Tensor],
        scores: Sequence[torch.Tensor],
        quotas: Sequence[int] | int,
        readmit: bool = True,
    ) -> None:
        self._indices, self._readmit = list(indices), readmit
        self._missing = dict.fromkeys(range(len(indices)))
        if isinstance(quotas, int):
            self.removed = lowest_of_all(scores, quotas)
            self._pools = [Pool(sum(int(removed.sum()) for removed in self.removed))] * len(indices)
        else:
            self.removed = [surgery.lowest(s, min(n, s.numel())) for s, n in zip(scores, quotas, strict=True)]
            self._pools = [Pool(int(removed.sum())) for removed in self.removed]

    @property
    def missing(self) -> list[int]:
        """Numbers of the layers that have not made an offer."""
        return list(self._missing)

    def offer(self, layer: int, magnitude: torch.Tensor) -> None:
        """Take the magnitudes of every coordinate of a layer, of any shape; they are overwritten."""
        self._missing.pop(layer, None)
        index, removed = self._indices[layer], self.removed[layer]
        ranks = surgery.candidates(index, removed, magnitude, self._readmit)
        self._pools[layer].offer(layer, ranks, self._floor(layer))

    def _floor(self, layer: int) -> float:
        """Return the number that the rank of a candidate exceeds; slots that stay rank at -1."""
        return -1.0

    def change(self, layer: int) -> surgery.Change:
        """Return the change of a layer, after all layers have made their offers."""
        index = self._indices[layer]
        return surgery.settle(index, self.removed[layer], self._pools[layer].chosen(layer, index.device))


class Pool:
    """Keeps the ``n`` largest candidates among all offers; ties go to the earlier layer and position."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._best: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def offer(self, layer: int, ranks: torch.Tensor, floor: float) -> None:
        """Take the numbers by which the coordinates of ``layer`` rank; those above ``floor`` compete."""
        # the few strongest are compared with the floor, not all coordinates: that would be a pass of its own
        coordinates = surgery.strongest(ranks, min(self.n, ranks.numel()))
        values = ranks[coordinates]
        competing = values > floor
        self._best[layer] = coordinates[competing], values[competing]
        parts = [self._best[number] for number in sorted(self._best)]
        if sum(len(values) for _, values in parts) <= self.n:
            return
        values = torch.cat([values for _, values in parts])
        best = torch.zeros_like(values, dtype=torch.bool)
        best[surgery.strongest(values, self.n)] = True
        chosen = best.split([len(values) for _, values in parts])
        self._best = {
            number: (coordinates[kept], values[kept])
            for number, (coordinates, values), kept in zip(sorted(self._best), parts, chosen, strict=True)
        }

    def chosen(self, layer: int, device: torch.device) -> torch.Tensor:
        """Return the coordinates of ``layer`` that are in the pool, sorted."""
        if layer not in self._best:
            return torch.empty(0, dtype=torch.long, device=device)
        return self._best[layer][0]


def lowest_of_all(scores: Sequence[torch.Tensor], n: int) -> list[torch.Tensor]:
    """Mark the ``n`` lowest scores over all layers, as boolean tensors.

    NaN is lowest; ties go to the earlier layer and position. Every layer keeps its best slot (the last one
    of equals), so that fewer than ``n`` slots are marked if there are no others.
    """
    may_go = []
    for layer in scores:
        layer = torch.nan_to_num(layer, nan=-math.inf, posinf=math.inf, neginf=-math.inf)
        all_but_best = torch.ones_like(layer, dtype=torch.bool)
        all_but_best[(layer == layer.max()).nonzero()[-1]] = False
        may_go.append(all_but_best)
    eligible = torch.cat(may_go)
    removed = torch.zeros_like(eligible)
    rest = torch.cat(list(scores))[eligible]
    removed[eligible] = surgery.lowest(rest, min(n, rest.numel()))
    return list(removed.split([layer.numel() for layer in scores]))
