"""Define the base class of networks: a name, options, and a function from a task to an ``nn.Module``."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from methods.base import Task
from methods.core.errors import UserError
from methods.core.global_generators import seeded
from methods.core.options import option
from methods.core.registry import Registry
from methods.core.streams import Streams, derive
from methods.layers import costs
from methods.layers.attention import separate
from methods.layers.convert import keep_earlier
from methods.layers.recurrent import Recurrent, unroll


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Options that every network has."""

    convert: str = option(
        "basic",
        "layers that methods convert: basic, Linear and Conv2d with even zero padding; all, also Conv1d, "
        "Conv3d, ConvTranspose, other padding, LSTM and GRU",
        choices=("basic", "all"),
        neutral="basic",
    )


class Network:
    """Base class of an architecture.

    A subclass sets ``name``, may set ``Options`` (a dataclass), and implements ``build``, which makes
    ordinary torch modules; methods replace their layers later.

    ``version`` is part of the run id unless it is 1: raise it when a change alters what is built.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type] = NetworkOptions

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    def build(self, task: Task) -> nn.Module:
        """Build a freshly initialised network for the inputs and classes of ``task``."""
        raise NotImplementedError

    def initialised(self, task: Task, streams: Streams, salt: str = "") -> nn.Module:
        """Build the network from the run's random stream ``initialisation`` and prepare it for all methods.

        Attention is separated into linear layers, and so are LSTM and GRU if ``convert`` is ``all``. The uses
        of each kernel are counted. Global random generators (torch, numpy, ``random``) are seeded from the
        stream and restored.

        Parameters
        ----------
        task
            Shape of inputs, and number of classes.
        streams
            Random streams of the run.
        salt
            Added to the name of the stream; another text gives other weights.

        Raises
        ------
        UserError
            The network does not take inputs of this shape, or does not return logits (N, classes).
        """
        with seeded(derive(streams.seed, "initialisation" + salt)):
            network = separate(self.build(task))
            # a plug-in need not derive its options from NetworkOptions
            if getattr(self.options, "convert", "basic") == "all":
                network = unroll(network)
            else:
                keep_earlier(network)
            try:
                costs.trace(network, task.input_shape, [partial(self._logits, network, task)])
            except (AssertionError, RuntimeError, ValueError) as error:
                size = "x".join(map(str, task.input_shape))
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                raise UserError(f"network {self.name}: does not take inputs of {size}: {reason}") from None
            except AttributeError as error:
                if f"{Recurrent.__name__!r} object" not in str(error):
                    raise
                reason = f"reads an attribute that a converted LSTM or GRU does not have ({error})"
                raise UserError(f"network {self.name}: {reason}; network.convert=basic keeps them") from None
        return network

    def require_logits(self, network: nn.Module, task: Task) -> None:
        """Require logits (N, classes) of two examples in training too, where some networks return more.

        Parameters
        ----------
        network
            The result of ``initialised``; it stays as it is.
        task
            What it was built for.

        Raises
        ------
        UserError
            It returns something else, or raises an error.
        """
        copied = copy.deepcopy(network).train()
        example = next(network.parameters()).new_zeros((2, *task.input_shape))
        with seeded(0):
            self._logits(copied, task, example)

    @torch.no_grad()
    def _logits(self, network: nn.Module, task: Task, inputs: torch.Tensor) -> torch.Tensor:
        found: Any = network(inputs)
        wanted = (len(inputs), task.classes)
        while_training = " in training" if network.training else ""
        if not isinstance(found, torch.Tensor):
            words = f"a {type(found).__name__}{while_training}; return the tensor of logits alone"
        elif tuple(found.shape) != wanted:
            words = (
                f"outputs of shape {tuple(found.shape)}{while_training} for inputs of {tuple(inputs.shape)}; "
                f"logits of {task.classes} classes have shape {wanted}{_remedy(found, task)}"
            )
        elif not found.is_floating_point():
            words = f"{found.dtype}{while_training}; logits are floating-point"
        else:
            return found
        raise UserError(f"network {self.name}: returns {words}")


def _remedy(found: torch.Tensor, task: Task) -> str:
    if found.dim() == 2:
        return ": end the network in task.classes units"
    if found.dim() == 1 and found.shape[0] == task.classes:
        return ": use flatten(1), since squeeze() also removes the axis of examples"
    return ": flatten the axes after the first, or average over them"


NETWORKS: Registry[Network] = Registry("network", "bench.networks", Network, "ssvi_bench.networks")


def image_shape(network: str, task: Task) -> tuple[int, int, int]:
    """Return channels, height and width of a task's inputs.

    Raises
    ------
    UserError
        Inputs are not images; the message names ``network``.
    """
    if len(task.input_shape) != 3:
        raise UserError(
            f"network {network}: takes images (channels, height, width), got inputs of {task.input_shape}"
        )
    channels, height, width = task.input_shape
    return channels, height, width
