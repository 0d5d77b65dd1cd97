"""What a network is: a name, options, and a function from a task to a plain ``nn.Module``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from methods.base import Task
from methods.core.errors import UserError
from methods.core.registry import Registry
from methods.core.streams import Streams, derive
from methods.layers import costs
from methods.layers.attention import separate


@dataclass(frozen=True)
class NetworkOptions:
    """Options every network has."""


class Network:
    """One architecture. ``build`` makes plain modules; methods convert them."""

    name: ClassVar[str]
    Options: ClassVar[type] = NetworkOptions

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    def build(self, task: Task) -> nn.Module:
        """A freshly initialised network for inputs and classes of ``task``."""
        raise NotImplementedError

    def initialised(self, task: Task, streams: Streams, salt: str = "") -> nn.Module:
        """``build`` under the run's ``initialisation`` stream, leaving torch's global stream alone.

        Attention is separated into layers and the uses of kernels are counted, the same for every
        method. Raises ``UserError`` where an input of ``task`` does not pass through.
        """
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed, which reseeds accelerators too
            torch.default_generator.manual_seed(derive(streams.seed, "initialisation" + salt))
            network = separate(self.build(task))
        try:
            costs.trace(network, task.input_shape)
        except (AssertionError, RuntimeError, ValueError) as error:
            size = "x".join(map(str, task.input_shape))
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"network {self.name}: does not take inputs of {size}: {reason}") from None
        return network


NETWORKS: Registry[Network] = Registry("network", "bench.networks", Network, "ssvi_bench.networks")


def image_shape(network: str, task: Task) -> tuple[int, int, int]:
    """(channels, height, width) of a task's inputs; raises ``UserError`` where they are no images."""
    if len(task.input_shape) != 3:
        raise UserError(
            f"network {network}: takes images (channels, height, width), got inputs of {task.input_shape}"
        )
    channels, height, width = task.input_shape
    return channels, height, width
