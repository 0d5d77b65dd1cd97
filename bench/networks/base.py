"""Define the base class of networks: a name, options, and a function from a task to an ``nn.Module``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from methods.base import Task
from methods.core.errors import UserError
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
        of each kernel are counted. The state of torch's global generator does not change.

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
            The network does not take inputs of this shape.
        """
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also reseed accelerators
            torch.default_generator.manual_seed(derive(streams.seed, "initialisation" + salt))
            network = separate(self.build(task))
        # a plug-in need not derive its options from NetworkOptions
        if getattr(self.options, "convert", "basic") == "all":
            network = unroll(network)
        else:
            keep_earlier(network)
        try:
            costs.trace(network, task.input_shape)
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
