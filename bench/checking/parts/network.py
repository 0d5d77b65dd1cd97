"""Check a network on its own kind of input, for ``bench.check --network``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bench.checking.parts.common import declared_line, require_global_streams_kept
from bench.checking.verdicts import Check, Failed
from bench.networks.base import Network
from methods.base import Task
from methods.core import global_generators
from methods.core.streams import Streams
from methods.layers.inventory import kernel_layers

#: Examples of a batch, and the largest difference that rounding may make, relative to the largest output.
_EXAMPLES, _ROUNDING = 8, 1e-4


@dataclass(frozen=True)
class Subject:
    """A network to check, with its options and the task that it is built for."""

    cls: type[Network]
    options: Any
    task: Task

    @cached_property
    def network(self) -> nn.Module:
        """The network of one seed; no check changes it."""
        return self.built(0)

    def built(self, seed: int) -> nn.Module:
        """Build the network of a seed, in evaluation mode."""
        return self.cls(self.options).initialised(self.task, Streams(seed)).eval()

    def inputs(self) -> torch.Tensor:
        """Return standard normal inputs, the same on each call."""
        stream = torch.Generator().manual_seed(0)
        return torch.randn(_EXAMPLES, *self.task.input_shape, generator=stream)


def declared(subject: Subject) -> str:
    """Check name, version and docstring."""
    return declared_line(subject.cls)


def outputs(subject: Subject) -> str:
    """Check that outputs are logits, in evaluation and in training, and finite."""
    network = subject.network
    subject.cls(subject.options).require_logits(network, subject.task)
    with torch.no_grad():
        found = network(subject.inputs())
    if not bool(found.isfinite().all()):
        raise Failed("outputs of standard normal inputs are not finite")
    shape = tuple(subject.task.input_shape)
    return f"inputs {shape} give logits of {subject.task.classes} classes, in evaluation and in training"


def seeds(subject: Subject) -> str:
    """Check that a seed fixes the initial weights, and that another seed gives others."""
    require_global_streams_kept(lambda: subject.built(0), "build")
    first, again, other = (subject.built(seed).state_dict() for seed in (0, 0, 1))
    for name, value in first.items():
        if not torch.equal(value, again[name]):
            raise Failed(f"{name} has other values the second time under the same seed")
    if all(torch.equal(value, other[name]) for name, value in first.items()):
        raise Failed("another seed gives the same initial weights")
    return "a seed fixes all initial values, and another seed gives others"


@torch.no_grad()
def apart(subject: Subject) -> str:
    """Check that an example has the same outputs alone and among others, in evaluation."""
    inputs = subject.inputs()
    together = subject.network(inputs)
    alone = torch.cat([subject.network(each) for each in inputs.split(1)])
    worst = float((together - alone).abs().max())
    if worst > _ROUNDING * max(1.0, float(together.abs().max())):
        raise Failed(f"an example alone has other outputs than among others, by {worst:.3g}")
    return "an example has the same outputs alone and among others"


def trained(subject: Subject) -> str:
    """Check that every parameter gets a gradient."""
    network = subject.built(0).train()
    with global_generators.restored(), torch.enable_grad():
        labels = torch.arange(_EXAMPLES) % subject.task.classes
        F.cross_entropy(network(subject.inputs()), labels).backward()
    named = list(network.named_parameters())
    if unused := [name for name, value in named if value.requires_grad and value.grad is None]:
        raise Failed(f"no gradient reaches {', '.join(unused[:5])}; remove what forward does not use")
    return f"all {len(named)} parameters get a gradient"


def kernels(subject: Subject) -> str:
    """Check that there are weights that methods can make sparse or Gaussian."""
    found = [layer for _, layer in kernel_layers(subject.network) if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not found:
        raise Failed("there is no Linear or Conv2d, so that methods have nothing to convert")
    return f"{len(found)} layers are linear or 2-D convolutions, which methods convert"


CHECKS: tuple[Check[Subject], ...] = (
    Check("declared", "name, version and docstring are valid", declared, vital=True),
    Check("outputs", "it returns a tensor of finite logits (N, classes)", outputs, vital=True),
    Check("seeds", "a seed fixes every initial value", seeds),
    Check("apart", "in evaluation an example's outputs do not depend on the others of its batch", apart),
    Check("trained", "every parameter gets a gradient", trained),
    Check("kernels", "methods find layers to convert", kernels),
)
