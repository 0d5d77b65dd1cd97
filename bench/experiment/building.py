"""Build the module of a run: the plain network, and the module that its method makes of it."""

from __future__ import annotations

import torch
from torch import nn

from bench.experiment.spec import RunSpec
from bench.networks.base import NETWORKS
from methods.base import Method, Task
from methods.core import passes
from methods.core.errors import UserError
from methods.core.global_generators import seeded
from methods.core.streams import Streams, derive
from methods.layers import costs

#: Type of parameters and inputs by precision; tf32 and bfloat16 lower the precision of contractions only.
DTYPES = {
    "float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64,
}  # fmt: skip


def initialised(spec: RunSpec, task: Task, streams: Streams, salt: str = "") -> nn.Module:
    """Return the run's network for ``task``, initialised; see ``Network.initialised``."""
    name, options = spec.network
    with seeded(derive(streams.seed, "initialisation" + salt)):  # its class may draw when it is constructed
        return NETWORKS.get(name)(options).initialised(task, streams, salt)


def plain_network(spec: RunSpec, method: Method, task: Task, streams: Streams, salt: str = "") -> nn.Module:
    """Return what ``method`` builds from: an initialised plain network, or a list of one per member.

    Networks are initialised on the CPU, so that all devices get the same weights.

    Parameters
    ----------
    spec
        The run.
    method
        Its method; ``members()`` decides how many networks there are.
    task
        Input shape and classes.
    streams
        Random streams of the run.
    salt
        Text that selects other initial weights of the same run, such as for a later stage.
    """
    salts = [salt, *(f"{salt}/member {number}" for number in range(2, method.members() + 1))]
    dtype = DTYPES[spec.precision]
    networks = [initialised(spec, task, streams, each).to(dtype) for each in salts]
    return networks[0] if len(networks) == 1 else nn.ModuleList(networks)


def build_module(
    spec: RunSpec,
    method: Method,
    task: Task,
    network: nn.Module,
    streams: Streams,
    device: torch.device | str = "cpu",
    channels_last: bool = False,
) -> nn.Module:
    """Build the module that ``method`` makes of ``network``, move it to ``device``, and trace its FLOPs.

    Raises
    ------
    UserError
        If the network reads an attribute that a layer of the method does not have.
    """
    module = method.build(network, streams, task).to(device)
    if channels_last:
        module.to(memory_format=torch.channels_last)
    mean = method.mean(module)
    predictors = [mean] if mean else method.draws(module, 1, streams.fresh("evaluation"))
    try:
        costs.trace(module, task.input_shape, predictors)
    except AttributeError as error:
        exchanged = {type(part).__name__ for part in passes.modules(module)}
        if not any(f"{name!r} object" in str(error) for name in exchanged):
            raise
        reason = f"reads an attribute of a layer that the method has replaced ({error})"
        raise UserError(f"network {spec.network[0]}: {reason}") from None
    return module
