"""Monte Carlo dropout (Gal & Ghahramani, ICML 2016, arXiv 1506.02142)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.base import Batch, Equivalent, Method, Predictor, Progress, Task
from methods.core import passes
from methods.core.contractions import PlainLayer
from methods.core.errors import UserError
from methods.core.options import option
from methods.core.streams import Streams
from methods.core.style import Style
from methods.layers import convert
from methods.layers.inventory import exchange, kernel_layers


@dataclass(frozen=True)
class MCDropoutOptions:
    """Options of Monte Carlo dropout."""

    rate: float = option(
        0.1, "share of the input units of each weight layer that are dropped", within="[0, 1)"
    )
    input_rate: float = option(
        0.0, "the same for the first weight layer, whose input is the network's", within="[0, 1)"
    )


class Dropout(passes.PassModule):
    """A linear or convolutional layer with dropout of its input: y = contract(x * mask, W) + bias.

    A unit is a feature of a linear layer (dropped at all positions, or tokens, of an example) or a whole
    channel of a convolution. Masks hold 0 with probability ``rate`` and 1 / (1 - rate) elsewhere, so that
    their mean is the layer without dropout. The first dimension of a linear layer's input is the batch.
    """

    def __init__(self, layer: PlainLayer, rate: float) -> None:
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
        """Draw one mask for all examples, for ``passes.weights``: (features) or (channels, 1, …)."""
        if isinstance(self.layer, nn.Linear):
            return self._mask((self.layer.in_features,), generator)
        return self._mask((self.layer.in_channels, *(1 for _ in self.layer.kernel_size)), generator)

    def sample_for_pass(self, generator: torch.Generator, examples: int) -> torch.Tensor:
        """Draw one mask for each example, the same at all time steps (Gal & Ghahramani, NeurIPS 2016)."""
        assert isinstance(self.layer, nn.Linear)
        return self._mask((examples, self.layer.in_features), generator)

    def _each(self, shape: torch.Size) -> tuple[int, ...]:
        """Return the shape of the masks of an input of ``shape``, one mask for each example."""
        if isinstance(self.layer, nn.Linear):
            return (*shape[:-1][:1], *(1 for _ in shape[1:-1]), shape[-1])
        dimensions = len(self.layer.kernel_size)
        return (*shape[:-dimensions], *(1 for _ in range(dimensions)))

    def _mask(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        # masks have the type of the weights: in bfloat16, as inputs may be, 1 / (1 - rate) would be rounded
        weight = self.layer.weight
        mask = torch.empty(shape, dtype=weight.dtype, device=weight.device)
        return mask.bernoulli_(1 - self.rate, generator=generator).div_(1 - self.rate)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the layer, such as ``weight`` or ``in_features``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer" or not hasattr(self.layer, name):
                raise
            return getattr(self.layer, name)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class MCDropout(Method):
    """Dropout before every weight layer, also in prediction: posterior samples are dropout masks.

    Training minimises the cross-entropy, with a mask for each example. With weight decay this is variational
    inference with a Bernoulli posterior over the rows of each kernel (section 3 of the paper). A posterior
    sample is one mask for each layer, shared by all examples, which fixes a set of weights. The mean network
    is the one without dropout (weight scaling), which approximates the average of the samples.

    References
    ----------
    Gal & Ghahramani, ICML 2016, arXiv 1506.02142.
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
        """Check that some layer of ``network`` can have dropout, unless all rates are 0.

        Raises
        ------
        UserError
            If no layer can.
        """
        method = cls(options)
        if cls.equivalent(options) is None and not method._rates(network):
            raise UserError(
                f"rate: {options.rate!r} is for layers after the first, but none of these can have dropout "
                f"in this network; input_rate: {options.input_rate!r} is for the first layer"
            )

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        for name, rate in self._rates(network).items():
            layer = network.get_submodule(name)
            assert isinstance(layer, PlainLayer)
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
        """Return the dropout rates that are not 0, by the names of the layers of ``network``."""
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
