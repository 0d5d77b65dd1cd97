"""The contract between a method and the benchmark, and the registry of methods.

A method never writes a training loop. It says what to build, in which stages to train,
what the loss is, and reacts at a few points; ``bench.training.trainer`` does the rest. A new
method is one file in this folder (or a package with an entry point in the group
``ssvi_bench.methods``) that defines one subclass of ``Method``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import nn

from methods.core import passes
from methods.core.registry import Registry
from methods.core.streams import Streams
from methods.layers import costs
from methods.layers import layer as layers

Batch = tuple[torch.Tensor, torch.Tensor]
Predictor = Callable[[torch.Tensor], torch.Tensor]


_NEVER_DOTTED = (
    *("hourglass", "bowtie", "circle-cross", "circle-x", "square-cross", "square-x", "diamond-cross"),
    *("diamond-x", "cross-thin", "x-thin", "asterisk", "y-up", "y-down", "y-left", "y-right"),
    *("line-ew", "line-ns", "line-ne", "line-nw", "arrow-up", "arrow-down", "arrow-left", "arrow-right"),
    *("arrow-bar-up", "arrow-bar-down", "arrow-bar-left", "arrow-bar-right", "arrow", "arrow-wide"),
)
_DOTTED = (
    *("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "triangle-left"),
    *("triangle-right", "triangle-ne", "triangle-se", "triangle-sw", "triangle-nw", "pentagon", "hexagon"),
    *("hexagon2", "octagon", "star", "hexagram", "star-triangle-up", "star-triangle-down", "star-square"),
    *("star-diamond", "diamond-tall", "diamond-wide", "hash"),
)
#: What plotly can draw; each marker also with ``-open``, most with ``-dot`` and ``-open-dot``.
MARKERS = (*_DOTTED, *_NEVER_DOTTED)
DASHES = ("solid", "dot", "dash", "longdash", "dashdot", "longdashdot")


@dataclass(frozen=True)
class Style:
    """How views show a method: the same label, hue, marker and dash on every page.

    hue: ``#rrggbb`` on a light ground; hue_dark the same identity on a dark one.
    marker, dash: plotly names. order: position in legends and tables, smallest first.
    """

    label: str
    hue: str
    hue_dark: str
    marker: str = "circle"
    dash: str = "solid"
    order: int = 100

    def __post_init__(self) -> None:
        for name in ("hue", "hue_dark"):
            self._require(name, r"#[0-9A-Fa-f]{6}", "#rrggbb")
        plain = "|".join(MARKERS)
        marker = f"({plain})(-open)?|({'|'.join(_DOTTED)})(-open)?-dot"
        self._require("marker", marker, f"a name of plotly's, as {', '.join(MARKERS[:8])}")
        self._require("dash", "|".join(DASHES), f"a name of plotly's: {', '.join(DASHES)}")
        self._require("label", r".{1,80}", "a label of 1 to 80 characters")

    def _require(self, name: str, pattern: str, what: str) -> None:
        value = getattr(self, name)
        if not re.fullmatch(pattern, value) or not value.isprintable():
            raise ValueError(f"style {self.label!r}: {name}: {value!r} is not {what}")


@dataclass(frozen=True)
class Task:
    """What a method may know of the data: input shape (without batch), classes, training examples N."""

    input_shape: tuple[int, ...]
    classes: int
    examples: int


@dataclass(frozen=True)
class Budget:
    """The training length that stages are made from: epochs, and optimiser steps an epoch.

    last_batch: an epoch's last minibatch, as a share of a whole one.
    """

    epochs: int
    steps_per_epoch: int
    last_batch: float = 1.0

    def in_epochs(self, steps: range) -> float:
        """The minibatches ``steps`` of a stage (its first is 1) in passes over the data.

        Exact: the smaller last ones among them are told apart.
        """
        every = self.steps_per_epoch // math.gcd(self.steps_per_epoch, steps.step)
        first = (i for i in range(min(every, len(steps))) if steps[i] % self.steps_per_epoch == 0)
        last = next((len(steps[i::every]) for i in first), 0)
        whole = len(steps) - last
        return (whole + last * self.last_batch) / (self.steps_per_epoch - 1 + self.last_batch)


@dataclass(frozen=True)
class Stage:
    """A stretch of training with an optimiser and a schedule of its own.

    start: the weights it begins with. ``fresh``: newly built; ``keep``: as the stage before
    left them; ``rewind``: as they were after ``rewind_to`` epochs of the first stage.
    """

    name: str
    epochs: int
    start: Literal["fresh", "keep", "rewind"] = "fresh"
    rewind_to: int = 0


@dataclass
class Progress:
    """Where training stands within a stage: epoch 1..epochs, step t 1..steps; N training examples.

    ``noise`` is the generator for training noise; ``step`` counts minibatches, skipped
    optimiser steps included.
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
    """What hooks see and may do.

    module, optimiser, streams, progress: the live objects of the run. batch: the current one.
    memory: a method's own state, tensors and plain numbers; it travels in checkpoints.
    record: ``record(table, row)`` appends a row to the run's ``layers`` or ``criteria_pairs``.
    scratch: what ``before_step`` leaves for ``after_step``; gone with the step. skip_step: set it
    to forfeit the optimiser step. pruned: set it where layers have come to other numbers of weights.
    arithmetic: the precision that losses are computed in. watch: whether what a method does is to be
    recorded; not where steps are timed.
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
    batch: Batch = (torch.empty(0), torch.empty(0))
    scratch: dict[str, Any] = field(default_factory=dict)
    skip_step: bool = False
    pruned: bool = False
    gradient_consumer: passes.GradientConsumer | None = None
    events: list[str] = field(default_factory=list)

    def begin_step(self, batch: Batch, step: int) -> None:
        """For the training loop: forget the last step, face this one."""
        self.batch, self.progress.step = batch, step
        self.scratch, self.skip_step, self.pruned = {}, False, False
        self.gradient_consumer, self.events = None, []

    def request_dense_gradients(self, consumer: passes.GradientConsumer) -> None:
        """In ``before_step``: hand ``consumer`` each sparse layer's dense mean-gradient of this step."""
        self.gradient_consumer = consumer
        self.events.append("dense_gradient")

    def extra_pass(
        self, loss: Callable[[], torch.Tensor], consumer: passes.GradientConsumer, event: str
    ) -> None:
        """One more forward and backward pass for its dense gradients alone.

        Parameter gradients, batch-norm statistics and the training noise stay as they are.
        ``event`` (``"noisy_pass"`` or ``"mean_pass"``) is counted in the training FLOPs.
        """
        buffers = {name: b.clone() for name, b in self.module.named_buffers() if layers.is_statistic(name)}
        streams = {name: self.streams[name].get_state() for name in ("noise", "global")}
        means = [p for p in layers.mean_parameters(self.module) if p.requires_grad]
        with torch.enable_grad(), passes.dense_gradients(consumer) as gradients:
            with self.arithmetic():
                value = loss()
            torch.autograd.grad(value, means, allow_unused=True)
            assert gradients is not None
            gradients.finish()
        live = dict(self.module.named_buffers())
        for name, value in buffers.items():
            live[name].copy_(value)
        for name, state in streams.items():
            self.streams[name].set_state(state)
        self.events.append(event)


@dataclass(frozen=True)
class Equivalent:
    """A configuration that means the same as another one, which is run instead."""

    method: str
    options: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class NoOptions:
    """Options of a method that has none."""


class Method:
    """One way to train and predict: subclass it, set ``name``, ``style`` and ``Options``.

    Every hook has a default that does nothing special.

    version: raise it when a change alters results; it is part of the run id.
    A method object holds its options and nothing else: state lives in the module, the
    optimiser or ``context.memory``, which checkpoints carry.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    style: ClassVar[Style]
    Options: ClassVar[type] = NoOptions

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls) and not isinstance(getattr(cls, "style", None), Style):
            raise TypeError(f"method {cls.name}: needs a style, a Style, by which views show it")

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    # -- what is trained -----------------------------------------------------------------

    @classmethod
    def equivalent(cls, options: Any) -> Equivalent | None:
        """The configuration to run instead, when ``options`` mean the same as another one."""
        return None

    def members(self) -> int:
        """How many networks, each with initial weights of its own, ``build`` is given."""
        return 1

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        """The module to train, made from a freshly initialised ``network``.

        Where ``members`` are several, ``network`` is an ``nn.ModuleList`` of them. The first is the one
        that every other method of the same seed starts from.
        """
        return network

    def stages(self, budget: Budget) -> list[Stage]:
        """The stages of training, in order; by default one over the whole budget."""
        return [Stage("train", budget.epochs)]

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        """The minibatch loss, a scalar; by default the mean cross-entropy."""
        inputs, labels = batch
        return F.cross_entropy(module(inputs), labels)

    def scale_parameters(self, module: nn.Module) -> list[nn.Parameter]:
        """Parameters that take the learning rate for scales and no weight decay."""
        return layers.scale_parameters(module)

    @classmethod
    def validate(cls, options: Any, network: nn.Module) -> None:
        """Raise ``UserError`` when ``options`` do not fit ``network``; its weights may have no storage."""

    # -- hooks ---------------------------------------------------------------------------

    def enter_stage(self, context: Context, stage: Stage) -> None:
        """At the start of a stage, after its weights are in place, before its first step."""

    def leave_stage(self, context: Context, stage: Stage) -> None:
        """At the end of a stage, after its last step, before it is scored.

        May be called again for the same end, when a run was stopped before it was scored.
        """

    def before_step(self, context: Context) -> None:
        """Before the forward pass of a step."""

    def after_step(self, context: Context) -> None:
        """After the optimiser step (or after backward, where ``context.skip_step`` was set)."""

    def rewind(self, module: nn.Module, snapshot: dict[str, torch.Tensor], stage: Stage) -> None:
        """Restore all parameters and buffers from an earlier ``state_dict``, for ``stage``, which comes."""
        module.load_state_dict(snapshot)

    def monitor(self, module: nn.Module, progress: Progress) -> dict[str, float]:
        """Figures of the method's own for the training curves, taken at each epoch's end."""
        return {}

    # -- prediction ----------------------------------------------------------------------

    def mean(self, module: nn.Module) -> Predictor | None:
        """The mean network as a function from inputs to logits; None where there is no such thing."""
        return module

    def draws(self, module: nn.Module, samples: int, generator: torch.Generator) -> Iterator[Predictor]:
        """Functions from inputs to logits, each one fixed sample shared by all examples.

        By default ``samples`` fixed weight samples of the variational layers, or the one
        network there is when these have no width.
        """
        found = layers.variational_layers(module)
        if not any(layer.is_random for layer in found):
            yield module
            return
        for _ in range(samples):
            draw: dict[nn.Module, torch.Tensor] = {layer: layer.sample_weights(generator) for layer in found}
            yield _with_weights(module, draw)

    # -- what it costs -------------------------------------------------------------------

    def counts(self, module: nn.Module) -> costs.Counts:
        """Kernel weights in all and active, and the other parameters."""
        return costs.counts(module)

    def flops(self, module: nn.Module, event: str) -> float:
        """FLOPs an example of one event, two a multiply-add, from the layers' real shapes.

        Events: ``inference`` (one forward pass of the mean or of one weight sample), ``step``,
        ``dense_gradient`` (what it adds to a step), ``noisy_pass``, ``mean_pass``.
        """
        return costs.flops(module, event)

    def training_flops(self, module: nn.Module, budget: Budget) -> float:
        """FLOPs of the whole training on ``budget``, an example: of E epochs of plain steps E times a step's.

        module: as ``build`` made it. Times the training examples this is what will be counted, or a little
        more: ``budget: flops`` finds by it how long a method may train. To be overridden where what
        ``flops`` says of a step changes in training, and where there are other events than the dense gradient
        every ``update_period``. It may depend on shapes, options and ``budget`` alone.
        """
        step, period, total = self.flops(module, "step"), self.update_period(), 0.0
        for stage in self.stages(budget):
            total += stage.epochs * step
            if period is not None:
                updates = range(period, stage.epochs * budget.steps_per_epoch + 1, period)
                total += budget.in_epochs(updates) * self.flops(module, "dense_gradient")
        return total

    def update_period(self) -> int | None:
        """Minibatches from one update of the active weights to the next; None where none are due."""
        return None

    def pack(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """What a stored model needs to predict, at its smallest: no gradients, no optimiser, no mask."""
        return costs.pack(module)

    def unpack(self, module: nn.Module, packed: dict[str, torch.Tensor]) -> None:
        """Load what ``pack`` gave into a module that ``build`` made."""
        costs.unpack(module, packed)


def _with_weights(module: nn.Module, draw: dict[nn.Module, torch.Tensor]) -> Predictor:
    def predict(inputs: torch.Tensor) -> torch.Tensor:
        with passes.weights(draw):
            return module(inputs)

    return predict


#: Methods from the files of this folder, from entry points, and from ``register``.
METHODS: Registry[Method] = Registry("method", "methods", Method, "ssvi_bench.methods")
register = METHODS.register
names = METHODS.names
get = METHODS.get
