"""Networks with tensors that training collects, whose shapes are not known before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from methods.base import Predictor
from methods.layers.layer import is_statistic


class Collected(nn.Module):
    """Computes a network, and has buffers that are empty until training fills them.

    Subclasses register the buffers. Checkpoints and the stored model have them, and a module that was newly
    built loads them in any shape.

    Parameters
    ----------
    network
        Network that computes the logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.network(inputs)

    def trained(self) -> dict[str, torch.Tensor]:
        """Return the parameters that are trained, by name."""
        found = self.named_parameters()
        return {name: parameter for name, parameter in found if parameter.requires_grad}

    def statistics(self) -> dict[str, torch.Tensor]:
        """Return the running statistics of batch normalisation, by name."""
        found = self.named_buffers()
        return {name: b for name, b in found if is_statistic(name) and b.is_floating_point()}

    def vector(self) -> torch.Tensor:
        """Return a copy of the parameters that are trained and of the statistics, in one vector."""
        tensors = [*self.trained().values(), *self.statistics().values()]
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

    def predictor(self, vector: torch.Tensor) -> Predictor:
        """Return the network with the values of ``vector``, as a function from inputs to logits."""
        return self.with_tensors(self.tensors(vector))

    def tensors(
        self, vector: torch.Tensor, slots: Mapping[str, int] | None = None
    ) -> dict[str, torch.Tensor]:
        """Return the tensors of which ``vector`` was made, by name.

        Parameters
        ----------
        vector
            Result of ``vector()``.
        slots
            Numbers of slots, by the name of a parameter, where they were other ones than now.
        """
        shapes = {name: tensor.shape for name, tensor in (self.trained() | self.statistics()).items()}
        shapes |= {name: torch.Size((count,)) for name, count in (slots or {}).items()}
        parts = vector.split([shape.numel() for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Predictor:
        """Return the network with other tensors in place of its own, as a function from inputs to logits."""
        return lambda inputs: functional_call(self, dict(tensors), (inputs,))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.shape != buffer.shape:
                setattr(self, name, buffer.new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def due(number: int, length: int, count: int) -> bool:
    """Return whether step ``number`` (from 1) of ``length`` collects one of ``count``, at even distances.

    The last step does, and each step if ``count`` is not below ``length``.
    """
    return number * count // length > (number - 1) * count // length
