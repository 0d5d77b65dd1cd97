"""Base of methods that move a subspace of fixed size during training (``ssvi``, ``rigl``).

Every ``replace_every`` minibatches the slots of lowest score are removed and the best candidates are
added (Evci et al. 2020; Li et al. 2024). A method defines the scores of slots, the magnitudes that rank
candidates, and the initial values of added slots. This module decides when updates happen.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from methods.base import Budget, Context, Stage
from methods.core.options import option
from methods.core.passes import GradientConsumer
from methods.families.first_subspace import FirstSubspace, FirstSubspaceOptions
from methods.layers import layer as layers
from methods.layers.layer import SparseLayer
from methods.layers.posterior import Slots
from methods.subspace import free_energy, lifetimes, pruning, surgery
from methods.subspace.exchange import Exchange
from methods.subspace.recording import record_change, snapshots


@dataclass(frozen=True)
class MovingOptions(FirstSubspaceOptions):
    """Options for when a subspace is updated, and how much of it."""

    replace_every: int = option(20, "minibatches from one subspace update to the next", within="[1, inf)")
    replace_fraction: float = option(
        0.3,
        "share alpha of the slots that an update may replace, at the start of training",
        within="[0, 1]",
    )
    replace_schedule: str = option(
        "cosine",
        "share of the slots that an update may replace at a share tau of the steps until replace_until",
        choices=surgery.SCHEDULES,
        neutral="cosine",
    )
    replace_rounding: str = option(
        "quotient",
        "order of operations in the cosine of replace_fraction; at some steps it decides whether an update "
        "replaces one slot more",
        choices=surgery.ROUNDINGS,
        neutral="quotient",
    )
    replace_until: float = option(
        0.75, "share of the steps after which the subspace stays as it is", within="[0, 1]"
    )
    readmit: bool = option(
        True, "removed slots compete with the candidates for addition; those that win stay as they were"
    )
    added_state: str = option(
        "zero",
        "; ".join(f"{name}: {doc}" for name, doc in surgery.ADDED_STATES.items()),
        choices=tuple(surgery.ADDED_STATES),
        neutral="zero",
    )
    step_on_update: bool = option(
        True, "take the optimiser step at updates too; the released SSVI code skips it"
    )


@dataclass
class Update:
    """A subspace update in progress: it begins before the forward pass and ends after the optimiser step.

    Parameters
    ----------
    layers
        Name, layer and posterior of every sparse layer.
    scores
        Scores (s,) of each layer's slots.
    exchange
        Chooses the slots to remove and the coordinates to add.
    """

    layers: list[SparseLayer]
    scores: list[torch.Tensor]
    exchange: Exchange


class MovingSubspace(FirstSubspace):
    """Base of methods that exchange slots of all sparse layers; their options extend ``MovingOptions``."""

    Options: ClassVar[type] = MovingOptions

    def scores(self, posterior: Slots) -> torch.Tensor:
        """Return the scores (s,) of the slots of a layer; the lowest are removed."""
        raise NotImplementedError

    def request_magnitudes(self, context: Context, offer: GradientConsumer) -> None:
        """Arrange that ``offer`` receives, within this step, a tensor for every sparse layer.

        The tensor has the weight's shape and may be overwritten; ``rank`` turns it into magnitudes.
        """
        raise NotImplementedError

    def rank(
        self, posterior: Slots, removed: torch.Tensor, gradient: torch.Tensor, context: Context
    ) -> torch.Tensor:
        """Return the magnitudes by which candidates are ranked; the largest are added.

        Parameters
        ----------
        posterior
            Posterior of the layer.
        removed
            Slots to remove, boolean (s,).
        gradient
            Tensor that ``offer`` received, of the weight's shape; may be overwritten.
        context
            Context of the step.
        """
        return gradient.abs_()

    def window(self) -> int:
        """Return how many minibatches' gradients an update needs: its own, and those right before it."""
        return 1

    def before_update(self, context: Context) -> None:
        """Act before the forward pass of a minibatch of the window that is not the update's own."""

    def not_offered(self, context: Context, layer: str, posterior: Slots) -> torch.Tensor:
        """Return the magnitudes of a layer that got no gradient from the minibatch of the update."""
        return posterior.mean.new_zeros(posterior.shape)

    def added(
        self, posteriors: Sequence[Slots], changes: Sequence[surgery.Change]
    ) -> list[Mapping[str, torch.Tensor]]:
        """Return the parameter values of each layer's new slots, by name; 0 if not named.

        Parameters
        ----------
        posteriors
            Posterior of each layer.
        changes
            Change of each layer.
        """
        return [{} for _ in posteriors]

    def update_events(self) -> list[str]:
        """Return the events that an update adds to a step (see ``Method.flops``)."""
        return ["dense_gradient"]

    def replaceable(self, context: Context, layer: str, posterior: Slots) -> int:
        """Return the number of slots of a layer of which an update replaces a share."""
        return posterior.active

    def most_slots(self, posterior: Slots) -> int:
        """Return how many slots a layer that was just built has at most in training, by its own bounds."""
        return posterior.active

    def exchange(
        self,
        found: list[SparseLayer],
        scores: list[torch.Tensor],
        quotas: list[int] | int,
        context: Context,
    ) -> Exchange:
        """Return what chooses the slots of an update; by default as many are added as are removed.

        Parameters
        ----------
        found
            Name, layer and posterior of every sparse layer.
        scores
            Scores (s,) of each layer's slots.
        quotas
            Slots that may be replaced in each layer, or in all together.
        context
            Context of the step.
        """
        indices = [posterior.index for _, _, posterior in found]
        return Exchange(indices, scores, quotas, self.options.readmit)

    def observe(
        self, context: Context, layer: str, posterior: Slots, removed: torch.Tensor, updates: int
    ) -> None:
        """Look at a layer before its update, if updates are recorded.

        Parameters
        ----------
        context
            Context of the step.
        layer, posterior
            Name and posterior of the layer.
        removed
            Slots to remove, boolean (s,).
        updates
            Number of updates in the stage.
        """

    def enter_stage(self, context: Context, stage: Stage) -> None:
        context.memory["updates"] = 0
        _begin_records(context)

    def leave_stage(self, context: Context, stage: Stage) -> None:
        lifetimes.record_final(context)

    def before_step(self, context: Context) -> None:
        if self.choose_at_start(context):
            _begin_records(context)
        step, last = context.progress.step, self._last_update(context.progress.steps)
        due = step + -step % self.options.replace_every  # step of this update, or of the next one
        if due >= last or due - step >= self.window():
            return
        if self.options.sparsity == 0:  # dense: nothing to exchange, and no step to skip
            return
        found = list(layers.sparse_layers(context.module))
        fraction = self._fraction(due, last)
        if step < due:
            if self._quotas(self._replaceable(found, context), fraction) is not None:
                self.before_update(context)
            return
        context.skip_step = not self.options.step_on_update
        update = self._begin_update(found, fraction, context)
        if update is None:
            return
        context.scratch["update"] = update
        context.memory["updates"] += 1
        updates = (last - 1) // self.options.replace_every
        numbers: dict[nn.Module, int] = {layer: number for number, (_, layer, _) in enumerate(update.layers)}

        def offer(layer: nn.Module, gradient: torch.Tensor) -> None:
            number = numbers[layer]
            name, _, posterior = update.layers[number]
            removed = update.exchange.removed[number]
            if context.watch:
                self.observe(context, name, posterior, removed, updates)
            update.exchange.offer(number, self._rank(posterior, removed, gradient, context))

        self.request_magnitudes(context, offer)

    def after_step(self, context: Context) -> None:
        update: Update | None = context.scratch.get("update")
        if update is None:
            return
        surgery.check_optimiser(context.optimiser)
        for number in update.exchange.missing:
            name, _, posterior = update.layers[number]
            update.exchange.offer(number, self.not_offered(context, name, posterior))
        changes = [update.exchange.change(number) for number in range(len(update.layers))]
        added = self.added([posterior for *_, posterior in update.layers], changes)
        steps, update_number = context.progress.steps, context.memory["updates"]
        updates = (self._last_update(steps) - 1) // self.options.replace_every
        measured = context.watch and context.measure
        measured = measured and update_number in snapshots(updates, steps, free_energy.STEPS_EACH)
        before_update = free_energy.of_minibatch(self.loss, context) if measured else 0.0
        for (name, _, posterior), change, score, new in zip(
            update.layers, changes, update.scores, added, strict=True
        ):
            slots, before = posterior.active, posterior.index.clone()
            surgery.apply(posterior, change, context.optimiser, new, self.options.added_state)
            context.pruned = context.pruned or posterior.active != slots
            if context.watch:
                record_change(context, name, posterior, change, before, score, self.scores(posterior))
        if measured:
            free_energy.record(context, before_update, free_energy.of_minibatch(self.loss, context))
        if context.watch and update_number in snapshots(updates, steps, lifetimes.STEPS_EACH):
            lifetimes.pass_by(context)

    def update_period(self) -> int | None:
        return int(self.options.replace_every)

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        """As counted in training; where layers may grow, the largest possible value."""
        step = self._dearest_step(module)
        update = sum(self.flops(module, event) for event in self.update_events())
        before = self.flops(module, "dense_gradient")
        slots = [posterior.active for *_, posterior in layers.sparse_layers(module)]
        total = self.flops_at_start(module, budget)
        for stage in self.stages(budget):
            total += stage.epochs * step
            for updates in self._updates(slots, stage.epochs * budget.steps_per_epoch):
                total += budget.in_epochs(updates) * update
                for ahead in range(1, self.window()):
                    earlier = range(updates.start - ahead, updates.stop - ahead, updates.step)
                    total += budget.in_epochs(earlier) * before
        return total

    def _dearest_step(self, module: nn.Module) -> float:
        """Return the FLOPs of a plain step for one example, at the largest number of slots.

        Under the allocation ``global`` all weights are assumed to be where they are used most.
        """
        step = self.flops(module, "step")
        found = {name: (layer, posterior) for name, layer, posterior in layers.sparse_layers(module)}
        slots = {name: posterior.active for name, (_, posterior) in found.items()}
        counts = {name: self.most_slots(posterior) for name, (_, posterior) in found.items()}
        if self.options.allocation != "global" and counts == slots:
            return step
        prices = {name: pruning.step_price(layer) for name, (layer, _) in found.items()}
        sizes = {name: posterior.shape.numel() for name, (_, posterior) in found.items()}
        if self.options.allocation == "global":
            counts = pruning.dearest(sizes, prices, sum(counts.values()))
        return step + sum((counts[name] - slots[name]) * price for name, price in prices.items())

    def _updates(self, slots: list[int], steps: int) -> list[range]:
        """Return which of ``steps`` steps have an update, in ranges.

        Updates end early if the falling fraction leaves no slot to replace.
        """
        last, every = self._last_update(steps), self.options.replace_every
        due = range(every, last, every) if self.options.sparsity > 0 else range(0)

        def moves(step: int) -> bool:
            return self._quotas(slots, self._fraction(step, last)) is not None

        return [due[: bisect.bisect(due, False, key=lambda step: not moves(step))]]

    def _quotas(self, slots: list[int], fraction: float) -> list[int] | int | None:
        """Return how many slots to remove, in each layer or in all together; None if there are none."""
        quotas: list[int] | int = [math.floor(count * fraction) for count in slots]
        if self.options.allocation == "global":
            quotas = math.floor(sum(slots) * fraction)
        return quotas if (quotas if isinstance(quotas, int) else any(quotas)) else None

    def _replaceable(self, found: list[SparseLayer], context: Context) -> list[int]:
        return [self.replaceable(context, name, posterior) for name, _, posterior in found]

    def _begin_update(self, found: list[SparseLayer], fraction: float, context: Context) -> Update | None:
        """Choose the slots to remove, ``fraction`` of each layer's or of all together; None if none go."""
        quotas = self._quotas(self._replaceable(found, context), fraction)
        if quotas is None:
            return None
        scores = [self.scores(posterior) for _, _, posterior in found]
        return Update(found, scores, self.exchange(found, scores, quotas, context))

    def _fraction(self, step: int, last: int) -> float:
        """Return the share of the slots that the update at ``step`` may replace; ``last`` is T_end."""
        chosen = self.options
        return surgery.replacement_fraction(
            step, last, chosen.replace_fraction, chosen.replace_rounding, chosen.replace_schedule
        )

    def _last_update(self, steps: int) -> int:
        """Return T_end of a stage of ``steps`` steps: there is no update at or after this step."""
        return math.floor(self.options.replace_until * steps)

    @torch.no_grad()
    def _rank(
        self, posterior: Slots, removed: torch.Tensor, gradient: torch.Tensor, context: Context
    ) -> torch.Tensor:
        return self.rank(posterior, removed, gradient, context)


def _begin_records(context: Context) -> None:
    """Take the current subspace of each layer as the one with which training starts."""
    if context.watch:
        lifetimes.begin(context)
    for name, _, posterior in layers.sparse_layers(context.module):
        context.memory[f"initial/{name}"] = posterior.index.clone()


def offer_random(context: Context, offer: GradientConsumer) -> None:
    """Offer magnitudes drawn uniformly, as in SET (Mocanu et al. 2018): the control for the gradient."""
    for _, layer, posterior in layers.sparse_layers(context.module):
        drawn: Any = torch.rand(posterior.shape, generator=context.streams["subspace"])
        offer(layer, drawn.to(posterior.mean.device))
