"""Deep ensembles (Lakshminarayanan, Pritzel & Blundell, NeurIPS 2017, arXiv 1612.01474)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.base import Batch, Budget, Context, Equivalent, Method, Predictor, Progress, Stage, Task
from methods.core.options import option
from methods.core.streams import Streams
from methods.core.style import Style
from methods.layers import costs


@dataclass(frozen=True)
class EnsembleOptions:
    """Options of an ensemble."""

    members: int = option(5, "number of networks, each trained for the whole budget", within="[1, inf)")


class Members(nn.ModuleList):
    """Networks of an ensemble, in the order of their training.

    Attributes
    ----------
    in_use
        Number of members that predict: all until training begins, then those that have been trained,
        with the one in training. It is a buffer, so that checkpoints and stored models have it.
    """

    in_use: torch.Tensor

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__(networks)
        self.register_buffer("in_use", torch.tensor(len(self)))


class Ensemble(Method):
    """Networks with different initial weights and data orders, trained separately; averages probabilities.

    Each member is trained in a stage that has the whole budget, on the cross-entropy of all examples. The
    adversarial examples of the paper are left out; it finds that they matter less. A stage is scored as
    the ensemble of the members so far; training curves are those of the member in training. FLOPs of a step
    and of inference are those of one member; weights and bytes are those of all members.

    References
    ----------
    Lakshminarayanan, Pritzel & Blundell, NeurIPS 2017, arXiv 1612.01474.
    """

    name = "ensemble"
    style = Style("Ensemble", hue="#147144", hue_dark="#22FF0A", marker="star", dash="longdashdot", order=80)
    Options = EnsembleOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        if options.members > 1:
            return None
        return Equivalent("deterministic", {}, "an ensemble of one is one network")

    def members(self) -> int:
        return int(self.options.members)

    def build(self, network: nn.Module, streams: Streams, task: Task) -> Members:
        return Members(network if isinstance(network, nn.ModuleList) and self.members() > 1 else [network])

    def stages(self, budget: Budget) -> list[Stage]:
        # the first stage has the same name as in other methods, because evaluation draws from a random
        # stream of that name
        return [Stage(name, budget.epochs, start="keep") for name in self._stage_names()]

    def enter_stage(self, context: Context, stage: Stage) -> None:
        assert isinstance(context.module, Members)
        context.module.in_use.fill_(self._stage_names().index(stage.name) + 1)

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        # the other members are not called and get no gradient, so that nothing changes them: neither weight
        # decay nor momentum nor running statistics
        assert isinstance(module, Members)
        return super().loss(module[self._stage_names().index(progress.stage)], batch, progress)

    def mean(self, module: nn.Module) -> Predictor | None:
        assert isinstance(module, Members)
        return module[0] if self.members() == 1 else None

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        """Yield one function for each member trained so far, the newest first, for any ``samples``."""
        assert isinstance(module, Members)
        yield from reversed(list(module)[: int(module.in_use)])

    def flops(self, module: nn.Module, event: str) -> float:
        assert isinstance(module, Members)
        return costs.flops(module[0], event)

    def _stage_names(self) -> list[str]:
        return ["train", *(f"member {number}" for number in range(2, self.members() + 1))]
