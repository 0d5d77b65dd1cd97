"""RigL: deterministic training on a sparse subnetwork that moves (Evci et al. 2020, arXiv 1911.11134)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.base import Context, Equivalent, Task
from methods.core.options import option
from methods.core.passes import GradientConsumer
from methods.core.streams import Streams
from methods.core.style import Style
from methods.families.moving import MovingOptions, MovingSubspace, offer_random
from methods.families.sparse import random_index, slot_counts
from methods.layers import convert
from methods.layers.posterior import DensePoint, Posterior, Slots, SparsePoint


@dataclass(frozen=True)
class RigLOptions(MovingOptions):
    """Options of RigL; with ``replace_fraction`` 0 it is a static sparse network."""

    growth: str = option(
        "gradient",
        "which weights are added, with value 0: those of largest |gradient|, or random ones (SET, Mocanu et "
        "al. 2018)",
        choices=("gradient", "random"),
    )


class RigL(MovingSubspace):
    """Deterministic sparse training: removes weights of smallest magnitude, adds those of largest gradient.

    References
    ----------
    Evci et al. 2020, arXiv 1911.11134.
    """

    name = "rigl"
    style = Style("RigL", hue="#3099BA", hue_dark="#32A4A9", marker="cross", dash="dot", order=60)
    Options = RigLOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        if options.sparsity > 0:
            return None
        return Equivalent("deterministic", {}, "sparsity 0 is the dense network")

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``options`` leave every layer of ``network`` a weight.

        Raises
        ------
        UserError
            If a layer would be left without a weight.
        """
        slot_counts(options, network, torch.Generator().manual_seed(0))

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        counts = slot_counts(self.options, network, streams["subspace"])

        def point(name: str, weight: torch.Tensor) -> Posterior:
            if name not in counts:
                return DensePoint(weight.shape, weight)
            index = random_index(weight.numel(), counts[name], streams["subspace"])
            return self.slots(weight, index, streams["posterior"])

        return convert.to_variational(network, point, 0.0, self.options.keep_dense)

    def slots(
        self,
        weight: torch.Tensor,
        index: torch.Tensor,
        generator: torch.Generator,
        share: float | None = None,
    ) -> SparsePoint:
        # initial values are enlarged, so that a layer's outputs keep their variance, as in sparse VI
        values = weight.reshape(-1)[index] / (share or index.numel() / weight.numel()) ** 0.5
        return SparsePoint(weight.shape, index, values)

    def scores(self, posterior: Slots) -> torch.Tensor:
        return posterior.mean.detach().abs()

    def request_magnitudes(self, context: Context, offer: GradientConsumer) -> None:
        if self.options.growth == "random":
            offer_random(context, offer)
        else:
            context.request_dense_gradients(offer)

    def update_events(self) -> list[str]:
        return [] if self.options.growth == "random" else ["dense_gradient"]
