"""Sparse Subspace Variational Inference (Li, Miao, Qiu, Zhang, ICLR 2024, arXiv 2402.11025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from methods import layers, passes, subspace
from methods.base import Context, Equivalent, Stage, Style
from methods.criteria import CRITERIA, EQUIVALENT, Moments
from methods.exchange import Exchange
from methods.layers import SparseLayer
from methods.options import option, to_dict
from methods.passes import GradientConsumer
from methods.posterior import SparseGaussian
from methods.recording import record_change, record_criteria, snapshots
from methods.scales import SCALE_MAPS
from methods.variational import SparseOptions, SparseVariationalMethod, data_loss

ADDITIONS = {
    "grad_sampled": "largest |gradient of the mean| in the training step's own noisy pass (released)",
    "grad_mean": "largest |gradient of the mean| in an extra pass of the mean network",
    "grad_averaged": "largest |gradient of the mean| averaged over addition_draws noisy passes",
    "random": "uniformly at random (as in SET), the control for the gradient",
}
TINY_STD = 1e-6


@dataclass(frozen=True)
class SSVIOptions(SparseOptions):
    """Options of SSVI. The released behaviours are named values; the defaults are ours."""

    criterion: str = option("snr", "removal criterion: slots of lowest score go", choices=CRITERIA)
    lam: float = option(1.0, "lambda of the criteria mean_exp and snr_exp", within="(0, inf)")
    addition: str = option("grad_sampled", "which coordinates come", choices=tuple(ADDITIONS))
    addition_draws: int = option(4, "noisy passes averaged by grad_averaged", within="[1, inf)")
    replace_every: int = option(20, "minibatches from one subspace update to the next", within="[1, inf)")
    replace_fraction: float = option(0.3, "share of slots up for replacement at the start", within="[0, 1]")
    replace_until: float = option(0.75, "share of the steps after which the subspace rests", within="[0, 1]")
    added_scale: str = option(
        "layer_mean",
        "scale of a new slot: that of the mean scale parameter of the layer's surviving slots; or 1e-6",
        choices=("layer_mean", "tiny"),
    )
    readmit: bool = option(True, "slots just removed compete for addition; those that win stay as they were")
    removed_gradient: str = option(
        "likelihood",
        "what a removed slot competes with: its likelihood gradient, as all others; or with the KL's "
        "gradient added, as released",
        choices=("likelihood", "likelihood_and_kl"),
    )
    step_on_update: bool = option(True, "take the optimiser step on updates too; the released code skips it")


class SSVI(SparseVariationalMethod):
    """Mean-field VI that trains on a subspace of fixed size and moves it: sparse from first step to last."""

    name = "ssvi"
    style = Style("SSVI", hue="#414AAF", hue_dark="#3767DB", marker="circle", dash="solid", order=0)
    Options = SSVIOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        dense = super().equivalent(options)
        if dense is not None:
            return dense
        if options.criterion in EQUIVALENT:
            same, reason = EQUIVALENT[options.criterion]
            return Equivalent(cls.name, to_dict(replace(options, criterion=same)), reason)
        if options.lam != 1.0 and not options.criterion.endswith("_exp"):
            reason = f"lambda does not enter {options.criterion}"
            return Equivalent(cls.name, to_dict(replace(options, lam=1.0)), reason)
        return None

    def enter_stage(self, context: Context, stage: Stage) -> None:
        context.memory["updates"] = 0
        for name, _, posterior in layers.sparse_layers(context.module):
            context.memory[f"initial/{name}"] = posterior.index.clone()

    def before_step(self, context: Context) -> None:
        step, last = context.progress.step, self._last_update(context)
        if step % self.options.replace_every or step >= last:
            return
        if self.options.sparsity == 0:  # nothing to move to; and no step forfeited: this is dense VI
            return
        context.skip_step = not self.options.step_on_update
        fraction = subspace.replacement_fraction(step, last, self.options.replace_fraction)
        update = self._begin_update(list(layers.sparse_layers(context.module)), fraction)
        if update is None:
            return
        context.scratch["update"] = update
        context.memory["updates"] += 1
        updates = (last - 1) // self.options.replace_every
        compare = context.watch and context.memory["updates"] in snapshots(updates, context.progress.steps)
        numbers: dict[nn.Module, int] = {layer: number for number, (_, layer, _) in enumerate(update.layers)}

        def offer(layer: nn.Module, gradient: torch.Tensor) -> None:
            number = numbers[layer]
            name, _, posterior = update.layers[number]
            removed = update.exchange.removed[number]
            if compare:
                moments = self._moments(posterior)
                record_criteria(context, name, moments, self.options.criterion, int(removed.sum()))
            update.exchange.offer(number, self._magnitude(posterior, removed, gradient, context))

        self._request_gradients(context, offer)

    def after_step(self, context: Context) -> None:
        update: _Update | None = context.scratch.get("update")
        if update is None:
            return
        subspace.check_optimiser(context.optimiser)
        for number in update.exchange.missing:  # no gradient came this way: it is zero
            _, _, posterior = update.layers[number]
            update.exchange.offer(number, posterior.mean.new_zeros(posterior.shape))
        changes = [update.exchange.change(number) for number in range(len(update.layers))]
        new_rhos = self._new_rhos([posterior for *_, posterior in update.layers], changes)
        for (name, _, posterior), change, score, new_rho in zip(
            update.layers, changes, update.scores, new_rhos, strict=True
        ):
            subspace.apply(posterior, change, new_rho, context.optimiser)
            if context.watch:
                now = self._moments(posterior).scores(self.options.criterion)
                record_change(context, name, posterior, change, score, now)

    def update_period(self) -> int | None:
        return int(self.options.replace_every)

    def _begin_update(self, found: list[SparseLayer], fraction: float) -> _Update | None:
        """The slots that go, ``fraction`` of each layer's or of all layers' together; None where none go."""
        slots = [posterior.active for _, _, posterior in found]
        quotas: list[int] | int = [math.floor(count * fraction) for count in slots]
        if self.options.allocation == "global":
            quotas = math.floor(sum(slots) * fraction)
        if not (quotas if isinstance(quotas, int) else any(quotas)):
            return None
        scores = [self._moments(posterior).scores(self.options.criterion) for _, _, posterior in found]
        indices = [posterior.index for _, _, posterior in found]
        return _Update(found, scores, Exchange(indices, scores, quotas, self.options.readmit))

    def _last_update(self, context: Context) -> int:
        """T_end: no update at or after this step."""
        return math.floor(self.options.replace_until * context.progress.steps)

    def _moments(self, posterior: SparseGaussian) -> Moments:
        return Moments(posterior.mean, posterior.std, self.options.lam)

    def _request_gradients(self, context: Context, decide: GradientConsumer) -> None:
        """Arrange that ``decide`` gets what additions are ranked by, for every sparse layer."""
        addition = self.options.addition
        if addition == "random":
            for _, layer, posterior in layers.sparse_layers(context.module):
                drawn = torch.rand(posterior.shape, generator=context.streams["subspace"])
                decide(layer, drawn.to(posterior.mean.device))
        elif addition == "grad_sampled":
            context.request_dense_gradients(decide)
        elif addition == "grad_mean":

            def mean_loss() -> torch.Tensor:
                with passes.mean():
                    return data_loss(context.module, context.batch)

            context.extra_pass(mean_loss, decide, "mean_pass")
        else:
            self._request_averaged(context, decide)

    def _request_averaged(self, context: Context, decide: GradientConsumer) -> None:
        """The training pass is one of the draws; the others are extra passes with noise of their own."""
        sums: dict[nn.Module, torch.Tensor] = {}

        def accumulate(layer: nn.Module, gradient: torch.Tensor) -> None:
            sums[layer] = sums[layer].add_(gradient) if layer in sums else gradient

        def noisy_loss() -> torch.Tensor:
            with passes.local_noise(context.streams["extra"]):
                return data_loss(context.module, context.batch)

        for _ in range(self.options.addition_draws - 1):
            context.extra_pass(noisy_loss, accumulate, "noisy_pass")

        def finish(layer: nn.Module, gradient: torch.Tensor) -> None:
            decide(layer, gradient.add_(sums.pop(layer)) if layer in sums else gradient)

        context.request_dense_gradients(finish)

    @torch.no_grad()
    def _magnitude(
        self, posterior: SparseGaussian, removed: torch.Tensor, gradient: torch.Tensor, context: Context
    ) -> torch.Tensor:
        """What candidates are ranked by, for every coordinate of the layer; overwrites ``gradient``."""
        if self.options.removed_gradient == "likelihood_and_kl":
            # KL contributes a gradient to stored coordinates only, so only to those just given up
            slope = self.kl_weight(context.progress) / self.options.prior_std**2
            coordinates = posterior.index[removed].long()
            gradient.view(-1)[coordinates] += slope * posterior.mean[removed]
        return gradient.abs_()

    @torch.no_grad()
    def _new_rhos(
        self, posteriors: Sequence[SparseGaussian], changes: Sequence[subspace.Change]
    ) -> list[torch.Tensor]:
        """The scale parameter of each layer's new slots; a layer where none survive takes the mean of all."""
        tiny = [SCALE_MAPS[p.scale_map].rho(p.rho.new_tensor(TINY_STD)) for p in posteriors]
        surviving = [p.rho[change.keep] for p, change in zip(posteriors, changes, strict=True)]
        if self.options.added_scale == "tiny" or not any(rho.numel() for rho in surviving):
            return tiny
        return [rho.mean() if rho.numel() else torch.cat(surviving).mean() for rho in surviving]


@dataclass
class _Update:
    """One subspace update between its two halves: scores (s,) by layer, and what goes and comes."""

    layers: list[SparseLayer]
    scores: list[torch.Tensor]
    exchange: Exchange
