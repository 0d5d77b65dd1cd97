"""LSTM and GRU in linear layers, one for each matrix of each gate, so that methods can convert them.

``nn.LSTM`` and ``nn.GRU`` read their weights without calling a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from methods.core import passes
from methods.core.errors import UserError
from methods.layers.attention import linear_of
from methods.layers.inventory import exchange, tied, would_lose

#: Gates in the order in which torch stacks their weights.
GATES = {nn.LSTM: ("i", "f", "g", "o"), nn.GRU: ("r", "z", "n")}

#: Hidden state (N, H) of a GRU; hidden and cell state of an LSTM.
State = Any
#: Pre-activations (N, H) by gate.
Gates = dict[str, torch.Tensor]


class Direction(nn.Module):
    """One layer of an LSTM or GRU in one direction: ``input`` and ``hidden`` hold a linear layer a gate."""

    def __init__(self, original: nn.LSTM | nn.GRU, suffix: str) -> None:
        super().__init__()
        gates = GATES[type(original)]

        def layers(kind: str) -> nn.ModuleDict:
            weights = getattr(original, f"weight_{kind}_{suffix}").chunk(len(gates))
            biases: Sequence[torch.Tensor | None] = [None] * len(gates)
            if original.bias:
                biases = getattr(original, f"bias_{kind}_{suffix}").chunk(len(gates))
            return nn.ModuleDict(dict(zip(gates, map(linear_of, weights, biases), strict=True)))

        self.input, self.hidden = layers("ih"), layers("hh")
        self.step = _lstm if isinstance(original, nn.LSTM) else _gru

    def forward(self, x: torch.Tensor, state: State, backwards: bool) -> tuple[torch.Tensor, State]:
        """Return the outputs (T, N, H) for inputs (T, N, features) and the last state."""
        steps = {gate: layer(x).unbind(0) for gate, layer in self.input.items()}
        outputs: list[torch.Tensor] = [x] * len(x)
        for time in reversed(range(len(x))) if backwards else range(len(x)):
            hidden = state[0] if isinstance(state, tuple) else state
            from_hidden = {gate: layer(hidden) for gate, layer in self.hidden.items()}
            outputs[time], state = self.step({g: s[time] for g, s in steps.items()}, from_hidden, state)
        return torch.stack(outputs), state


def _lstm(x: Gates, h: Gates, state: State) -> tuple[torch.Tensor, State]:
    i, f, g, o = (x[gate] + h[gate] for gate in GATES[nn.LSTM])
    cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * cell.tanh()
    return hidden, (hidden, cell)


def _gru(x: Gates, h: Gates, state: State) -> tuple[torch.Tensor, State]:
    reset, update = (x["r"] + h["r"]).sigmoid(), (x["z"] + h["z"]).sigmoid()
    new = (x["n"] + reset * h["n"]).tanh()
    hidden = (1 - update) * new + update * state
    return hidden, hidden


class Recurrent(nn.Module):
    """Computes ``nn.LSTM`` or ``nn.GRU`` from linear layers; a call has the signature and results of these.

    A noisy pass draws the weights once, for all time steps and all examples of the minibatch (Fortunato et
    al. 2017): one posterior sample is one recurrent network. Noise for each pre-activation would use other
    weights at each time step, which is not the model whose KL divergence is paid. In the same way, dropout
    has one mask for each example, the same at all time steps (Gal & Ghahramani 2016).

    Parameters
    ----------
    original
        Network whose weights and settings are copied.

    References
    ----------
    Fortunato, Blundell & Vinyals 2017, arXiv 1704.02798; Gal & Ghahramani 2016, arXiv 1512.05287.
    """

    def __init__(self, original: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.input_size, self.hidden_size = original.input_size, original.hidden_size
        self.num_layers, self.bidirectional = original.num_layers, original.bidirectional
        self.batch_first, self.dropout = original.batch_first, original.dropout
        self.has_cell = isinstance(original, nn.LSTM)
        self.directions = ("", "_reverse") if original.bidirectional else ("",)
        for number in range(original.num_layers):
            for direction in self.directions:
                suffix = f"l{number}{direction}"
                self.add_module(suffix, Direction(original, suffix))
        self.train(original.training)

    def forward(self, input: torch.Tensor, hx: State = None) -> tuple[torch.Tensor, State]:
        """Return outputs (T, N, directions * H) and last states (layers * directions, N, H).

        With ``batch_first`` inputs and outputs are (N, T, features); all tensors may come without N.

        Parameters
        ----------
        input
            Inputs (T, N, features).
        hx
            First states, by default 0: of an LSTM the hidden and the cell states.

        Raises
        ------
        UserError
            The input is a ``PackedSequence``.
        """
        if isinstance(input, PackedSequence):
            raise UserError(
                "a converted LSTM or GRU takes padded sequences, not a PackedSequence; "
                "network.convert=basic keeps them"
            )
        batched = input.dim() == 3
        time = int(self.batch_first) if batched else 0
        x = input.movedim(time, 0) if batched else input.unsqueeze(1)
        if hx is None:
            zeros = x.new_zeros(self.num_layers * len(self.directions), x.shape[1], self.hidden_size)
            hx = (zeros, zeros) if self.has_cell else zeros
        elif not batched:
            hx = tuple(part.unsqueeze(1) for part in hx) if self.has_cell else hx.unsqueeze(1)
        with passes.weights(draw) if (draw := self._draw(x.shape[1])) else nullcontext():
            x, last = self._layers(x, hx)
        if not batched:
            last = tuple(part.squeeze(1) for part in last) if self.has_cell else last.squeeze(1)
            return x.squeeze(1), last
        return x.movedim(0, time), last

    def _draw(self, examples: int) -> dict[nn.Module, torch.Tensor]:
        """Return what a noisy pass draws for the whole sequence, by module; nothing for other passes."""
        noise = passes.current().noise
        if noise is None:
            return {}
        return {part: part.sample_for_pass(noise, examples) for part in passes.modules(self)}

    def _layers(self, x: torch.Tensor, hx: State) -> tuple[torch.Tensor, State]:
        states = list(zip(*hx, strict=True)) if self.has_cell else list(hx)
        last: list[Any] = []
        for number in range(self.num_layers):
            if number and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for direction in self.directions:
                layer = self.get_submodule(f"l{number}{direction}")
                output, state = layer(x, states[len(last)], bool(direction))
                outputs.append(output)
                last.append(state)
            x = torch.cat(outputs, -1)
        if self.has_cell:
            return x, tuple(torch.stack(parts) for parts in zip(*last, strict=True))
        return x, torch.stack(last)

    def flatten_parameters(self) -> None:
        """Do nothing: there are no packed weights. Networks call this method of ``nn.LSTM``."""


def unroll(network: nn.Module) -> nn.Module:
    """Replace every LSTM and GRU without an ``obstacle`` by a ``Recurrent`` with its weights, in place.

    Returns the network.
    """
    shared = tied(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.LSTM | nn.GRU) and obstacle(module, shared) is None:
            network = exchange(network, name, Recurrent(module))
    return network


def obstacle(module: nn.RNNBase, shared: set[int]) -> str | None:
    """Return why a recurrent network cannot be converted; None if it can.

    Parameters
    ----------
    module
        Recurrent network.
    shared
        The ``id`` of every parameter that has several names.
    """
    kind = next((kind for kind in GATES if isinstance(module, kind)), None)
    if kind is None:
        return f"{type(module).__name__} is not LSTM or GRU"
    if (why := getattr(module, "why_kept", None)) is not None:
        return str(why)
    if type(module) is not kind or "forward" in vars(module):
        return f"{type(module).__name__} has a forward of its own"
    if any(id(parameter) in shared for parameter in module.parameters()):
        return "tied: used under several names"
    if parametrize.is_parametrized(module):
        return "its weights are computed from other parameters"
    if getattr(module, "proj_size", 0):
        return "LSTM with proj_size"
    if not all(parameter.requires_grad for parameter in module.parameters()):
        return "frozen"
    return would_lose(module)


def gates(network: nn.Module) -> set[nn.Module]:
    """Return the linear layers of all ``Recurrent`` parts of ``network``."""
    found = (part for part in network.modules() if isinstance(part, Recurrent))
    return {layer for part in found for layer in part.modules()}
