"""Last-layer Laplace approximation (Daxberger et al., NeurIPS 2021, arXiv 2106.14806)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from methods.base import Batch, Budget, Context, Method, Predictor, Progress, Stage, Task
from methods.core.errors import UserError
from methods.core.options import option
from methods.core.streams import Streams
from methods.core.style import Style
from methods.families.collected import Collected

#: Name of the stage that computes the curvature.
CURVATURE = "curvature"
#: Precisions of the prior among which the marginal likelihood chooses.
PRECISIONS = torch.logspace(-4, 4, 161, dtype=torch.float64)


@dataclass(frozen=True)
class LaplaceOptions:
    """Options of the Laplace approximation."""

    structure: str = option(
        "kron",
        "form of the curvature. kron: Kronecker product of the mean curvature of the logits and the mean "
        "second moment of the layer's inputs; diag: its diagonal",
        choices=("kron", "diag"),
    )
    prior_precision: float | None = option(
        10.0,
        "precision of the Gaussian prior of the layer; null: that of the largest marginal likelihood, which "
        "is far too small for a network that fits its training data",
        within="(0, inf)",
    )


class LastLayer(Collected):
    """A network, the curvature of its loss in the last layer, and the posterior that follows from it.

    The weights of the layer are (C, D), with the bias as last column. Curvatures are means over examples.

    Attributes
    ----------
    seen
        Number of examples.
    inputs, logits
        Second moment of the layer's inputs (D, D), and curvature of the logits (C, C), for ``kron``.
    diagonal
        Curvature of each weight (C, D), for ``diag``.
    left, right
        Eigenvectors of ``logits`` and ``inputs``; empty for ``diag``.
    precision
        Precisions of the posterior (C, D), of weights or of coordinates in ``left`` and ``right``.
    """

    seen: torch.Tensor
    inputs: torch.Tensor
    logits: torch.Tensor
    diagonal: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    precision: torch.Tensor

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__(network)
        self._layer = layer
        #: Inputs and logits of the layer for the minibatch of the step, until they are added.
        self.noted: tuple[torch.Tensor, torch.Tensor] | None = None
        self.register_buffer("seen", torch.tensor(0))
        for name in ("inputs", "logits", "diagonal"):  # sums over all examples
            self.register_buffer(name, self.last.weight.new_empty(0, dtype=torch.float64))
        for name in ("left", "right", "precision"):
            self.register_buffer(name, self.last.weight.new_empty(0))

    @property
    def last(self) -> nn.Linear:
        """The last layer."""
        found = self.get_submodule(self._layer)
        assert isinstance(found, nn.Linear)
        return found

    @property
    def bias(self) -> torch.Tensor | None:
        """Bias of the last layer, if it has one."""
        return self.last.bias

    def weights(self) -> torch.Tensor:
        """Return the weights of the layer (C, D), detached."""
        weight, bias = self.last.weight.detach(), self.bias
        return weight if bias is None else torch.cat([weight, bias.detach()[:, None]], 1)

    @torch.no_grad()
    def add(self, inputs: torch.Tensor, logits: torch.Tensor, structure: str) -> None:
        """Add a minibatch to the curvature: inputs of the layer (n, d) and logits (n, C)."""
        if self.bias is not None:
            inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
        inputs, p = inputs.double(), logits.double().softmax(-1)
        if structure == "diag":
            found = {"diagonal": (p - p.square()).T @ inputs.square()}
        else:
            found = {"inputs": inputs.T @ inputs, "logits": p.sum(0).diag() - p.T @ p}
        self.seen += len(p)
        for name, total in found.items():
            mean, share = getattr(self, name), len(p) / int(self.seen)
            before = torch.zeros_like(total) if mean.numel() == 0 else mean.to(total.dtype)
            setattr(self, name, before.lerp(total / len(p), share))

    @torch.no_grad()
    def finish(self, examples: int, prior_precision: float | None) -> None:
        """Compute the posterior from the curvature, which is forgotten.

        Parameters
        ----------
        examples
            Number N of training examples.
        prior_precision
            Precision of the prior; None: that of the largest marginal likelihood.
        """
        if self.diagonal.numel():
            curvature = examples * self.diagonal
        else:
            of_inputs, self.right = torch.linalg.eigh(self.inputs)
            of_logits, self.left = torch.linalg.eigh(self.logits)
            curvature = examples * of_logits.clamp(min=0)[:, None] * of_inputs.clamp(min=0)
        prior = prior_precision
        if prior is None:
            prior = best_precision(curvature, float(self.weights().double().square().sum()))
        self.precision = curvature + prior
        kept = self.last.weight.dtype
        for name in ("left", "right", "precision"):
            setattr(self, name, getattr(self, name).to(kept))
        for name in ("inputs", "logits", "diagonal"):
            setattr(self, name, getattr(self, name).new_empty(0))

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """Draw weights of the layer (C, D)."""
        noise = torch.empty_like(self.precision).normal_(generator=generator) / self.precision.sqrt()
        return self.weights() + (self.left @ noise @ self.right.T if self.left.numel() else noise)

    def with_last(self, weights: torch.Tensor) -> Predictor:
        """Return the network with other weights of the last layer, as a function from inputs to logits."""
        if self.bias is None:
            return self.with_tensors({f"{self._layer}.weight": weights})
        weight, bias = weights[:, :-1].contiguous(), weights[:, -1].contiguous()
        return self.with_tensors({f"{self._layer}.weight": weight, f"{self._layer}.bias": bias})


def best_precision(curvature: torch.Tensor, square: float) -> float:
    """Return the precision of the prior, of ``PRECISIONS``, with the largest marginal likelihood.

    log p(D | d) = n/2 log d - d/2 |w|^2 - 1/2 sum_i log(h_i + d), up to a constant.

    Parameters
    ----------
    curvature
        Eigenvalues h of the curvature, of n weights.
    square
        Squared norm |w|^2 of the weights.
    """
    h, d = curvature.double().cpu().reshape(-1), PRECISIONS
    evidence = 0.5 * (len(h) * d.log() - d * square - (h[None] + d[:, None]).log().sum(1))
    return float(d[evidence.argmax()])


class Laplace(Method):
    """Laplace approximation of the last layer: a Gaussian around the trained weights.

    The plain network is trained. One more epoch, in which no weight changes, computes the curvature of the
    cross-entropy in the last layer over the training data, in evaluation mode. It is the generalised
    Gauss-Newton matrix, which for this layer is the Hessian. Class weights and label smoothing do not enter
    it. Posterior samples are weights of the layer, in which logits are linear.

    References
    ----------
    Daxberger et al., NeurIPS 2021, arXiv 2106.14806; Kristiadi, Hein & Hennig, ICML 2020, arXiv 2002.10118.
    """

    name = "laplace"
    style = Style(
        "Laplace", hue="#B8860B", hue_dark="#FFD24D", marker="diamond-tall", dash="longdash", order=76
    )
    Options = LaplaceOptions

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``network`` has a linear layer whose curvature is not much larger than the network.

        Raises
        ------
        UserError
            If not.
        """
        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise UserError("laplace: the network has no linear layer")
        inputs, size = linear[-1].in_features + 1, sum(p.numel() for p in network.parameters())
        if options.structure == "kron" and inputs**2 > 2 * size:
            raise UserError(
                f"structure: kron would keep {inputs} x {inputs} numbers for the last layer, more than two "
                f"for each of the {size} weights of the network; valid here: diag"
            )

    def build(self, network: nn.Module, streams: Streams, task: Task) -> LastLayer:
        """Return the network with the curvature of its last layer.

        Raises
        ------
        UserError
            If its outputs are not those of a linear layer.
        """
        name = _last(network, task)
        return LastLayer(network, f"network.{name}".rstrip("."))

    def stages(self, budget: Budget) -> list[Stage]:
        return [Stage("train", budget.epochs), Stage(CURVATURE, 1, start="keep")]

    def before_step(self, context: Context) -> None:
        context.skip_step = context.progress.stage == CURVATURE

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        if progress.stage != CURVATURE:
            return super().loss(module, batch, progress)
        last_layer = _last_layer(module)

        def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            last_layer.noted = inputs[0], output.detach()

        # backward ends at the layer; normalisation and dropout are as in prediction
        before = last_layer.last.register_forward_pre_hook(lambda _, inputs: (inputs[0].detach(),))
        after = last_layer.last.register_forward_hook(note)
        try:
            with torch.compiler.set_stance("force_eager"):  # compiled code would not call the hooks
                return super().loss(module.eval(), batch, progress)
        finally:
            module.train()
            before.remove()
            after.remove()

    def after_step(self, context: Context) -> None:
        last_layer = _last_layer(context.module)
        if last_layer.noted is not None:
            last_layer.add(*last_layer.noted, self.options.structure)
            last_layer.noted = None

    def leave_stage(self, context: Context, stage: Stage) -> None:
        last_layer = _last_layer(context.module)
        if stage.name == CURVATURE and not last_layer.precision.numel():
            last_layer.finish(context.progress.examples, self.options.prior_precision)

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        last_layer = _last_layer(module)
        if not last_layer.precision.numel():
            yield module
            return
        for _ in range(samples):
            yield last_layer.with_last(last_layer.sample(generator))


def _last_layer(module: nn.Module) -> LastLayer:
    assert isinstance(module, LastLayer)
    return module


@torch.no_grad()
def _last(network: nn.Module, task: Task) -> str:
    """Return the name of the linear layer whose output is that of ``network``, or raise ``UserError``."""
    outputs: list[tuple[str, torch.Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output)))
        for name, layer in network.named_modules()
        if type(layer) is nn.Linear
    ]
    training, like = network.training, next(network.parameters())
    try:
        example = torch.zeros((2, *task.input_shape), dtype=like.dtype, device=like.device)
        result = network.eval()(example)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    name = next((name for name, output in reversed(outputs) if output is result), None)
    if name is None:
        raise UserError("laplace: the network's outputs are not those of a linear layer")
    return name
