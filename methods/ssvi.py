"""Sparse Subspace Variational Inference (Li, Miao, Qiu, Zhang, ICLR 2024, arXiv 2402.11025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from methods.base import Context, Equivalent
from methods.core import passes
from methods.core.data_loss import data_loss
from methods.core.errors import UserError
from methods.core.options import names, option, to_dict
from methods.core.passes import GradientConsumer
from methods.core.style import Style
from methods.criteria.base import CRITERIA
from methods.criteria.moments import Moments
from methods.families import dimension
from methods.families.dimension import DimensionOptions
from methods.families.moving import MovingOptions, MovingSubspace, offer_random
from methods.families.variational import SparseOptions, SparseVariationalMethod
from methods.layers import layer as layers
from methods.layers.posterior import Slots, SparseGaussian
from methods.layers.scale_maps import SCALE_MAPS
from methods.subspace import surgery
from methods.subspace.exchange import Exchange
from methods.subspace.recording import record_criteria, snapshots
from methods.subspace.resizing import Resizing

ADDITIONS = {
    "grad_sampled": "largest |gradient of the mean| in the training step's own noisy pass, as released",
    "grad_mean": "largest |gradient of the mean| in an extra pass of the mean network",
    "grad_averaged": "largest |gradient of the mean| averaged over addition_draws noisy passes",
    "grad_accumulated": "largest |gradient of the mean| averaged over the training steps of "
    "addition_minibatches minibatches, the update's and those before it",
    "random": "uniformly at random (as in SET), the control for the gradient",
}
TINY_STD = 1e-6


def _sum_of(layer: str) -> str:
    """Return the key of ``Context.memory`` under which a layer's gradients are summed in a window."""
    return f"gradients/{layer}"


def _one_sign(posterior: SparseGaussian) -> torch.Tensor:
    """Return the scale parameters of all slots on one branch of the scale map: |rho| if its sign is free."""
    return posterior.rho.abs() if SCALE_MAPS[posterior.scale_map].is_even else posterior.rho


@dataclass(frozen=True)
class SSVIOptions(MovingOptions, DimensionOptions, SparseOptions):
    """Options of SSVI. All behaviours of the released code can be chosen; the defaults are ours.

    The prior, the KL term and the initial posteriors have the defaults of all variational methods. To give
    SSVI a default of its own, such as for ``prior_std``, declare the option here again.
    """

    criterion: str = option("snr", "removal criterion: slots of lowest score are removed", choices=CRITERIA)
    lam: float = option(1.0, "lambda of the criteria mean_exp and snr_exp", within="(0, inf)")
    addition: str = option("grad_sampled", "how coordinates to add are chosen", choices=ADDITIONS)
    addition_draws: int = option(4, "noisy passes averaged by grad_averaged", within="[1, inf)")
    addition_minibatches: int = option(
        4,
        "minibatches averaged by grad_accumulated, at most replace_every (in the released code "
        "grad_accumulation_n); from the first of them to the update, the sum of the dense gradients is kept",
        within="[1, inf)",
        neutral=4,
    )
    added_scale: str = option(
        "layer_mean",
        "scale of a new slot; layer_mean: that of the mean scale parameter rho of the layer's slots that "
        "stay; tiny: 1e-6",
        choices=("layer_mean", "tiny"),
    )
    removed_gradient: str = option(
        "likelihood",
        "gradient by which a removed slot competes for addition; likelihood: that of the likelihood, as for "
        "all other coordinates; likelihood_and_kl: that of the KL is added, as in the released code",
        choices=("likelihood", "likelihood_and_kl"),
    )

    def __post_init__(self) -> None:
        dimension.require_bounds(self)


class SSVI(MovingSubspace, SparseVariationalMethod):
    """Mean-field VI that trains on a subspace and moves it: sparse from the first step to the last.

    References
    ----------
    Li, Miao, Qiu & Zhang, ICLR 2024, arXiv 2402.11025.
    """

    name = "ssvi"
    style = Style("SSVI", hue="#414AAF", hue_dark="#3767DB", marker="circle", dash="solid", order=0)
    Options = SSVIOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        same = super().equivalent(options)
        if same is not None:
            return same

        def instead(reason: str, **changes: Any) -> Equivalent:
            return Equivalent(cls.name, to_dict(replace(options, **changes)), reason)

        if options.dimension == "fixed":
            default = DimensionOptions()
            changed = {name: getattr(default, name) for name in names(DimensionOptions)}
            if any(getattr(options, name) != value for name, value in changed.items()):
                return instead("bounds and price do not enter a fixed dimension", **changed)
        if options.lam != 1.0 and not CRITERIA.get(options.criterion).uses_lam:
            return instead(f"lambda does not enter {options.criterion}", lam=1.0)
        if options.addition == "grad_accumulated" and options.addition_minibatches == 1:
            return instead("the update's own minibatch alone is grad_sampled", addition="grad_sampled")
        if options.addition != "grad_accumulated" and options.addition_minibatches != 4:
            return instead(f"addition_minibatches does not enter {options.addition}", addition_minibatches=4)
        return None

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``options`` fit ``network`` and each other.

        Raises
        ------
        UserError
            If they do not.
        """
        super().validate(options, network)
        if options.addition == "grad_accumulated" and options.addition_minibatches > options.replace_every:
            raise UserError(
                f"addition_minibatches: {options.addition_minibatches} is above replace_every, "
                f"{options.replace_every}: there are no more minibatches between two updates"
            )

    def scores(self, posterior: Slots) -> torch.Tensor:
        return CRITERIA.get(self.options.criterion)().score(self._moments(posterior))

    def replaceable(self, context: Context, layer: str, posterior: Slots) -> int:
        """Return the slots of the layer; those of its start if the number changes, so that trials go on."""
        if self.options.dimension == "fixed":
            return super().replaceable(context, layer, posterior)
        start: torch.Tensor = context.memory[f"initial/{layer}"]
        return start.numel()

    def most_slots(self, posterior: Slots) -> int:
        if self.options.dimension == "fixed":
            return super().most_slots(posterior)
        return dimension.bounds(self.options, posterior.active, posterior.shape.numel()).most

    @torch.no_grad()
    def exchange(
        self,
        found: list[layers.SparseLayer],
        scores: list[torch.Tensor],
        quotas: list[int] | int,
        context: Context,
    ) -> Exchange:
        chosen = self.options
        if chosen.dimension == "fixed":
            return super().exchange(found, scores, quotas, context)
        posteriors = [p for *_, p in found if isinstance(p, SparseGaussian)]
        starts = [self.replaceable(context, name, p) for name, _, p in found]
        sizes = [posterior.shape.numel() for posterior in posteriors]
        prior, price, weight = chosen.prior_std, chosen.slot_price, self.kl_weight(context.progress)
        return Resizing(
            [posterior.index for posterior in posteriors],
            scores,
            [dimension.evidence(posterior, prior) > price for posterior in posteriors],
            [dimension.promising(posterior, prior, weight, price) for posterior in posteriors],
            quotas,
            dimension.bounds(chosen, sum(starts), sum(sizes))
            if isinstance(quotas, int)
            else [dimension.bounds(chosen, *of_layer) for of_layer in zip(starts, sizes, strict=True)],
            chosen.readmit,
        )

    def observe(
        self, context: Context, layer: str, posterior: Slots, removed: torch.Tensor, updates: int
    ) -> None:
        if context.memory["updates"] in snapshots(updates, context.progress.steps):
            moments = self._moments(posterior)
            record_criteria(context, layer, moments, self.options.criterion, int(removed.sum()))

    def request_magnitudes(self, context: Context, offer: GradientConsumer) -> None:
        addition = self.options.addition
        if addition == "random":
            offer_random(context, offer)
        elif addition == "grad_sampled":
            context.request_dense_gradients(offer)
        elif addition == "grad_accumulated":
            self._request_accumulated(context, offer)
        elif addition == "grad_mean":

            def mean_loss() -> torch.Tensor:
                with passes.mean():
                    return data_loss(context.module, context.batch)

            context.extra_pass(mean_loss, offer, "mean_pass")
        else:
            self._request_averaged(context, offer)

    def update_events(self) -> list[str]:
        noisy = ["noisy_pass"] * (self.options.addition_draws - 1)
        events = {"random": [], "grad_mean": ["mean_pass"], "grad_averaged": [*noisy, "dense_gradient"]}
        return events.get(self.options.addition, ["dense_gradient"])

    def window(self) -> int:
        accumulates = self.options.addition == "grad_accumulated"
        return int(self.options.addition_minibatches) if accumulates else 1

    @torch.no_grad()
    def before_update(self, context: Context) -> None:
        """Add the dense gradients of this minibatch to those of the window so far; the update takes them."""
        sums: dict[nn.Module, torch.Tensor] = {}
        for name, layer, posterior in layers.sparse_layers(context.module):
            zeros = posterior.mean.new_zeros(posterior.shape)
            sums[layer] = context.memory.setdefault(_sum_of(name), zeros)
            self._add_kl(posterior, slice(None), sums[layer], context)

        def add(layer: nn.Module, gradient: torch.Tensor) -> None:
            sums[layer].add_(gradient)

        context.request_dense_gradients(add)

    def not_offered(self, context: Context, layer: str, posterior: Slots) -> torch.Tensor:
        earlier: torch.Tensor | None = context.memory.pop(_sum_of(layer), None)
        return super().not_offered(context, layer, posterior) if earlier is None else earlier.abs_()

    def rank(
        self, posterior: Slots, removed: torch.Tensor, gradient: torch.Tensor, context: Context
    ) -> torch.Tensor:
        self._add_kl(posterior, removed, gradient, context)
        return gradient.abs_()

    @torch.no_grad()
    def added(
        self, posteriors: Sequence[Slots], changes: Sequence[surgery.Change]
    ) -> list[Mapping[str, torch.Tensor]]:
        """Return the scale parameter of each layer's new slots.

        With ``layer_mean``, a layer in which no slot stays takes the mean over all layers.
        """
        gaussians = [p for p in posteriors if isinstance(p, SparseGaussian)]
        tiny = [{"rho": SCALE_MAPS[p.scale_map].rho(p.rho.new_tensor(TINY_STD))} for p in gaussians]
        surviving = [_one_sign(p)[change.keep] for p, change in zip(gaussians, changes, strict=True)]
        if self.options.added_scale == "tiny" or not any(rho.numel() for rho in surviving):
            return [*tiny]
        return [{"rho": (rho if rho.numel() else torch.cat(surviving)).mean()} for rho in surviving]

    def _moments(self, posterior: Slots) -> Moments:
        assert isinstance(posterior, SparseGaussian)
        return Moments(posterior.mean, posterior.std, self.options.lam)

    def _add_kl(
        self, posterior: Slots, slots: torch.Tensor | slice, gradient: torch.Tensor, context: Context
    ) -> None:
        """Add the gradient of the KL at ``slots`` to a dense gradient, if removed slots compete with it."""
        if self.options.removed_gradient == "likelihood_and_kl":
            # the KL has a gradient at stored coordinates only; among candidates these are the removed slots
            slope = self.kl_weight(context.progress) / self.options.prior_std**2
            gradient.view(-1)[posterior.index[slots].long()] += slope * posterior.mean[slots]

    def _request_accumulated(self, context: Context, decide: GradientConsumer) -> None:
        """Rank by the gradients of this minibatch and of those before it, summed: sums rank as means do."""
        names: dict[nn.Module, str] = {layer: name for name, layer, _ in layers.sparse_layers(context.module)}

        def finish(layer: nn.Module, gradient: torch.Tensor) -> None:
            earlier = context.memory.pop(_sum_of(names[layer]), None)
            decide(layer, gradient if earlier is None else gradient.add_(earlier))

        context.request_dense_gradients(finish)

    def _request_averaged(self, context: Context, decide: GradientConsumer) -> None:
        """Rank by the summed gradients of the training pass and of extra passes that have their own noise."""
        sums: dict[nn.Module, torch.Tensor] = {}

        def accumulate(layer: nn.Module, gradient: torch.Tensor) -> None:
            sums[layer] = sums[layer].add_(gradient) if layer in sums else gradient

        def noisy_loss() -> torch.Tensor:
            return self.noisy_loss(context.module, context.batch, context.streams["extra"])

        for _ in range(self.options.addition_draws - 1):
            context.extra_pass(noisy_loss, accumulate, "noisy_pass")

        def finish(layer: nn.Module, gradient: torch.Tensor) -> None:
            decide(layer, gradient.add_(sums.pop(layer)) if layer in sums else gradient)

        context.request_dense_gradients(finish)
