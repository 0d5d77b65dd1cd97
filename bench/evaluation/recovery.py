"""Compare the inputs that the first layer of a trained network uses with those that decide the classes."""

from __future__ import annotations

import torch
from torch import nn

from methods.layers.layer import VariationalLayer
from methods.layers.posterior import Slots


def scores(module: nn.Module, relevant: torch.Tensor, inputs: int) -> dict[str, float]:
    """Return how well a network has found the relevant inputs.

    Parameters
    ----------
    module
        The trained network.
    relevant
        Positions (k,) of the inputs that decide the classes.
    inputs
        Number p of inputs.

    Returns
    -------
    dict
        ``input_precision`` and ``input_recall`` of the inputs with an active weight, and
        ``input_average_precision`` of all inputs, ranked by the norms of their weights (``columns.yaml``
        defines them). Empty if no linear layer takes the inputs as they are.
    """
    found = first_layer(module, inputs)
    if found is None:
        return {}
    strength, used = (values.cpu() for values in found)
    truth = torch.zeros(inputs, dtype=torch.bool)
    truth[relevant] = True
    hits, count = int((truth & used).sum()), int(used.sum())
    return {
        "input_precision": hits / count if count else 0.0,
        "input_recall": hits / len(relevant),
        "input_average_precision": average_precision(strength, truth),
    }


@torch.no_grad()
def first_layer(module: nn.Module, inputs: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the norm of the weights of each input (p,), and whether it has an active weight, boolean (p,).

    Weights are those of the first linear layer that takes ``inputs`` numbers, by their expectations. None if
    there is no such layer. Slots are read as they are stored, so that nothing of the size of the layer is
    made.
    """
    for layer in module.modules():
        if isinstance(layer, VariationalLayer):
            posterior = layer.posterior
            if len(posterior.shape) != 2 or posterior.shape[1] != inputs:
                continue
            values = posterior.expected
            if isinstance(posterior, Slots):
                column = posterior.index.long() % inputs
                squares = values.new_zeros(inputs).index_add_(0, column, values.square())
                return squares.sqrt(), column.bincount(minlength=inputs) > 0
        elif isinstance(layer, nn.Linear) and layer.in_features == inputs:
            values = layer.weight
        else:
            continue
        return values.norm(dim=0), (values != 0).any(0)
    return None


def average_precision(strength: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the mean, over the true entries, of the precision down to them in order of ``strength``.

    Equal strengths count together, as in scikit-learn's ``average_precision_score``: the order of ties, such
    as among inputs without a weight, would be chance.

    Parameters
    ----------
    strength
        Numbers (p,), largest first.
    truth
        Boolean (p,), true at least once.
    """
    levels, place = strength.double().unique(return_inverse=True)
    count = place.bincount(minlength=len(levels)).flip(0)
    hits = place[truth].bincount(minlength=len(levels)).flip(0)
    precision = hits.cumsum(0).double() / count.cumsum(0)
    return float((precision * hits).sum() / hits.sum())
