"""One update of the subspace over all layers: slots go at once, coordinates come as gradients arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from methods.subspace import surgery


class Exchange:
    """Which slots each layer gives up, and which coordinates it gains.

    indices: active coordinates (s,) of each layer, sorted. scores: (s,) of each layer, larger is
    kept. quotas: slots to exchange in each layer, or one number for all layers together: then
    scores and magnitudes are compared across layers, and the sizes of layers change while their
    sum stays. Ties go to the earlier layer, then to the lower position. ``removed`` are the slots
    given up, boolean (s,) of each layer, some of which may be taken back: candidates are all inactive
    coordinates and, with ``readmit``, those slots, which then stay as they were. When there are fewer
    candidates than slots given up, the best of these stay.

    Magnitudes are offered a layer at a time, in any order; of these the best so far are kept, so
    that memory is that of the slots and of the exchange beside one layer's magnitudes.
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
        """The layers that have made no offer."""
        return list(self._missing)

    def offer(self, layer: int, magnitude: torch.Tensor) -> None:
        """The magnitudes of every coordinate of ``layer``, of any shape, overwritten."""
        self._missing.pop(layer, None)
        index, removed = self._indices[layer], self.removed[layer]
        ranks = surgery.candidates(index, removed, magnitude, self._readmit)
        available = ranks.numel() - index.numel() + int(removed.sum())
        self._pools[layer].offer(layer, ranks, available)

    def change(self, layer: int) -> surgery.Change:
        """What happens to ``layer``, once all layers have made their offers."""
        index = self._indices[layer]
        return surgery.settle(index, self.removed[layer], self._pools[layer].chosen(layer, index.device))


class Pool:
    """The ``n`` candidates of largest rank among those offered; ties go to the earlier layer and position."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._best: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def offer(self, layer: int, ranks: torch.Tensor, available: int) -> None:
        """``ranks`` of every coordinate of ``layer``, of which the largest ``available`` are candidates."""
        coordinates = surgery.strongest(ranks, min(self.n, available))
        self._best[layer] = coordinates, ranks[coordinates]
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
        """The coordinates of ``layer`` that are in the pool, sorted."""
        if layer not in self._best:
            return torch.empty(0, dtype=torch.long, device=device)
        return self._best[layer][0]


def lowest_of_all(scores: Sequence[torch.Tensor], n: int) -> list[torch.Tensor]:
    """Which are the ``n`` lowest scores over all layers, boolean; ties to the earlier layer and position.

    NaN counts as lowest. No layer loses its last slot: of each the best one (of equals the last)
    stays, and when no others are left, fewer than ``n`` go.
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
