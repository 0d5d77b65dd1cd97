"""Monte Carlo dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.base import Batch, Equivalent, Method, Predictor, Progress, Style, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.options import option
from methods.core.streams import Streams
from methods.layers import convert
from methods.layers.inventory import exchange, kernel_layers


@dataclass(frozen=True)
class MCDropoutOptions:
    """Options of Monte Carlo dropout."""

    rate: float = option(
        0.1, "share of the units that enter a weight layer which are dropped", within="[0, 1)"
    )
    input_rate: float = option(
        0.0, "the same for the first weight layer, which reads the network's input", within="[0, 1)"
    )


class Dropout(passes.PassModule):
    """A linear or convolutional layer behind dropout of what enters it: y = contract(x * mask, W) + bias.

    A unit is a feature of a linear layer, in all positions of an example (tokens), and a whole channel
    of a convolution. Masks hold 0 with probability ``rate`` and 1 / (1 - rate) elsewhere, so that their
    mean is the layer without dropout. The first dimension of a linear layer's input is the batch.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rate: float) -> None:
        super().__init__()
        self.layer, self.rate = layer, rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        now = passes.current()
        if now.weights is not None:
            x = x * now.weights[self]
        elif now.noise is not None:
            x = x * self._mask(self._each(x.shape), now.noise)
        out: torch.Tensor = self.layer(x)
        return out

    def sample_mask(self, generator: torch.Generator) -> torch.Tensor:
        """One mask for all examples, for ``passes.weights``: (features) or (channels, 1, 1)."""
        if isinstance(self.layer, nn.Conv2d):
            return self._mask((self.layer.in_channels, 1, 1), generator)
        return self._mask((self.layer.in_features,), generator)

    def _each(self, shape: torch.Size) -> tuple[int, ...]:
        """The shape of a mask for each example of an input of ``shape``."""
        if isinstance(self.layer, nn.Conv2d):
            return (*shape[:-2], 1, 1)
        return (*shape[:-1][:1], *(1 for _ in shape[1:-1]), shape[-1])

    def _mask(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        # in the type of the weights: in that of bfloat16 inputs 1 / (1 - rate) would be rounded
        weight = self.layer.weight
        mask = torch.empty(shape, dtype=weight.dtype, device=weight.device)
        return mask.bernoulli_(1 - self.rate, generator=generator).div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class MCDropout(Method):
    """Dropout before every weight layer, kept on for prediction: samples are dropout masks.

    Training is on the cross-entropy with a mask for each example; with weight decay it is variational
    inference with a Bernoulli posterior over the rows of each kernel (their section 3). A posterior
    sample is one mask a layer, shared by all examples, which fixes a set of weights. The mean network
    is the one without dropout (weight scaling), an approximation of the samples' average.
    """

    name = "mc_dropout"
    style = Style("MC dropout", hue="#9300FD", hue_dark="#775B95", marker="pentagon", dash="dash", order=70)
    Options = MCDropoutOptions

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        if options.rate or options.input_rate:
            return None
        return Equivalent("deterministic", {}, "dropout at rate 0 is none")

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Raise ``UserError`` where no layer of ``network`` would have dropout, though a rate is not 0."""
        method = cls(options)
        if cls.equivalent(options) is None and not method._rates(network):
            raise UserError(
                f"rate: {options.rate!r} is for layers behind the first, and this network has none that can "
                f"have dropout; input_rate: {options.input_rate!r} is for the first"
            )

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        for name, rate in self._rates(network).items():
            layer = network.get_submodule(name)
            assert isinstance(layer, (nn.Linear, nn.Conv2d))
            network = exchange(network, name, Dropout(layer, rate))
        return network

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        with passes.local_noise(progress.noise):
            return super().loss(module, batch, progress)

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        layers = [part for part in module.modules() if isinstance(part, Dropout)]
        if not layers:
            yield module
            return
        for _ in range(samples):
            yield _with_masks(module, {layer: layer.sample_mask(generator) for layer in layers})

    def _rates(self, network: nn.Module) -> dict[str, float]:
        """Dropout rates that are not 0, by the names of the layers of ``network``."""
        first = next((name for name, _ in kernel_layers(network)), None)
        rates = {
            name: self.options.input_rate if name == first else self.options.rate
            for name in convert.convertible(network)
        }
        return {name: rate for name, rate in rates.items() if rate}


def _with_masks(module: nn.Module, masks: Mapping[nn.Module, torch.Tensor]) -> Predictor:
    def predict(inputs: torch.Tensor) -> torch.Tensor:
        with passes.weights(masks):
            return module(inputs)

    return predict
