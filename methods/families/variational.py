"""What methods with Gaussian posteriors share: options, the objective, building posteriors.

The objective is Li et al. 2024: the mean negative log-likelihood of a minibatch under
local reparameterisation plus kappa * w(e) / N times the KL of all active coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from methods.base import Batch, Budget, Equivalent, Method, Progress, Stage, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.options import option, to_dict
from methods.core.streams import Streams
from methods.criteria.criteria import EQUIVALENT
from methods.families.sparse import SparsityOptions, random_index, slot_counts
from methods.layers import convert, layer
from methods.layers.posterior import DenseGaussian, Gaussian, SparseGaussian

# What the released SSVI code draws initial means and scales from, for every layer.
RELEASED_MEAN_STD = 0.01
RELEASED_SCALE = (6e-4, 5e-4)


@dataclass(frozen=True)
class PriorOptions:
    """The Gaussian prior."""

    prior_std: float = option(
        0.1, "standard deviation of the Gaussian prior of each weight", within="(0, inf)"
    )


@dataclass(frozen=True)
class PosteriorOptions:
    """Options of every method that trains Gaussian posteriors, whatever the prior."""

    kl_factor: float = option(
        0.02, "factor kappa of the KL term (a cold posterior below 1)", within="[0, inf)"
    )
    kl_warmup: float = option(
        0.5, "share of the epochs over which the KL weight rises to its full value", within="[0, 1]"
    )
    mean_init: str = option(
        "network",
        "initial means: the network's own initial weights, enlarged by 1/sqrt(density) so that a layer's "
        "outputs keep their variance; or N(0, 0.01^2) in every layer, as released",
        choices=("network", "released"),
    )
    scale_init: str = option(
        "constant",
        "initial scales: initial_std everywhere; or |N(6e-4, 5e-4^2)|, as released",
        choices=("constant", "released"),
    )
    initial_std: float = option(0.02, "initial scale when scale_init is constant", within="(0, inf)")
    scale_map: str = option("softplus", "from parameter to scale", choices=("softplus", "exp"))
    variance_floor: float = option(
        0.0, "added to pre-activation variances; the released code has 1e-8", within="[0, inf)"
    )


@dataclass(frozen=True)
class VariationalOptions(PosteriorOptions, PriorOptions):
    """Options of every method that trains Gaussian posteriors under a Gaussian prior."""


@dataclass(frozen=True)
class SparseOptions(SparsityOptions, VariationalOptions):
    """Options of methods whose posteriors live on a subspace of fixed size."""


#: The stage of training that goes on with what has been pruned.
FINETUNE = "finetune"


def with_finetuning(budget: Budget, share: float, option: str) -> list[Stage]:
    """Two stages, the second a ``share`` of the epochs and one at least; ``option`` asks for it."""
    if budget.epochs < 2:
        raise UserError(f"{option} takes two epochs at least: one to train, one to fine-tune")
    after = min(max(round(share * budget.epochs), 1), budget.epochs - 1)
    return [Stage("train", budget.epochs - after), Stage(FINETUNE, after, start="keep")]


class VariationalMethod(Method):
    """Gaussian posteriors over all kernels, trained on the objective above."""

    Options: ClassVar[type] = VariationalOptions

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        subspace, initial = streams["subspace"], streams["posterior"]
        counts = self.active_counts(network, subspace)

        def posterior(name: str, weight: torch.Tensor) -> Gaussian:
            if name not in counts:
                dense = self._initial(weight, 1.0, initial)
                return DenseGaussian(weight.shape, *dense, self.options.scale_map)
            index = random_index(weight.numel(), counts[name], subspace)
            mean, std = self._initial(weight, counts[name] / weight.numel(), initial)
            return SparseGaussian(
                weight.shape, index, mean.view(-1)[index], std.view(-1)[index], self.options.scale_map
            )

        return convert.to_variational(
            network, posterior, self.options.variance_floor, self.keep_dense, self.why_dense
        )

    #: Why layers begin with all their weights, for the report of what becomes of each.
    why_dense: ClassVar[str] = "the method keeps every weight"

    @property
    def keep_dense(self) -> tuple[str, ...]:
        """Patterns of the names of layers that the configuration keeps dense."""
        keep: tuple[str, ...] = getattr(self.options, "keep_dense", ())
        return keep

    def active_counts(self, network: nn.Module, generator: torch.Generator) -> Mapping[str, int]:
        """Slots a sparse layer, by name; layers not named are dense. ``generator`` is for what is drawn."""
        return {}

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        with passes.local_noise(progress.noise):
            data = data_loss(module, batch)
        return data + self.kl_weight(progress) * self.kl(module)

    def kl(self, module: nn.Module) -> torch.Tensor:
        """KL divergence from the prior, summed over every stored coordinate, in nats."""
        return torch.stack([self.kl_of(posterior) for posterior in layer.gaussians(module)]).sum()

    def kl_of(self, posterior: Gaussian) -> torch.Tensor:
        """KL divergence from the prior of one kernel's stored coordinates, in nats, a scalar."""
        return posterior.kl(self.options.prior_std)

    def kl_weight(self, progress: Progress) -> float:
        """kappa * w(e) / N, with w a staircase over epochs that reaches 1 after the warm-up."""
        return float(self.options.kl_factor * self.kl_rise(progress) / progress.examples)

    def kl_rise(self, progress: Progress) -> float:
        """w(e): the share of its full weight that the KL has in an epoch; all of it in fine-tuning."""
        if progress.stage == FINETUNE:
            return 1.0
        warmup = self.options.kl_warmup * progress.epochs
        return min(progress.epoch / warmup, 1.0) if warmup > 0 else 1.0

    @torch.no_grad()
    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        return {"kl": float(self.kl(module)), "kl_weight": self.kl_weight(progress)}

    def _initial(
        self, weight: torch.Tensor, density: float, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Initial means and scales of a whole kernel, of its shape."""
        if self.options.mean_init == "network":
            mean = weight / density**0.5
        else:
            mean = RELEASED_MEAN_STD * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        if self.options.scale_init == "constant":
            return mean, torch.full_like(weight, self.options.initial_std)
        centre, spread = RELEASED_SCALE
        std = (centre + spread * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)).abs()
        # exactly 0, whose rho is infinite, is drawn again in the released code; the next float is as good
        return mean, std.clamp_(min=torch.finfo(weight.dtype).tiny)


class SparseVariationalMethod(VariationalMethod):
    """Posteriors on a random subspace of each sparsifiable layer."""

    Options = SparseOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        if options.sparsity == 0:
            shared = {f.name: getattr(options, f.name) for f in fields(VariationalOptions)}
            return Equivalent("dense_vi", shared, "sparsity 0 is dense VI")
        criterion = getattr(options, "criterion", None)
        if criterion in EQUIVALENT:
            same, reason = EQUIVALENT[criterion]
            return Equivalent(cls.name, to_dict(replace(options, criterion=same)), reason)
        return None

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Raise ``UserError`` when ``options`` do not fit ``network`` (a layer without a weight)."""
        slot_counts(options, network, torch.Generator().manual_seed(0))

    def active_counts(self, network: nn.Module, generator: torch.Generator) -> Mapping[str, int]:
        return slot_counts(self.options, network, generator)


def data_loss(module: nn.Module, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of a minibatch in the forward pass in force."""
    inputs, labels = batch
    return F.cross_entropy(module(inputs), labels)
