"""Watch a method in training: compare what torch's FLOP counter finds in each step with what is declared.

Execution is dense, so that the counter sees every contraction at its full size. Multiplied by a layer's
share of active weights, this gives the cost of its sparse form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from methods.base import Batch, Context, Method, Progress, Stage
from methods.layers.inventory import kernel_layers, kernels

#: Events of a step that are one more forward and backward pass.
EXTRA_PASSES = ("noisy_pass", "mean_pass", "dense_pass")
#: After ``MANY`` steps of a run, only the ``FIRST`` steps of each stage are counted.
MANY, FIRST = 60, 2


@dataclass(frozen=True)
class Counted:
    """FLOPs that were counted in a step, for one example.

    Parameters
    ----------
    expected
        Three times those of the loss's forward pass, with each layer at its density.
    forward, whole
        Those of the loss's forward pass and of the whole step, at full density.
    """

    expected: float
    forward: float
    whole: float

    @property
    def passes(self) -> float:
        """The number of forward and backward passes of the step, in units of the one of the loss."""
        if not self.whole:
            return 0.0
        return self.whole / (3 * self.forward) if self.forward else math.inf


@dataclass(frozen=True)
class Step:
    """One step of training; FLOPs are for one example.

    Parameters
    ----------
    stage, number
        Name of the stage, and number of the step in it.
    examples
        Size of the minibatch.
    events
        Events of the step, ``step`` first.
    declared
        FLOPs that the method declares for the event ``step``.
    spent
        FLOPs that it declares for all events together.
    counted
        FLOPs that were counted; None if this step was not counted.
    """

    stage: str
    number: int
    examples: int
    events: tuple[str, ...]
    declared: float
    spent: float
    counted: Counted | None

    @property
    def passes(self) -> int:
        """The number of forward and backward passes that the events stand for."""
        return 1 + sum(event in EXTRA_PASSES for event in self.events)


class FlopCounter:
    """Counts contractions as torch does, without the products within attention, while it is entered."""

    def __init__(self) -> None:
        self._mode = FlopCounterMode(display=False)

    def __enter__(self) -> FlopCounter:
        self._mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)

    @property
    def total(self) -> int:
        """FLOPs so far."""
        found = self._mode.flop_counts["Global"]  # get_total_flops would copy the counts of every module
        return sum(count for op, count in found.items() if "scaled_dot_product" not in str(op))

    def forward(self, module: nn.Module, call: Callable[[], Any]) -> tuple[Any, ForwardFlops]:
        """Call ``call``; return its result, and its FLOPs by layer of ``module``."""
        each: Counter[nn.Module] = Counter()
        before: list[int] = []

        def enter(layer: nn.Module, inputs: Any) -> None:
            before.append(self.total)

        def leave(layer: nn.Module, inputs: Any, output: Any) -> None:
            each[layer] += self.total - before.pop()

        layers = {layer for _, layer in kernel_layers(module)}
        hooks = [layer.register_forward_pre_hook(enter) for layer in layers]
        hooks += [layer.register_forward_hook(leave) for layer in layers]
        start = self.total
        try:
            result = call()
        finally:
            for hook in hooks:
                hook.remove()
        return result, ForwardFlops(self.total - start, dict(each))


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of a forward computation at full density: in total, and by layer with a kernel."""

    total: int
    layers: dict[nn.Module, int]

    def sparse(self, module: nn.Module, density: float) -> float:
        """Return the FLOPs with each layer at its own density, and the rest at ``density``."""
        found = {
            layer: kernel.active / kernel.shape.numel()
            for kernel in kernels(module)
            for layer in kernel.layers
        }
        rest = self.total - sum(self.layers.values())
        return sum(found[layer] * count for layer, count in self.layers.items() if count) + density * rest


class Watched:
    """Takes the place of a method in training, within a ``with`` block, and records the cost of each step.

    Counting makes small steps slow: after ``MANY`` steps, only the first ones of each stage are counted.
    """

    def __init__(self, method: Method) -> None:
        self.steps: list[Step] = []
        #: Places, each once, where ``context.pruned`` should have been set.
        self.unflagged: dict[str, None] = {}
        self._method = method
        self._counter: FlopCounter | None = None
        self._forward = ForwardFlops(0, {})
        self._expected = 0.0

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._counter is not None:  # a step was cut off
            self._counter.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def enter_stage(self, context: Context, stage: Stage) -> None:
        """Call the method's hook."""
        with self._flagged(context, "enter_stage"):
            self._method.enter_stage(context, stage)

    def leave_stage(self, context: Context, stage: Stage) -> None:
        """Call the method's hook."""
        with self._flagged(context, "leave_stage"):
            self._method.leave_stage(context, stage)

    @contextmanager
    def _flagged(self, context: Context, hook: str) -> Iterator[None]:
        """Record ``hook`` if it changes the number of weights in a layer and does not set the flag."""

        def active() -> list[int]:
            whole = self._method.counts(context.module).active
            return [whole, *(kernel.active for kernel in kernels(context.module))]

        before = active()
        yield
        if not context.pruned and (after := active()) != before:
            place = f"{hook} of stage {context.progress.stage!r}"
            self.unflagged.setdefault(f"{place}: {before[0]} active weights become {after[0]}")

    def before_step(self, context: Context) -> None:
        """Start to count a step."""
        if len(self.steps) < MANY or context.progress.step <= FIRST:
            self._counter = FlopCounter().__enter__()
        context.measure = self._counter is None
        self._method.before_step(context)

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        """Return the loss, and count its contractions by layer."""
        if self._counter is None:
            return self._method.loss(module, batch, progress)
        loss: torch.Tensor
        loss, self._forward = self._counter.forward(
            module, lambda: self._method.loss(module, batch, progress)
        )
        density = self._method.counts(module).density
        self._expected = 3 * self._forward.sparse(module, density) / len(batch[1])
        return loss

    def after_step(self, context: Context) -> None:
        """Finish a step; the declared FLOPs are those of the module before the method changes it."""
        examples, events = len(context.batch[1]), ("step", *context.events)
        flops = {event: self._method.flops(context.module, event) for event in set(events)}
        with self._flagged(context, "after_step"):
            self._method.after_step(context)
        counted = None
        if self._counter is not None:
            forward, whole = self._forward.total, self._counter.total
            self._counter.__exit__(None, None, None)
            self._counter = None
            counted = Counted(self._expected, forward / examples, whole / examples)
        self.steps.append(
            Step(
                stage=context.progress.stage,
                number=context.progress.step,
                examples=examples,
                events=events,
                declared=flops["step"],
                spent=sum(flops[event] for event in events),
                counted=counted,
            )
        )
