"""What a network is: a name, options, and a function from a task to a plain ``nn.Module``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from methods.base import Task
from methods.errors import UserError
from methods.registry import Registry
from methods.streams import Streams, derive


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
        """``build`` under the run's ``initialisation`` stream, leaving torch's global stream alone."""
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed, which reseeds accelerators too
            torch.default_generator.manual_seed(derive(streams.seed, "initialisation" + salt))
            return self.build(task)


NETWORKS: Registry[Network] = Registry("network", "bench.networks", Network, "ssvi_bench.networks")


def image_shape(network: str, task: Task) -> tuple[int, int, int]:
    """(channels, height, width) of a task's inputs; raises ``UserError`` where they are no images."""
    if len(task.input_shape) != 3:
        raise UserError(
            f"network {network}: takes images (channels, height, width), got inputs of {task.input_shape}"
        )
    channels, height, width = task.input_shape
    return channels, height, width
