"""Linear and convolutional layers with a posterior over their kernel.

``methods.core.passes`` decides which of the three forward passes is computed: local
reparameterisation, the mean, or fixed weights. Biases are deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from methods.core import passes
from methods.core.contractions import Contraction, Linear, Padding, PlainLayer, contraction_of
from methods.kernels.blocks import Blocks, plain_of
from methods.kernels.contraction import Kernel, sparse_map
from methods.layers.posterior import Gaussian, Posterior, Slots


class VariationalLayer(passes.PassModule):
    """Computes y = contract(x, W) + bias with W ~ posterior.

    Parameters
    ----------
    contraction
        The bilinear map and its geometry.
    posterior
        Posterior over the kernel.
    bias
        Bias of one entry for each output channel; a parameter stays the same object. None for no bias.
    variance_floor
        Added to the variance of a pre-activation under local reparameterisation. 0 makes v = 0
        mean y = m exactly; the released SSVI code has 1e-8.
    pad
        Pads the inputs, where the contraction cannot do it.

    Attributes
    ----------
    output_positions
        How often each weight is used for one example; needed to count FLOPs.
    sparsifiable
        Whether weights of the layer may be removed.
    in_time
        Whether a recurrent network calls the layer, once in every time step.
    one_sample
        Whether a noisy pass draws the weights once (``sample_for_pass``), and not the pre-activations: if
        ``in_time``, and under the option ``same_noise``.
    why_dense
        Why the posterior covers every weight, if it does (for ``methods.layers.parameter_report``).
    kernel
        Sparse kernel that computes the map; None if torch does. ``execution`` chooses it.
    runs
        How the map is computed, in words, as ``execution`` decided.
    keeps_layout
        Whether the output of a kernel is passed on in the layout of the kernels (``Blocks``).
    """

    posterior: Posterior

    def __init__(
        self,
        contraction: Contraction,
        posterior: Posterior,
        bias: torch.Tensor | None,
        variance_floor: float = 0.0,
        pad: Padding | None = None,
    ) -> None:
        super().__init__()
        self.contraction, self.pad = contraction, pad
        self.posterior = posterior
        # the same parameter keeps its hooks, its gradient flag and whatever else was set on it
        self.bias = bias if bias is None or isinstance(bias, nn.Parameter) else nn.Parameter(bias)
        self.variance_floor = variance_floor
        self.output_positions = 1
        self.sparsifiable = True
        self.in_time = False
        self.one_sample = False
        self.why_dense = ""
        self.kernel: Kernel | None = None
        self.runs = "dense"
        self.keeps_layout = False

    def forward(self, x: torch.Tensor | Blocks) -> torch.Tensor | Blocks:
        if self.pad is not None:
            x = self.pad(plain_of(x))
        if self.kernel is not None and self._suits_kernel(x):
            return self._by_kernel(x)
        if isinstance(x, Blocks):
            out = self._by_torch(x.plain())
            return Blocks.of(out) if out.dtype == torch.float32 else out
        return self._by_torch(x)

    def _suits_kernel(self, x: torch.Tensor | Blocks) -> bool:
        """Return whether a kernel can take this input: float32 on a CPU, in batches, and not empty."""
        usual = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        usual = usual and self.posterior.mean.dtype == torch.float32
        some = self.posterior.active > 0 and x.shape.numel() > 0
        return (
            usual and some and (isinstance(self.contraction, Linear) or x.dim() == len(self.posterior.shape))
        )

    def _by_kernel(self, x: torch.Tensor | Blocks) -> torch.Tensor | Blocks:
        now = passes.current()
        values = self.posterior.expected if now.weights is None else now.weights[self]
        variance = None if now.noise is None else self.posterior.variance
        self._expect_gradient(now)
        if isinstance(self.contraction, Linear) and x.dim() != 2:
            plain = x.plain() if isinstance(x, Blocks) else x
            rows = sparse_map(Blocks.of(plain.reshape(-1, plain.shape[-1])), values, variance, self, now)
            return rows.plain().view(*plain.shape[:-1], self.posterior.shape[0])
        if x.dim() == 3:  # sequences are images of height 1
            images = Blocks.of(plain_of(x).unsqueeze(2))
            return sparse_map(images, values, variance, self, now).plain().squeeze(2)
        out = sparse_map(Blocks.of(x), values, variance, self, now)
        return out if self.keeps_layout else out.plain()

    def _by_torch(self, x: torch.Tensor) -> torch.Tensor:
        now = passes.current()
        posterior = self.posterior
        values = posterior.expected if now.weights is None else now.weights[self]
        variance = None if now.noise is None else posterior.variance
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self._map(x, values, variance, self.bias, now)
        # autocast handles neither our autograd function nor x^2, so we cast here, where it is differentiable
        lower = torch.get_autocast_dtype(device)
        x, values = x.to(lower), values.to(lower)
        variance, bias = (None if t is None else t.to(lower) for t in (variance, self.bias))
        with torch.autocast(device, enabled=False):
            return self._map(x, values, variance, bias, now)

    def _map(
        self,
        x: torch.Tensor,
        values: torch.Tensor,
        variance: torch.Tensor | None,
        bias: torch.Tensor | None,
        now: passes.Pass,
    ) -> torch.Tensor:
        self._expect_gradient(now)
        if isinstance(self.posterior, Slots):
            result: torch.Tensor = _SparseMap.apply(x, values, variance, bias, self, now)
            return result
        mean = self.contraction.forward(x, values, bias)
        if variance is None or now.noise is None:
            return mean
        moment = self.contraction.forward(x.square(), variance, None)
        return mean + _Noise.apply(moment, _standard_normal(mean, now.noise), self.variance_floor)

    def _expect_gradient(self, now: passes.Pass) -> None:
        if isinstance(self.posterior, Slots):
            now.expect_gradient(self)

    @property
    def weight(self) -> torch.Tensor:
        """Dense weight of the pass in force: the mean, or the fixed sample; differentiable, but only to read.

        It is a copy, so that a change of it in place has no effect.
        """
        now, posterior = passes.current(), self.posterior
        values = posterior.expected if now.weights is None else now.weights[self]
        return posterior.scatter(values) if isinstance(posterior, Slots) else values.clone()

    def make_sparse(self, index: torch.Tensor) -> None:
        """Keep only the coordinates ``index`` (flat, sorted) of a dense posterior."""
        fused, self.posterior = self.posterior.fused, self.posterior.at(index.long())
        self.posterior.fused = fused

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # a layer that was pruned before it was stored is dense when newly built: make it sparse first
        stored = state_dict.get(f"{prefix}posterior.index")
        if stored is not None and not isinstance(self.posterior, Slots):
            self.make_sparse(stored.to(self.posterior.mean.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def sample_weights(self, generator: torch.Generator) -> torch.Tensor:
        """Draw the stored weights once, for ``passes.weights``."""
        return self.posterior.sample(generator)

    def sample_for_pass(self, generator: torch.Generator, examples: int) -> torch.Tensor:
        """Draw the stored weights once for all examples of a pass, differentiable."""
        expected, variance = self.posterior.expected, self.posterior.variance
        if variance is None:
            return expected
        noise = _standard_normal(expected, generator)
        return expected + _Noise.apply(variance, noise, 0.0)

    @property
    def is_random(self) -> bool:
        """Whether the weights have a variance."""
        return isinstance(self.posterior, Gaussian)

    @property
    def contractions(self) -> int:
        """Contractions in a training forward pass: 2 if means and variances are, 1 if means or a sample."""
        return 2 if self.is_random and not self.one_sample else 1

    def extra_repr(self) -> str:
        density = self.posterior.active / self.posterior.shape.numel()
        return f"{tuple(self.posterior.shape)}, density={density:.4g}, {self.contraction}"


class _SparseMap(torch.autograd.Function):
    """Contraction over slots, with or without noise; saves only slots and activations for the backward pass.

    The dense weight is scattered when it is needed and freed at once, so that between forward and
    backward nothing of its size exists. ``methods.kernels.contraction`` does the same with kernels.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        values: torch.Tensor,
        variance: torch.Tensor | None,
        bias: torch.Tensor | None,
        layer: VariationalLayer,
        now: passes.Pass,
    ) -> torch.Tensor:
        posterior, contraction = layer.posterior, layer.contraction
        assert isinstance(posterior, Slots)
        out = contraction.forward(x, posterior.scatter(values), bias)
        slope = None
        if variance is not None and now.noise is not None:
            moment = contraction.forward(x.square(), posterior.scatter(variance), None)
            noise = _standard_normal(out, now.noise)
            shift, slope = _noise_and_slope(moment, noise, layer.variance_floor)
            out = out + shift
        ctx.layer, ctx.consumer, ctx.has_bias = layer, now.dense_gradients, bias is not None
        ctx.save_for_backward(x, values, variance, slope)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, values, variance, slope = ctx.saved_tensors
        layer: VariationalLayer = ctx.layer
        posterior, contraction = layer.posterior, layer.contraction
        assert isinstance(posterior, Slots)
        need_input = ctx.needs_input_grad[0]

        grad_x, dense = contraction.backward(grad, x, posterior.scatter(values), need_input)
        grad_values = posterior.gather(dense)
        if ctx.consumer is not None:
            # gradients are compared and summed in the precision of the parameters
            ctx.consumer.deliver(layer, dense.to(posterior.mean.dtype))
        del dense
        grad_variance = None
        if slope is not None:
            grad_moment = grad * slope
            grad_square, dense = contraction.backward(
                grad_moment, x.square(), posterior.scatter(variance), need_input
            )
            grad_variance = posterior.gather(dense)
            if grad_x is not None and grad_square is not None:
                grad_x = grad_x.addcmul(x, grad_square, value=2)
        grad_bias = contraction.bias_gradient(grad) if ctx.has_bias else None
        return grad_x, grad_values, grad_variance, grad_bias, None, None


class _Noise(torch.autograd.Function):
    """sqrt(v + floor) * noise. Where v + floor = 0 its derivative is infinite; 0 is used instead."""

    @staticmethod
    def forward(ctx: Any, moment: torch.Tensor, noise: torch.Tensor, floor: float) -> torch.Tensor:
        shift, slope = _noise_and_slope(moment, noise, floor)
        ctx.save_for_backward(slope)
        return shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None, None


def _noise_and_slope(
    moment: torch.Tensor, noise: torch.Tensor, floor: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the noise term sqrt(v + floor) * noise and its derivative in v."""
    # convolutions by FFT or Winograd may round a sum of squares to slightly below zero
    root = (moment + floor).clamp_(min=0).sqrt_()
    return root * noise, torch.where(root > 0, noise / (2 * root), 0)


def _standard_normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def variational_twin(layer: PlainLayer, posterior: Posterior, variance_floor: float) -> VariationalLayer:
    """Create the variational layer with the geometry and bias of a plain one."""
    contraction, pad = contraction_of(layer)
    return VariationalLayer(contraction, posterior, layer.bias, variance_floor, pad)


# -- finding layers and parameters of a module ------------------------------------------------

#: Name, layer and posterior of a layer that stores only its active weights (slots).
SparseLayer = tuple[str, VariationalLayer, Slots]


def variational_layers(module: nn.Module) -> list[VariationalLayer]:
    """Return all variational layers, in the order of the module tree."""
    return [m for m in module.modules() if isinstance(m, VariationalLayer)]


def sparse_layers(module: nn.Module) -> Iterator[SparseLayer]:
    """Yield name, layer and posterior of every layer that stores slots, in the order of the module tree."""
    for name, layer in module.named_modules():
        if isinstance(layer, VariationalLayer) and isinstance(layer.posterior, Slots):
            yield name, layer, layer.posterior


def gaussians(module: nn.Module) -> list[Gaussian]:
    """Return the posteriors of all variational layers that have a variance."""
    found = (layer.posterior for layer in variational_layers(module))
    return [posterior for posterior in found if isinstance(posterior, Gaussian)]


def scale_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return all parameters of posteriors except the means: scales rho, and inclusion logits."""
    posteriors = [layer.posterior for layer in variational_layers(module)]
    return [getattr(p, name) for p in posteriors for name in p.PARAMETERS if name != "mean"]


def mean_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the means of all posteriors."""
    return [layer.posterior.mean for layer in variational_layers(module)]


def is_statistic(buffer: str) -> bool:
    """Return whether a buffer of this name is a running statistic of batch normalisation."""
    return buffer.rsplit(".", 1)[-1] in {"running_mean", "running_var", "num_batches_tracked"}


__all__ = [
    "Posterior",
    "Slots",
    "SparseLayer",
    "VariationalLayer",
    "gaussians",
    "is_statistic",
    "mean_parameters",
    "scale_parameters",
    "sparse_layers",
    "variational_layers",
    "variational_twin",
]
