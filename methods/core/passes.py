"""What a forward pass through variational layers computes, chosen by context.

The three passes (local reparameterisation, the mean network, one fixed weight sample)
are a property of the call, not of the layers: outside any context a layer computes its
mean, and no flag is left behind when a context ends.

    with passes.local_noise(generator): logits = network(x)     # training
    logits = network(x)                                          # the mean network
    with passes.weights(draw): logits = network(x)               # one posterior sample
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import nn

#: Called during backward, once a layer, with the layer and the gradient of the loss with respect to
#: its dense mean tensor (the layer's weight shape). The tensor may be overwritten by the callee.
GradientConsumer = Callable[[nn.Module, torch.Tensor], None]


class DenseGradients:
    """Hands a layer's dense gradient to ``consumer`` when backward has been through all its uses.

    A layer that the forward pass calls several times has a gradient from each; they are summed.
    """

    def __init__(self, consumer: GradientConsumer) -> None:
        self._consumer = consumer
        self._uses: Counter[nn.Module] = Counter()
        self._sums: dict[nn.Module, torch.Tensor] = {}

    def expect(self, layer: nn.Module) -> None:
        """In the forward pass: one more use of ``layer``."""
        self._uses[layer] += 1

    def deliver(self, layer: nn.Module, gradient: torch.Tensor) -> None:
        """In the backward pass: the gradient of one use, which may be overwritten."""
        if layer in self._sums:
            gradient = self._sums.pop(layer).add_(gradient)
        self._uses[layer] -= 1
        if self._uses[layer]:
            self._sums[layer] = gradient
        else:
            self._consumer(layer, gradient)

    def finish(self) -> None:
        """After the backward pass: hand out what waited for a use that had no part in the loss."""
        while self._sums:
            self._consumer(*self._sums.popitem())


@dataclass(frozen=True)
class Pass:
    """How variational layers behave in the current forward pass.

    noise: local reparameterisation draws from it; None computes the mean.
    weights: fixed weight values (slots of a sparse layer, the full tensor of a dense one) by layer.
    dense_gradients: handed the dense mean-gradient of each sparse layer, layer by layer.
    """

    noise: torch.Generator | None = None
    weights: Mapping[nn.Module, torch.Tensor] | None = None
    dense_gradients: DenseGradients | None = None


MEAN = Pass()
_current: ContextVar[Pass] = ContextVar("forward pass", default=MEAN)


def current() -> Pass:
    """The pass in force here."""
    return _current.get()


@contextmanager
def _altered(**changes: object) -> Iterator[None]:
    token = _current.set(replace(_current.get(), **changes))  # type: ignore[arg-type]
    try:
        yield
    finally:
        _current.reset(token)


class PassModule(nn.Module):
    """A module that asks for the pass in force: what it computes is not decided by its input alone.

    Compilers, which can't see the pass, have to leave it alone.
    """


def modules(module: nn.Module) -> list[PassModule]:
    """What asks for the pass within ``module``, in the order of the module tree."""
    return [part for part in module.modules() if isinstance(part, PassModule)]


def local_noise(generator: torch.Generator) -> AbstractContextManager[None]:
    """Local reparameterisation with noise from ``generator`` (Kingma et al. 2015)."""
    return _altered(noise=generator, weights=None)


def mean() -> AbstractContextManager[None]:
    """The mean network: y = W_mu * x, no noise."""
    return _altered(noise=None, weights=None)


def weights(draw: Mapping[nn.Module, torch.Tensor]) -> AbstractContextManager[None]:
    """One fixed weight sample, shared by every example of every batch."""
    return _altered(noise=None, weights=draw)


@contextmanager
def dense_gradients(consumer: GradientConsumer | None) -> Iterator[DenseGradients | None]:
    """Hand ``consumer`` the dense mean-gradient of each sparse layer as backward reaches it.

    Forward passes within the block, of whatever kind, are affected; their backward may come later,
    and ``finish`` of what the block is given after it.
    """
    gradients = None if consumer is None else DenseGradients(consumer)
    with _altered(dense_gradients=gradients):
        yield gradients
