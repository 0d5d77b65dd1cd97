"""Base of methods with Gaussian posteriors: options, the objective, and the initial posteriors.

The objective is that of Li et al. 2024: the mean negative log-likelihood of a minibatch under local
reparameterisation, or under one sample of the weights, plus kappa * w(e) / N times the KL of all active
coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import nn

from methods.base import Batch, Equivalent, Progress, Task
from methods.core import passes
from methods.core.data_loss import data_loss
from methods.core.options import option, to_dict
from methods.core.streams import Streams
from methods.criteria.base import CRITERIA
from methods.families.prior_and_kl import KLOptions, PriorOptions, kl_weight
from methods.families.sparse import SparsityOptions, WithSlots, random_index, slot_counts
from methods.layers import convert, layer
from methods.layers.posterior import DenseGaussian, Gaussian, SparseGaussian

# Initial means and scales in the released SSVI code, the same for every layer: standard deviation of the
# means, and mean and standard deviation of the scales.
RELEASED_MEAN_STD = 0.01
RELEASED_SCALE = (6e-4, 5e-4)


@dataclass(frozen=True)
class PosteriorOptions(KLOptions):
    """Options of every method that trains Gaussian posteriors, under any prior."""

    mean_init: str = option(
        "network",
        "initial means; network: the network's own initial weights, divided by sqrt(density) so that the "
        "outputs of a layer keep their variance; fan_in: the network's own initial weights, as they suit the "
        "fan-in of a dense layer; released: N(0, 0.01^2), as in the released SSVI code",
        choices=("network", "fan_in", "released"),
    )
    scale_init: str = option(
        "constant",
        "initial scales; constant: initial_std; released: |N(6e-4, 5e-4^2)|, as in the released SSVI code",
        choices=("constant", "released"),
    )
    initial_std: float = option(0.02, "initial scale when scale_init is constant", within="(0, inf)")
    scale_map: str = option(
        "softplus",
        "function from the parameter rho to the scale; abs: |rho|, which may reach 0, where the slope of the "
        "KL is infinite",
        choices=("softplus", "exp", "abs"),
    )
    variance_floor: float = option(
        0.0, "added to the variance of pre-activations; the released SSVI code has 1e-8", within="[0, inf)"
    )
    same_noise: bool = option(
        False,
        "draw the weights once for a minibatch, the same for all its examples, as under this option of the "
        "released SSVI code; false: local reparameterisation, which draws pre-activations for each example",
        neutral=False,
    )


@dataclass(frozen=True)
class VariationalOptions(PosteriorOptions, PriorOptions):
    """Options of every method that trains Gaussian posteriors under a Gaussian prior."""


@dataclass(frozen=True)
class SparseOptions(SparsityOptions, VariationalOptions):
    """Options of methods whose posteriors live on a subspace of fixed size."""


class VariationalMethod(WithSlots):
    """Base of methods that train Gaussian posteriors over all kernels, on the objective of this module."""

    Options: ClassVar[type] = VariationalOptions

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        subspace, initial = streams["subspace"], streams["posterior"]
        counts = self.active_counts(network, subspace)

        def posterior(name: str, weight: torch.Tensor) -> Gaussian:
            if name not in counts:
                dense = self._initial(weight, 1.0, initial)
                return DenseGaussian(weight.shape, *dense, self.options.scale_map)
            index = random_index(weight.numel(), counts[name], subspace)
            return self.slots(weight, index, initial)

        module = convert.to_variational(
            network, posterior, self.options.variance_floor, self.keep_dense, self.why_dense
        )
        for part in layer.variational_layers(module):
            part.one_sample |= self.options.same_noise
        return module

    def slots(
        self,
        weight: torch.Tensor,
        index: torch.Tensor,
        generator: torch.Generator,
        share: float | None = None,
    ) -> SparseGaussian:
        mean, std = self._initial(weight, share or index.numel() / weight.numel(), generator)
        return SparseGaussian(
            weight.shape, index, mean.view(-1)[index], std.view(-1)[index], self.options.scale_map
        )

    #: Why layers start with all their weights, for the report of each parameter tensor.
    why_dense: ClassVar[str] = "the method keeps every weight"

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that some layer of ``network`` can have a posterior.

        Raises
        ------
        UserError
            If none can.
        """
        convert.require_convertible(network)

    @property
    def keep_dense(self) -> tuple[str, ...]:
        """Patterns of the names of layers that the configuration keeps dense."""
        keep: tuple[str, ...] = getattr(self.options, "keep_dense", ())
        return keep

    def active_counts(self, network: nn.Module, generator: torch.Generator) -> Mapping[str, int]:
        """Return the number of slots of each sparse layer, by name; other layers are dense.

        ``generator`` draws whatever the numbers depend on.
        """
        return {}

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        return self.noisy_loss(module, batch, progress.noise) + self.kl_weight(progress) * self.kl(module)

    def noisy_loss(self, module: nn.Module, batch: Batch, noise: torch.Generator) -> torch.Tensor:
        """Return the mean negative log-likelihood of a minibatch in one pass with noise, a scalar."""
        if not self.options.same_noise:
            with passes.local_noise(noise):
                return data_loss(module, batch)
        draw: dict[nn.Module, torch.Tensor] = {
            part: part.sample_for_pass(noise, len(batch[0])) for part in passes.modules(module)
        }
        with passes.weights(draw):
            return data_loss(module, batch)

    def kl(self, module: nn.Module) -> torch.Tensor:
        """Return the KL divergence from the prior, summed over all stored coordinates, in nats, a scalar."""
        return torch.stack([self.kl_of(posterior) for posterior in layer.gaussians(module)]).sum()

    def kl_of(self, posterior: Gaussian) -> torch.Tensor:
        """Return the KL divergence of one kernel's stored coordinates from the prior, in nats, a scalar."""
        return posterior.kl(self.options.prior_std)

    def kl_weight(self, progress: Progress) -> float:
        """Return the weight of the KL term in the epoch of ``progress``."""
        return kl_weight(self.options, progress)

    @torch.no_grad()
    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        return {"kl": float(self.kl(module)), "kl_weight": self.kl_weight(progress)}

    def _initial(
        self, weight: torch.Tensor, density: float, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return initial means and scales of a whole kernel, both of its shape."""
        if self.options.mean_init == "network":
            mean = weight / density**0.5
        elif self.options.mean_init == "fan_in":
            mean = weight
        else:
            mean = RELEASED_MEAN_STD * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        if self.options.scale_init == "constant":
            return mean, torch.full_like(weight, self.options.initial_std)
        centre, spread = RELEASED_SCALE
        std = (centre + spread * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)).abs()
        # a scale of exactly 0 has an infinite rho: the released code draws again, we take the smallest float
        return mean, std.clamp_(min=torch.finfo(weight.dtype).tiny)


class SparseVariationalMethod(VariationalMethod):
    """Base of methods whose posteriors live on a random subspace of each sparsifiable layer."""

    Options = SparseOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        if options.sparsity == 0:
            shared = {f.name: getattr(options, f.name) for f in fields(VariationalOptions)}
            return Equivalent("dense_vi", shared, "sparsity 0 is dense VI")
        name = getattr(options, "criterion", None)
        criterion = CRITERIA.get(name) if name in CRITERIA.names() else None
        if criterion is None or criterion.ranks_as is None:
            return None
        same = replace(options, criterion=criterion.ranks_as)
        return Equivalent(cls.name, to_dict(same), f"ranks as {criterion.ranks_as}: {criterion.because}")

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``options`` leave every layer of ``network`` a weight.

        Raises
        ------
        UserError
            If a layer would be left without a weight.
        """
        slot_counts(options, network, torch.Generator().manual_seed(0))

    def active_counts(self, network: nn.Module, generator: torch.Generator) -> Mapping[str, int]:
        return slot_counts(self.options, network, generator)
