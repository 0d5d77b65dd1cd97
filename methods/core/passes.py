"""Choose what a forward pass through variational layers computes, by a context manager.

There are three passes: local reparameterisation, the mean network, and one fixed weight sample.
The choice belongs to the call, not to the layers. Outside any context a layer computes its mean,
and no flag is left behind when a context ends.

    with passes.local_noise(generator): logits = network(x)     # training
    logits = network(x)                                          # the mean network
    with passes.weights(draw): logits = network(x)               # one posterior sample

The recomputation of a checkpointed segment (``torch.utils.checkpoint``) repeats the pass of the segment, with
the same noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import nn

from methods.core import recomputation
from methods.core.errors import UserError

#: Called during the backward pass, once for each layer, with the layer and the gradient of the loss with
#: respect to its dense mean tensor (of the weight's shape). The callee may overwrite the tensor.
GradientConsumer = Callable[[nn.Module, torch.Tensor], None]


class DenseGradients:
    """Collects the dense gradient of each layer and hands it to ``consumer`` once it is complete.

    If the forward pass calls a layer several times, its gradient is the sum over all calls.
    """

    def __init__(self, consumer: GradientConsumer) -> None:
        self._consumer = consumer
        self._uses: Counter[nn.Module] = Counter()
        self._sums: dict[nn.Module, torch.Tensor] = {}

    def expect(self, layer: nn.Module) -> None:
        """Note one more call of ``layer`` in the forward pass."""
        self._uses[layer] += 1

    def deliver(self, layer: nn.Module, gradient: torch.Tensor) -> None:
        """Add the gradient of one call in the backward pass; the tensor may be overwritten."""
        if layer in self._sums:
            gradient = self._sums.pop(layer).add_(gradient)
        self._uses[layer] -= 1
        if self._uses[layer]:
            self._sums[layer] = gradient
        else:
            self._consumer(layer, gradient)

    def finish(self) -> None:
        """Hand out the remaining gradients after the backward pass.

        They remain where some call of a layer did not contribute to the loss.
        """
        while self._sums:
            self._consumer(*self._sums.popitem())


@dataclass(frozen=True)
class Pass:
    """How variational layers behave in the current forward pass.

    Parameters
    ----------
    noise
        Generator for the noise of local reparameterisation; None computes the mean.
    weights
        Fixed weight values by layer: the slots of a sparse layer, the full tensor of a dense one.
    dense_gradients
        Receives the dense mean-gradient of each sparse layer.
    announced
        Whether calls announce their gradients to ``dense_gradients``; None: those that autograd records.
    """

    noise: torch.Generator | None = None
    weights: Mapping[nn.Module, torch.Tensor] | None = None
    dense_gradients: DenseGradients | None = None
    announced: bool | None = None

    def expect_gradient(self, layer: nn.Module) -> None:
        """Note that ``layer`` is called and will deliver a gradient, unless that was announced before."""
        announced = torch.is_grad_enabled() if self.announced is None else self.announced
        if self.dense_gradients is not None and announced:
            self.dense_gradients.expect(layer)


MEAN = Pass()
_current: ContextVar[Pass] = ContextVar("forward pass", default=MEAN)


def current() -> Pass:
    """Return the pass that is in force.

    Raises
    ------
    UserError
        If the caller is in the ``forward`` of an autograd function of the network's own. What such a function
        computes again in its ``backward`` would be another pass.
    """
    now = _current.get()
    if now.noise is None and now.dense_gradients is None:
        return now
    # only autograd functions switch off the gradients of both directions and still keep version counters
    own = not torch._C._is_fwd_grad_enabled() and not torch.is_inference_mode_enabled()
    if own and now.announced is None:
        raise UserError(
            "the network calls a layer in the forward of an autograd function of its own, and backward could "
            "not repeat the layer's noise; to recompute activations, use torch.utils.checkpoint.checkpoint"
        )
    return now


@contextmanager
def _in_force(chosen: Pass) -> Iterator[None]:
    token = _current.set(chosen)
    try:
        with recomputation.segments(_begin_segment):
            yield
    finally:
        _current.reset(token)


def _begin_segment() -> Callable[[bool], AbstractContextManager[None]]:
    """Remember the pass that is in force, for the segment that begins here."""
    now = _current.get()
    noise = None if now.noise is None else now.noise.clone_state()

    def repeated(again: bool) -> AbstractContextManager[None]:
        if not again:  # the gradients that are not recorded now will be when the segment is computed again
            return _in_force(replace(now, announced=True if now.announced is None else now.announced))
        return _in_force(replace(now, noise=None if noise is None else noise.clone_state(), announced=False))

    return repeated


@contextmanager
def _altered(**changes: object) -> Iterator[None]:
    with _in_force(replace(_current.get(), **changes)):  # type: ignore[arg-type]
        yield


class PassModule(nn.Module):
    """Base of modules whose output depends on the current pass, not on their input alone.

    Compilers must leave such modules alone, because they cannot see the current pass.
    """

    def sample_for_pass(self, generator: torch.Generator, examples: int) -> torch.Tensor:
        """Draw what ``weights`` holds for this module, once for a noisy pass and all of its time steps.

        Parameters
        ----------
        generator
            Source of the noise.
        examples
            Number N of examples; what is drawn for each of them has N as its first dimension.
        """
        raise NotImplementedError


def modules(module: nn.Module) -> list[PassModule]:
    """Return all ``PassModule`` parts of ``module``, in the order of the module tree."""
    return [part for part in module.modules() if isinstance(part, PassModule)]


def local_noise(generator: torch.Generator) -> AbstractContextManager[None]:
    """Use local reparameterisation with noise from ``generator`` (Kingma et al. 2015)."""
    return _altered(noise=generator, weights=None)


def mean() -> AbstractContextManager[None]:
    """Compute the mean network: y = W_mu * x, without noise."""
    return _altered(noise=None, weights=None)


def weights(draw: Mapping[nn.Module, torch.Tensor]) -> AbstractContextManager[None]:
    """Use one fixed weight sample for every example of every batch.

    Parameters
    ----------
    draw
        Weight values by layer: the slots of a sparse layer, the full tensor of a dense one.
    """
    return _altered(noise=None, weights=draw)


@contextmanager
def dense_gradients(consumer: GradientConsumer | None) -> Iterator[DenseGradients | None]:
    """Hand ``consumer`` the dense mean-gradient of each sparse layer as the backward pass reaches it.

    All forward passes within the block are affected. Their backward pass may come after the block; when it
    is done, call ``finish`` of the yielded object. If ``consumer`` is None, nothing is collected.
    """
    gradients = None if consumer is None else DenseGradients(consumer)
    with _altered(dense_gradients=gradients):
        yield gradients
