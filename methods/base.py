"""Define the contract between a method and the benchmark, and the registry of methods.

A method never writes a training loop. It says what to build, in which stages to train and what
the loss is, and its hooks are called at a few points; ``bench.training.trainer`` does the rest.
A new method is one file in this folder, or a package with an entry point in the group
``ssvi_bench.methods``, that defines one subclass of ``Method``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from methods.core import passes
from methods.core.data_loss import data_loss
from methods.core.registry import Registry
from methods.core.streams import OF_PACKAGES, Streams
from methods.core.style import Style
from methods.layers import costs
from methods.layers import layer as layers

Batch = tuple[torch.Tensor, torch.Tensor]
Predictor = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Task:
    """Facts about the data that a method may use.

    Parameters
    ----------
    input_shape
        Shape of one example, without the batch dimension.
    classes
        Number of classes.
    examples
        Number N of training examples.
    """

    input_shape: tuple[int, ...]
    classes: int
    examples: int


@dataclass(frozen=True)
class Budget:
    """Length of training, from which a method makes its stages.

    Parameters
    ----------
    epochs
        Number of passes over the training examples.
    steps_per_epoch
        Optimiser steps in an epoch.
    last_batch
        Size of an epoch's last minibatch, as a share of a full one: in (0, 1], or one example above 1.
    batch_size
        Examples in a full minibatch.
    """

    epochs: int
    steps_per_epoch: int
    last_batch: float = 1.0
    batch_size: int = 1

    def in_epochs(self, steps: range) -> float:
        """Return how many passes over the data the minibatches ``steps`` of a stage make (its first is 1).

        The result is exact: it counts how many of ``steps`` are the smaller last minibatch of an epoch.
        """
        every = self.steps_per_epoch // math.gcd(self.steps_per_epoch, steps.step)
        first = (i for i in range(min(every, len(steps))) if steps[i] % self.steps_per_epoch == 0)
        last = next((len(steps[i::every]) for i in first), 0)
        whole = len(steps) - last
        return (whole + last * self.last_batch) / (self.steps_per_epoch - 1 + self.last_batch)


@dataclass(frozen=True)
class Stage:
    """Part of training that has an optimiser and a learning-rate schedule of its own.

    Parameters
    ----------
    name
        Name of the stage, unique within the method.
    epochs
        Length of the stage.
    start
        Weights at its beginning. ``fresh``: newly built; ``keep``: as the previous stage left them;
        ``rewind``: as they were after ``rewind_to`` epochs of the first stage.
    rewind_to
        Epoch of the first stage that ``rewind`` returns to; 0 means the initial weights.
    """

    name: str
    epochs: int
    start: Literal["fresh", "keep", "rewind"] = "fresh"
    rewind_to: int = 0


@dataclass
class Progress:
    """Position of training within a stage.

    Parameters
    ----------
    stage
        Name of the stage.
    epoch, epochs
        Current epoch, from 1, and number of epochs in the stage.
    step, steps
        Current minibatch, from 1, and number of minibatches in the stage. Minibatches whose
        optimiser step was skipped count too.
    examples
        Number N of training examples.
    noise
        Generator for training noise.
    """

    stage: str
    epoch: int
    epochs: int
    step: int
    steps: int
    examples: int
    noise: torch.Generator


@dataclass
class Context:
    """State of the run that hooks can read and change.

    Parameters
    ----------
    module, optimiser, streams, progress
        Live objects of the run.
    task
        Facts about the data.
    memory
        State of the method itself: tensors and plain numbers. Checkpoints store it.
    record
        ``record(table, row)`` appends a row to the run's table ``layers`` or ``criteria_pairs``.
    arithmetic
        Makes the context manager of the precision in which losses are computed.
    watch
        Whether to record what the method does; false where steps are timed.
    measure
        Whether recording may take passes of its own; false where those of a step are counted.
    network
        Builds the network that ``Method.build`` received anew, on the CPU, with the same initial weights.
    batch
        Inputs and labels of the current minibatch.
    scratch
        Values that ``before_step`` leaves for ``after_step``; emptied at each step.
    skip_step
        Set it in ``before_step`` to leave out the optimiser step.
    pruned
        Set it when the number of weights in a layer has changed.
    gradient_consumer
        Receives the dense gradients of this step; set by ``request_dense_gradients``.
    events
        Events that add FLOPs to this step (see ``Method.flops``).
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    streams: Streams
    task: Task
    progress: Progress
    memory: dict[str, Any]
    record: Callable[[str, dict[str, Any]], None]
    arithmetic: Callable[[], AbstractContextManager[Any]] = nullcontext
    watch: bool = True
    measure: bool = True
    network: Callable[[], nn.Module] = nn.Module
    batch: Batch = (torch.empty(0), torch.empty(0))
    scratch: dict[str, Any] = field(default_factory=dict)
    skip_step: bool = False
    pruned: bool = False
    gradient_consumer: passes.GradientConsumer | None = None
    events: list[str] = field(default_factory=list)

    def begin_step(self, batch: Batch, step: int) -> None:
        """Clear the state of the last step and set the minibatch of this one; called by the training loop."""
        self.batch, self.progress.step = batch, step
        self.scratch, self.skip_step, self.pruned = {}, False, False
        self.gradient_consumer, self.events = None, []

    def request_dense_gradients(self, consumer: passes.GradientConsumer) -> None:
        """Hand ``consumer`` the dense mean-gradient of each sparse layer in this step.

        Call it in ``before_step``. It adds the event ``dense_gradient`` to the step.
        """
        self.gradient_consumer = consumer
        self.events.append("dense_gradient")

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Restore batch-norm statistics and the state of the noise after what runs inside."""
        buffers = {name: b.clone() for name, b in self.module.named_buffers() if layers.is_statistic(name)}
        streams = self.streams.state_dict(("noise", "global", *OF_PACKAGES))
        yield
        live = dict(self.module.named_buffers())
        for name, value in buffers.items():
            live[name].copy_(value)
        self.streams.load_state_dict(streams)

    def extra_pass(
        self, loss: Callable[[], torch.Tensor], consumer: passes.GradientConsumer, event: str
    ) -> None:
        """Run one more forward and backward pass, only for its dense gradients.

        Parameter gradients, batch-norm statistics and the state of the training noise are left unchanged.

        Parameters
        ----------
        loss
            Computes the loss, a scalar, with the module of this context.
        consumer
            Receives each sparse layer and its dense mean-gradient.
        event
            ``"noisy_pass"`` or ``"mean_pass"``: how the pass is counted in the training FLOPs.
        """
        parameters = list(self.module.parameters())
        own = [parameter.grad for parameter in parameters]
        self.module.zero_grad(set_to_none=True)
        with self.undisturbed(), torch.enable_grad(), passes.dense_gradients(consumer) as gradients:
            with self.arithmetic():
                value = loss()
            value.backward()  # torch.autograd.grad does not reach into every checkpointed segment
            assert gradients is not None
            gradients.finish()
        for parameter, gradient in zip(parameters, own, strict=True):
            parameter.grad = gradient
        self.events.append(event)


@dataclass(frozen=True)
class Equivalent:
    """Another configuration that gives the same result and is run instead.

    Parameters
    ----------
    method, options
        Name and options of that method.
    reason
        Why both are the same, in one line.
    """

    method: str
    options: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class NoOptions:
    """Options of a method that has none."""


class Method:
    """A way to train and predict: subclass it, set ``name`` and ``style``, and override the hooks you need.

    A method object holds its options and nothing else. State belongs in the module, the optimiser or
    ``context.memory``, because checkpoints store these.

    Attributes
    ----------
    name
        Name of the method in settings; lower-case letters, digits and ``_``.
    version
        Part of the run id. Raise it when a change of the code alters results.
    style
        How figures and tables show the method.
    Options
        Frozen dataclass of the method's options (see ``methods.core.options``).
    variants
        Names of options that make another method of it, such as the members of an ensemble: settings are
        searched for each of their values apart.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    style: ClassVar[Style]
    Options: ClassVar[type] = NoOptions
    variants: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls) and not isinstance(getattr(cls, "style", None), Style):
            raise TypeError(f"method {cls.name}: needs a style, an instance of Style")

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    # -- training ------------------------------------------------------------------------

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        """Return the configuration to run instead if ``options`` mean the same as another one, else None."""
        return None

    def members(self) -> int:
        """Return how many networks ``build`` receives, each with its own initial weights."""
        return 1

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        """Return the module to train, made from a freshly initialised ``network``.

        Parameters
        ----------
        network
            Network to build from; may be changed in place. If ``members()`` is above 1, an
            ``nn.ModuleList`` of networks, whose first has the initial weights that all other methods of
            the same seed start from.
        streams
            Random generators of the run.
        task
            Facts about the data.
        """
        return network

    def stages(self, budget: Budget) -> list[Stage]:
        """Return the stages of training in order; by default one over the whole budget."""
        return [Stage("train", budget.epochs)]

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        """Return the loss of a minibatch, a scalar; by default the mean cross-entropy in nats.

        A loss that contains the cross-entropy calls ``methods.core.data_loss.data_loss``, to which the
        settings ``class_weights`` and ``label_smoothing`` apply.

        Parameters
        ----------
        module
            Module that ``build`` made.
        batch
            Inputs (n, *input_shape) and labels (n,).
        progress
            Position of training within the stage.
        """
        return data_loss(module, batch)

    def scale_parameters(self, module: nn.Module) -> list[nn.Parameter]:
        """Return the parameters trained with the learning rate ``lr_scale`` and without weight decay."""
        return layers.scale_parameters(module)

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Check that ``options`` fit ``network``; by default they always do.

        ``network`` may be on torch's meta device: its weights have shapes, but no storage.

        Raises
        ------
        UserError
            If they do not fit.
        """

    # -- hooks ---------------------------------------------------------------------------

    def enter_stage(self, context: Context, stage: Stage) -> None:
        """React to the start of a stage: its weights are in place, its first step has not been taken."""

    def leave_stage(self, context: Context, stage: Stage) -> None:
        """React to the end of a stage: its last step has been taken, it has not been scored yet.

        If a run stops between this call and the scoring, the call is repeated when the run is resumed.
        """

    def before_step(self, context: Context) -> None:
        """Act before the forward pass of a step."""

    def after_step(self, context: Context) -> None:
        """Act after the optimiser step, or after the backward pass if ``context.skip_step`` was set."""

    def rewind(self, module: nn.Module, snapshot: dict[str, torch.Tensor], stage: Stage) -> None:
        """Restore all parameters and buffers from an earlier ``state_dict``, for the stage that begins."""
        module.load_state_dict(snapshot)

    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        """Return values of the method's own for the training curves, by name, at the end of each epoch."""
        return {}

    # -- prediction ----------------------------------------------------------------------

    def mean(self, module: nn.Module) -> Predictor | None:
        """Return the mean network as a function from inputs to logits; None if there is no mean network."""
        return module

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        """Yield functions from inputs to logits; each is one fixed sample, shared by all examples.

        By default these are ``samples`` weight samples of the variational layers, or the one network if
        no layer has a variance.
        """
        found = layers.variational_layers(module)
        if not any(layer.is_random for layer in found):
            yield module
            return
        for _ in range(samples):
            draw: dict[nn.Module, torch.Tensor] = {layer: layer.sample_weights(generator) for layer in found}
            yield _with_weights(module, draw)

    # -- costs ---------------------------------------------------------------------------

    def counts(self, module: nn.Module) -> costs.Counts:
        """Count all kernel weights, the active ones among them, and the other parameters."""
        return costs.counts(module)

    def flops(self, module: nn.Module, event: str) -> float:
        """Return the FLOPs of one event for one example, from the real shapes of the layers.

        A multiply-add counts as two FLOPs.

        Parameters
        ----------
        module
            Module that ``build`` made.
        event
            ``inference`` (one forward pass of the mean or of one weight sample), ``step``,
            ``dense_gradient`` (what it adds to a step), ``noisy_pass`` or ``mean_pass``, or ``dense_pass``
            (forward and backward through the plain network with all its weights).
        """
        return costs.flops(module, event)

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        """Return the FLOPs of a whole training on ``budget``, for one example.

        By default every step costs what the first one costs, and a dense gradient is added every
        ``update_period()`` minibatches. Multiplied by the number of training examples, the result must be
        what is counted during training, or a little more: ``budget: flops`` uses it to find how long a
        method may train.

        Override it if the cost of a step changes during training or if the method causes other events.
        The result may depend on shapes, options and ``budget`` only.

        Parameters
        ----------
        module
            Module as ``build`` made it.
        budget
            Length of training.
        """
        step, period, total = self.flops(module, "step"), self.update_period(), 0.0
        for stage in self.stages(budget):
            total += stage.epochs * step
            if period is not None:
                updates = range(period, stage.epochs * budget.steps_per_epoch + 1, period)
                total += budget.in_epochs(updates) * self.flops(module, "dense_gradient")
        return total

    def update_period(self) -> int | None:
        """Return the number of minibatches between updates of the active weights; None without updates."""
        return None

    def held_per_weight(self) -> int:
        """Return how many numbers the module collects for each active weight, beside its posterior.

        The moments of ``swag`` are an example. ``bench.check`` allows training state and stored model as many
        more for each active weight and each other parameter.
        """
        return 0

    def pack(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """Return the smallest state that predictions need: no gradients, no optimiser state, no masks."""
        return costs.pack(module)

    def unpack(self, module: nn.Module, packed: dict[str, torch.Tensor]) -> None:
        """Load the result of ``pack`` into a module that ``build`` made."""
        costs.unpack(module, packed)


def _with_weights(module: nn.Module, draw: dict[nn.Module, torch.Tensor]) -> Predictor:
    def predict(inputs: torch.Tensor) -> torch.Tensor:
        with passes.weights(draw):
            return module(inputs)

    return predict


#: All methods: from the files of this folder, from entry points, and from ``register``.
METHODS: Registry[Method] = Registry("method", "methods", Method, "ssvi_bench.methods")
register = METHODS.register
names = METHODS.names
get = METHODS.get
