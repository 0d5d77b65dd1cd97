"""SWAG: a Gaussian of the weights that training visits (Maddox et al., NeurIPS 2019, arXiv 1902.02476)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from methods.base import Budget, Context, Equivalent, Method, Predictor, Stage, Task
from methods.core.errors import UserError
from methods.core.options import option, to_dict
from methods.core.streams import Streams
from methods.core.style import Style
from methods.families.collected import Collected, due
from methods.families.gradual import Gradual
from methods.families.sparse import SparsityOptions, slot_counts
from methods.layers.convert import to_variational
from methods.layers.posterior import DensePoint
from methods.subspace import pruning


@dataclass(frozen=True)
class SWAGOptions(SparsityOptions):
    """Options for when weights are collected, and how many are pruned before."""

    sparsity: float = option(
        0.0, "share of the sparsifiable weights to remove before weights are collected", within="[0, 1)"
    )
    collect: float = option(
        0.25, "share of the steps, the last ones, in which weights are collected", within="(0, 1]"
    )
    snapshots: int = option(
        40, "weights that are collected, at even distances; no more than there are steps", within="[1, inf)"
    )
    rank: int = option(
        20, "last snapshots that are the low-rank part of the covariance; 0: diagonal only", within="[0, inf)"
    )
    collect_lr: float = option(
        0.2,
        "learning rate while weights are collected, as a share of the first one; it is constant",
        within="(0, inf)",
    )
    scale: float = option(0.5, "factor of the covariance; one half in the paper", within="[0, inf)")
    prune_from: float = option(0.2, "share of the steps at which cubic pruning begins", within="[0, 1]")
    prune_until: float = option(0.6, "share of the steps after which it is done", within="[0, 1]")
    prune_every: int = option(20, "minibatches from one pruning to the next", within="[1, inf)")


#: Options that matter without pruning.
_OF_COLLECTION = ("collect", "snapshots", "rank", "collect_lr", "scale")


class Moments(Collected):
    """A network and the moments of its snapshots.

    Attributes
    ----------
    count
        Number of snapshots.
    first
        Mean of the snapshots: active weights and other parameters, then running statistics.
    second
        Mean of their squared distances from ``first``, without the statistics, (P). Squares themselves would
        lose it to rounding, since weights are much larger than what they move.
    deviations
        Last snapshots, each minus the mean at its time, without the statistics, (rank, P) at most; the row of
        snapshot i is (i - 1) modulo rank.
    """

    count: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    deviations: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        empty = self.vector().new_empty(0)
        self.register_buffer("count", torch.tensor(0))
        for name in ("first", "second", "deviations"):
            self.register_buffer(name, empty.clone())

    @torch.no_grad()
    def take(self, rank: int) -> None:
        """Add the current weights to the moments."""
        now, count = self.vector(), int(self.count)
        size = sum(parameter.numel() for parameter in self.trained().values())
        if count == 0:
            self.first, self.second = now.clone(), torch.zeros_like(now[:size])
            self.deviations = now.new_empty(0, size)
        else:
            before = (now - self.first)[:size]
            self.first.lerp_(now, 1 / (count + 1))
            self.second.lerp_(before * (now - self.first)[:size], 1 / (count + 1))
        deviation = (now - self.first)[:size]
        if len(self.deviations) < rank:
            self.deviations = torch.cat([self.deviations, deviation[None]])
        elif rank:
            self.deviations[count % rank] = deviation
        self.count += 1

    def sample(self, scale: float, generator: torch.Generator) -> torch.Tensor:
        """Draw a vector of weights (equation 1 of the paper); running statistics are those of the mean."""
        rank, size = self.deviations.shape
        width = self.second.clamp(min=0).sqrt_()

        def normal(length: int) -> torch.Tensor:
            return torch.empty(length, dtype=width.dtype, device=width.device).normal_(generator=generator)

        if rank > 1:
            noise = math.sqrt(scale) * width * normal(size)
            noise += math.sqrt(scale / (rank - 1)) * (normal(rank) @ self.deviations)
        else:  # without a low-rank part, the diagonal has all of the variance
            noise = math.sqrt(2 * scale) * width * normal(size)
        drawn = self.first.clone()
        drawn[:size] += noise
        return drawn


class SWAG(Method):
    """SWAG: training passes through weights, whose mean and covariance are a Gaussian posterior.

    In the last part of training, with a constant learning rate, the weights are averaged. The covariance is
    one half diagonal, of the second moments, and one half of low rank, of the last snapshots. With
    ``sparsity``, the smallest weights are pruned before (Zhu & Gupta 2017), and moments are those of the
    active weights. The paper computes the statistics of batch normalisation anew for each sample; here they
    are averaged as the weights are.

    References
    ----------
    Maddox, Garipov, Izmailov, Vetrov & Wilson, NeurIPS 2019, arXiv 1902.02476.
    """

    name = "swag"
    style = Style("SWAG", hue="#0B6E4F", hue_dark="#4FD1A5", marker="hexagram", dash="dot", order=75)
    Options = SWAGOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        dense = replace(SWAGOptions(), **{name: getattr(options, name) for name in _OF_COLLECTION})
        if options.sparsity > 0 or options == dense:
            return None
        return Equivalent(cls.name, to_dict(dense), "sparsity 0 prunes nothing")

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that weights are pruned before they are collected, and that every layer keeps one.

        Raises
        ------
        UserError
            If not.
        """
        if options.sparsity == 0:
            return
        slot_counts(options, network, torch.Generator().manual_seed(0))
        if options.prune_until > 1 - options.collect:
            raise UserError(
                f"prune_until: {options.prune_until} comes after the beginning of collection, at "
                f"{1 - options.collect:g} of the steps"
            )
        Gradual.check_order(options.prune_from, options.prune_until)

    def build(self, network: nn.Module, streams: Streams, task: Task) -> Moments:
        if self.options.sparsity == 0:
            return Moments(network)
        keep, why = self.options.keep_dense, "pruned in training"
        return Moments(to_variational(network, lambda _, w: DensePoint(w.shape, w), 0.0, keep, why))

    def before_step(self, context: Context) -> None:
        if self._collected(context) is not None:
            for group in context.optimiser.param_groups:
                group["lr"] = self.options.collect_lr * group["initial_lr"]

    def after_step(self, context: Context) -> None:
        if self.options.sparsity > 0:
            self._gradual.after_step(context)
        number, steps = self._collected(context), context.progress.steps
        if number is not None and due(number, steps - self._before(steps), self.options.snapshots):
            _moments(context.module).take(self.options.rank)

    def leave_stage(self, context: Context, stage: Stage) -> None:
        if self.options.sparsity > 0:
            self._gradual.leave_stage(context)

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        """As counted in training; under the allocation ``global`` the largest possible value."""
        if self.options.sparsity == 0:
            return super().training_flops(module, budget)
        return self._gradual.training_flops(module, budget, self.flops(module, "step"))

    def mean(self, module: nn.Module) -> Predictor | None:
        moments = _moments(module)
        return moments.predictor(moments.first) if moments.count else module

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        moments = _moments(module)
        if not moments.count:
            yield module
            return
        for _ in range(samples):
            yield moments.predictor(moments.sample(self.options.scale, generator))

    def held_per_weight(self) -> int:
        return 2 + int(self.options.rank)

    @property
    def _gradual(self) -> Gradual:
        chosen = self.options
        when = chosen.prune_from, chosen.prune_until, chosen.prune_every
        return Gradual(chosen.allocation, chosen.sparsity, *when, pruning.by_magnitude)

    def _collected(self, context: Context) -> int | None:
        """Return the number of the step among those in which weights are collected, from 1; None before."""
        steps, step = context.progress.steps, context.progress.step
        number = step - self._before(steps)
        return number if number > 0 else None

    def _before(self, steps: int) -> int:
        """Return the steps before the first one in which weights are collected."""
        return min(math.floor((1 - self.options.collect) * steps + 1e-9), steps - 1)


def _moments(module: nn.Module) -> Moments:
    assert isinstance(module, Moments)
    return module
