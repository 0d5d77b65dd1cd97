"""Cyclical stochastic-gradient Langevin dynamics (Zhang et al., ICLR 2020, arXiv 1902.03932)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from methods.base import Context, Equivalent, Predictor, Task
from methods.core.options import option, to_dict
from methods.core.streams import Streams
from methods.core.style import Style
from methods.families.collected import Collected, due
from methods.layers.layer import sparse_layers
from methods.rigl import RigL, RigLOptions


@dataclass(frozen=True)
class CSGLDOptions(RigLOptions):
    """Options for cycles and samples; with ``replace_fraction`` 0 the subspace is fixed."""

    replace_until: float = option(
        1.0, "share of the steps after which the subspace stays as it is", within="[0, 1]"
    )
    cycles: int = option(
        4, "cycles of the learning rate; each falls from the first one to 0 on a cosine", within="[1, inf)"
    )
    exploration: float = option(
        0.8, "share of each cycle that is optimised and moves the subspace; the rest samples", within="[0, 1)"
    )
    cycle_samples: int = option(
        3, "samples kept of each cycle, at even distances; no more than there are steps", within="[1, inf)"
    )
    temperature: float = option(
        1.0, "temperature T of the posterior: its density to the power of 1/T is sampled", within="[0, inf)"
    )


#: Options that matter in a dense network.
_OF_CYCLES = ("cycles", "exploration", "cycle_samples", "temperature")


class Samples(Collected):
    """A network and the samples of it that are kept.

    Attributes
    ----------
    values
        Values of each sample: active weights, other parameters, running statistics, (n, P).
    index
        Active coordinates of each sample in all sparse layers, (n, s) int32; empty if they never change.
    slots
        Numbers of active weights by sparse layer, (n, layers); empty if they never change.
    """

    values: torch.Tensor
    index: torch.Tensor
    slots: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.register_buffer("values", self.vector().new_empty(0))
        for name in ("index", "slots"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int32))

    @torch.no_grad()
    def keep(self, moving: bool) -> None:
        """Add the current weights to the samples, with their coordinates if the subspace is ``moving``."""
        found = {"values": self.vector()}
        if moving and (posteriors := [posterior for *_, posterior in sparse_layers(self)]):
            found["index"] = torch.cat([posterior.index for posterior in posteriors])
            found["slots"] = self.slots.new_tensor([posterior.active for posterior in posteriors])
        for name, value in found.items():
            before = getattr(self, name)
            setattr(self, name, torch.cat([before, value[None]]) if len(before) else value[None].clone())

    def sample(self, number: int) -> Predictor:
        """Return a sample as a function from inputs to logits."""
        if not len(self.slots):
            return self.predictor(self.values[number])
        names, slots = [name for name, *_ in sparse_layers(self)], self.slots[number].tolist()
        means = {f"{name}.posterior.mean": count for name, count in zip(names, slots, strict=True)}
        tensors = self.tensors(self.values[number], means)
        for name, index in zip(names, self.index[number].split(slots), strict=True):
            tensors[f"{name}.posterior.index"] = index
        return self.with_tensors(tensors)


class Place(NamedTuple):
    """Position of a step within its cycle.

    Parameters
    ----------
    share
        Share of the cycle that is over, in [0, 1).
    number
        Number of the step among those that sample, from 1; 0 or less while the cycle explores.
    sampling
        Steps of the cycle that sample.
    """

    share: float
    number: int
    sampling: int


class CSGLD(RigL):
    """Cyclical SG-MCMC: the learning rate falls again and again; Langevin steps at its ends are the samples.

    A cycle begins with exploration, by the optimiser of the recipe, which also moves the subspace as
    ``rigl`` does. It ends with Langevin steps on the subspace reached,
    w - lr (gradient + decay w) + sqrt(2 lr T / N) xi, for N examples and the gradient of the mean
    cross-entropy. They sample the posterior of a Gaussian prior of precision N times the weight decay.
    Predictions average the samples that were kept.

    References
    ----------
    Zhang, Li, Zhang, Chen & Wilson, ICLR 2020, arXiv 1902.03932; Welling & Teh, ICML 2011.
    For sparse networks cf. Vadera et al. 2022, arXiv 2202.03770.
    """

    name = "csgld"
    style = Style("cSGLD", hue="#A0522D", hue_dark="#FF9E6B", marker="star-diamond", dash="dashdot", order=77)
    Options = CSGLDOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        dense = replace(CSGLDOptions(), sparsity=0.0, **{name: getattr(options, name) for name in _OF_CYCLES})
        if options.sparsity > 0 or options == dense:
            return None
        return Equivalent(cls.name, to_dict(dense), "sparsity 0 moves no subspace")

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``options`` leave every layer of ``network`` a weight, if it is to be sparse.

        Raises
        ------
        UserError
            If a layer would be left without a weight.
        """
        if options.sparsity > 0:
            super().validate(options, network)

    def build(self, network: nn.Module, streams: Streams, task: Task) -> Samples:
        return Samples(super().build(network, streams, task) if self.options.sparsity > 0 else network)

    def before_step(self, context: Context) -> None:
        place = self._place(context.progress.step, context.progress.steps)
        for group in context.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * 0.5 * (1 + math.cos(math.pi * place.share))
        if place.number > 0:
            context.skip_step = True
        else:
            super().before_step(context)

    def after_step(self, context: Context) -> None:
        place = self._place(context.progress.step, context.progress.steps)
        if place.number <= 0:
            super().after_step(context)
            return
        langevin_step(
            context.optimiser, context.progress.examples, self.options.temperature, context.progress.noise
        )
        if due(place.number, place.sampling, self.options.cycle_samples):
            _samples(context.module).keep(self._moves)

    def mean(self, module: nn.Module) -> Predictor | None:
        """Return None: the mean of samples of several modes is no network of use."""
        return None

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        """Yield every sample that was kept, the newest first, for any ``samples``."""
        kept = _samples(module)
        if not len(kept.values):
            yield module
        for number in reversed(range(len(kept.values))):
            yield kept.sample(number)

    def held_per_weight(self) -> int:
        return int(self.options.cycles * self.options.cycle_samples * (2 if self._moves else 1))

    @property
    def _moves(self) -> bool:
        return bool(self.options.sparsity > 0 and self.options.replace_fraction > 0)

    def _updates(self, slots: list[int], steps: int) -> list[range]:
        """Return the updates of each cycle's exploration."""
        (every,) = super()._updates(slots, steps)
        found = []
        for first, sampling, _ in self._cycles(steps):
            begin = -(-max(first + 1, every.start) // every.step) * every.step
            found.append(range(begin, min(sampling + 1, every.stop), every.step))
        return found

    def _cycles(self, steps: int) -> list[tuple[int, int, int]]:
        """Return the steps, counted from 0, at which each cycle begins, begins to sample, and ends."""
        number, found = min(self.options.cycles, steps), []
        for cycle in range(number):
            first, end = (-(-place * steps // number) for place in (cycle, cycle + 1))
            sampling = first + math.ceil(self.options.exploration * (end - first) - 1e-9)
            found.append((first, min(sampling, end - 1), end))
        return found

    def _place(self, step: int, steps: int) -> Place:
        cycles = self._cycles(steps)
        first, sampling, end = next(cycle for cycle in cycles if step <= cycle[2])
        return Place((step - 1 - first) / (end - first), step - sampling, end - sampling)


@torch.no_grad()
def langevin_step(
    optimiser: torch.optim.Optimizer, examples: int, temperature: float, generator: torch.Generator
) -> None:
    """Take a Langevin step with the gradients, learning rates and weight decay in ``optimiser``.

    Parameters
    ----------
    optimiser
        Optimiser, whose own state does not change.
    examples
        Number N of examples, of whose mean loss the gradients are.
    temperature
        Temperature T of the distribution that is sampled.
    generator
        Source of the noise.
    """
    for group in optimiser.param_groups:
        rate = group["lr"]
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            noise = torch.empty_like(parameter).normal_(generator=generator)
            parameter.add_(parameter.grad.add(parameter, alpha=group["weight_decay"]), alpha=-rate)
            parameter.add_(noise, alpha=math.sqrt(2 * rate * temperature / examples))


def _samples(module: nn.Module) -> Samples:
    assert isinstance(module, Samples)
    return module
