"""Posteriors over one weight tensor: Gaussian or points without variance, dense or sparse.

A sparse posterior stores a sorted index of the flat coordinates that are active and, in vectors of
the same length s, their means and (if Gaussian) scale parameters. Each position of these vectors is
called a slot. Parameters, gradients, optimiser state and checkpoints therefore have size s. The
index *is* the mask gamma of SSVI (Li et al. 2024); inactive weights are exactly zero because they
are not stored.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from methods.kernels import scales
from methods.kernels.library import readable
from methods.layers.scale_maps import SCALE_MAPS

SMALLEST_STD = 1e-12


class Posterior(nn.Module):
    """A posterior over the stored coordinates of a weight tensor; this base class holds their values only.

    Parameters
    ----------
    shape
        Shape of the weight tensor.
    mean
        Initial values of the stored coordinates; copied. All parameters named in ``PARAMETERS``
        have this shape.

    Attributes
    ----------
    fused
        Whether kernels compute variances and KL where they can; ``methods.layers.execution`` decides.
    """

    PARAMETERS: ClassVar[tuple[str, ...]] = ("mean",)
    mean: nn.Parameter

    def __init__(self, shape: torch.Size, mean: torch.Tensor) -> None:
        super().__init__()
        self.shape = torch.Size(shape)
        self.fused = False
        self.mean = nn.Parameter(mean.detach().clone())

    @property
    def active(self) -> int:
        """Number of stored coordinates."""
        return self.mean.numel()

    @property
    def expected(self) -> torch.Tensor:
        """Expectations of the stored coordinates, differentiable."""
        return self.mean

    @property
    def variance(self) -> torch.Tensor | None:
        """Variances of the stored coordinates, differentiable; None if there are none."""
        return None

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Draw the stored coordinates once; detached."""
        return self.mean.detach()

    def at(self, index: torch.Tensor) -> Slots:
        """Return the sparse posterior over the coordinates ``index`` (flat, sorted) of a dense one."""
        raise TypeError(f"{type(self).__name__} is not dense")


class Gaussian(Posterior):
    """Independent q(w_i) = N(mean_i, std_i^2) over the stored coordinates of a weight tensor.

    The parameters are ``mean`` and ``rho``, of one shape; ``std`` is the scale map of ``rho``.

    Parameters
    ----------
    shape
        Shape of the weight tensor.
    mean, std
        Initial means and standard deviations (> 0) of the stored coordinates.
    scale_map
        Map from ``rho`` to ``std``, a key of ``SCALE_MAPS``.
    """

    PARAMETERS: ClassVar[tuple[str, ...]] = ("mean", "rho")
    rho: nn.Parameter

    def __init__(self, shape: torch.Size, mean: torch.Tensor, std: torch.Tensor, scale_map: str) -> None:
        super().__init__(shape, mean)
        self.scale_map = scale_map
        self.rho = nn.Parameter(SCALE_MAPS[scale_map].rho(std.detach()))

    @property
    def std(self) -> torch.Tensor:
        """Standard deviations of the stored coordinates, at least ``SMALLEST_STD``, detached.

        A very negative scale parameter underflows to a standard deviation of 0, whose logarithm is
        infinite; the lower bound prevents this.
        """
        return SCALE_MAPS[self.scale_map].std(self.rho.detach()).clamp_min(SMALLEST_STD)

    @property
    def variance(self) -> torch.Tensor:
        """Squares of ``std``, differentiable in ``rho``."""
        variance: torch.Tensor
        if self._suits_kernels():
            variance = scales.Variance.apply(self.rho, self.scale_map == "softplus")
        else:
            variance = _Variance.apply(self.rho, self)
        return variance

    def kl(self, prior_std: float) -> torch.Tensor:
        """Return KL(q || N(0, prior_std^2)), summed over the stored coordinates, in nats, a scalar.

        sum_i log(prior_std/std_i) + (std_i^2 + mean_i^2) / (2 prior_std^2) - 1/2.
        """
        kl: torch.Tensor
        if self._suits_kernels():
            kl = scales.KL.apply(self.mean, self.rho, self.scale_map == "softplus", prior_std)
        else:
            kl = _KL.apply(self.mean, self.rho, self, prior_std)
        return kl

    def _suits_kernels(self) -> bool:
        return self.fused and self.scale_map in scales.KNOWN and readable(self.mean) and readable(self.rho)

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Draw the stored coordinates once; detached."""
        noise = torch.randn(
            self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
        )
        return torch.addcmul(self.mean.detach(), self.std, noise)


class _Variance(torch.autograd.Function):
    """std^2 as a function of rho.

    It is one function, as ``_KL`` is, because in small layers a chain of element-wise operations would
    cost more than the contractions.
    """

    @staticmethod
    def forward(ctx: Any, rho: torch.Tensor, posterior: Gaussian) -> torch.Tensor:
        std = posterior.std
        ctx.scale_map = SCALE_MAPS[posterior.scale_map]
        ctx.save_for_backward(rho, std)
        return std.square()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        rho, std = ctx.saved_tensors
        return ctx.scale_map.slope(rho, std).mul_(std).mul_(grad).mul_(2), None


class _KL(torch.autograd.Function):
    """The closed form of ``Gaussian.kl`` and its gradients, mean/p^2 and (std/p^2 - 1/std) dstd/drho."""

    @staticmethod
    def forward(
        ctx: Any, mean: torch.Tensor, rho: torch.Tensor, posterior: Gaussian, prior_std: float
    ) -> torch.Tensor:
        std = posterior.std
        ctx.scale_map, ctx.precision = SCALE_MAPS[posterior.scale_map], prior_std**-2
        ctx.save_for_backward(mean, rho, std)
        quadratic = (std.square().sum() + mean.square().sum()) * (0.5 * ctx.precision)
        return quadratic - std.log().sum() + mean.numel() * (math.log(prior_std) - 0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        mean, rho, std = ctx.saved_tensors
        slope = (std * ctx.precision).sub_(std.reciprocal()).mul_(ctx.scale_map.slope(rho, std)).mul_(grad)
        return mean * (grad * ctx.precision), slope, None, None


class DensePoint(Posterior):
    """Stores the values of all coordinates: ``mean`` has the shape of the weight tensor."""

    def at(self, index: torch.Tensor) -> SparsePoint:
        return SparsePoint(self.shape, index, _gather(self.mean, index))


class DenseGaussian(Gaussian):
    """Stores all coordinates: ``mean`` and ``rho`` have the shape of the weight tensor."""

    def at(self, index: torch.Tensor) -> SparseGaussian:
        mean, rho = _gather(self.mean, index), _gather(self.rho, index)
        sparse = SparseGaussian(self.shape, index, mean, torch.ones_like(rho), self.scale_map)
        sparse.rho.data.copy_(rho)
        return sparse


class Slots(Posterior):
    """Stores only the coordinates in ``index`` (flat, sorted, int32, of length s).

    A checkpoint with another number of slots can be loaded: the parameters take its size. Load it
    before creating an optimiser, because the parameters become new objects.
    """

    index: torch.Tensor

    def _store_index(self, index: torch.Tensor) -> None:
        lengths = {getattr(self, name).shape for name in self.PARAMETERS} | {index.shape}
        if len(lengths) > 1 or index.dim() != 1:
            parameters = ", ".join(self.PARAMETERS)
            raise ValueError(f"index, {parameters} must be vectors of one length, got {index.shape}")
        self.register_buffer("index", index.to(torch.int32))

    def set_slots(self, index: torch.Tensor, **values: torch.Tensor) -> None:
        """Replace all slots by another number of slots; every parameter becomes a new object.

        Parameters
        ----------
        index
            Flat coordinates of the new slots, sorted.
        values
            New values (s,) of every parameter, by name.
        """
        self.index = index.to(torch.int32)
        for name in self.PARAMETERS:
            setattr(self, name, nn.Parameter(values[name]))

    def scatter(self, values: torch.Tensor) -> torch.Tensor:
        """Return the dense weight tensor: ``values`` (s,) at the active coordinates and zero elsewhere."""
        dense = values.new_zeros(self.shape)
        dense.view(-1).scatter_(0, self.index.long(), values)
        return dense

    def gather(self, dense: torch.Tensor) -> torch.Tensor:
        """Return the values (s,) at the active coordinates of a dense tensor of the weight's shape."""
        return dense.reshape(-1).index_select(0, self.index)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(prefix + "index")
        if stored is not None and stored.numel() != self.active:
            empty = {name: self.mean.new_empty(stored.numel()) for name in self.PARAMETERS}
            self.set_slots(stored.to(self.index.device), **empty)
        super()._load_from_state_dict(state_dict, prefix, *args)


class SparsePoint(Slots):
    """Stores the values of the active coordinates, without variance."""

    def __init__(self, shape: torch.Size, index: torch.Tensor, mean: torch.Tensor) -> None:
        super().__init__(shape, mean)
        self._store_index(index)


class SparseGaussian(Slots, Gaussian):
    """Stores means and scales of the active coordinates."""

    def __init__(
        self, shape: torch.Size, index: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, scale_map: str
    ) -> None:
        super().__init__(shape, mean, std, scale_map)
        self._store_index(index)


def _gather(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return values.detach().reshape(-1).index_select(0, index)
