"""Choose the weights of a plain network that are active first, by its gradients before training.

All rules keep the weights of largest score. What they compute of dense size lives during the choice only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from methods.subspace import surgery
from methods.subspace.exchange import lowest_of_all
from methods.subspace.pruning import Quota

#: How the first subspace is chosen, with w the initial weights and L the loss of the first minibatch.
RULES = {
    "random": "uniformly at random",
    "snip": "largest |w dL/dw| (SNIP, Lee et al. 2019)",
    "grasp": "largest w (H dL/dw), with H the Hessian of L (GraSP, Wang et al. 2020)",
    "synflow": "largest |w dR/dw| in 100 rounds, with R the summed outputs of the network of |w|, without "
    "biases, for an input of ones (SynFlow, Tanaka et al. 2020)",
}
#: Rounds of SynFlow; the share that is kept falls by the same factor in each.
ROUNDS = 100

#: Weights by the name of their layer.
Weights = Mapping[str, torch.Tensor]
#: Computes the loss of a minibatch, a scalar.
Loss = Callable[[], torch.Tensor]


def choose(
    rule: str,
    network: nn.Module,
    weights: Mapping[str, nn.Parameter],
    loss: Loss,
    one: torch.Tensor,
    keep: Quota,
) -> dict[str, torch.Tensor]:
    """Return the flat coordinates to keep of each layer, sorted, int64, by one of ``RULES`` but ``random``.

    Parameters
    ----------
    rule
        Key of ``RULES``.
    network
        Plain network with its initial weights; changed.
    weights
        Weights of the network to choose from.
    loss
        Computes the loss of a minibatch with ``network``.
    one
        Input of one example, (1, *input_shape); only its shape and device matter.
    keep
        Numbers of weights to keep in each layer, or one number for all layers together.

    References
    ----------
    Lee, Ajanthan & Torr, ICLR 2019, arXiv 1810.02340 (SNIP).
    Wang, Zhang & Grosse, ICLR 2020, arXiv 2002.07376 (GraSP).
    Tanaka, Kunin, Yamins & Ganguli, NeurIPS 2020, arXiv 2006.05467 (SynFlow).
    """
    if rule == "synflow":
        kept = synflow(network, weights, one, keep)
    else:
        kept = largest((snip if rule == "snip" else grasp)(weights, loss), keep)
    return {name: chosen.nonzero().view(-1) for name, chosen in kept.items()}


def passes(rule: str, examples: int) -> int:
    """Return how many passes of a minibatch of ``examples`` a rule costs, each forward and backward.

    The second derivative of GraSP costs twice as much as the first.
    """
    return {"random": 0, "snip": 1, "grasp": 3, "synflow": math.ceil(ROUNDS / examples)}[rule]


def snip(weights: Mapping[str, nn.Parameter], loss: Loss) -> dict[str, torch.Tensor]:
    """Return |w dL/dw| of all weights."""
    gradients = torch.autograd.grad(loss(), [*weights.values()], allow_unused=True, materialize_grads=True)
    return {
        name: (weight.detach() * gradient).abs_()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def grasp(weights: Mapping[str, nn.Parameter], loss: Loss) -> dict[str, torch.Tensor]:
    """Return w (H g) of all weights, with gradient g and Hessian H of the loss in these weights.

    H g is the gradient of g · g', where g' is g held constant. The paper's scores have the other sign, and
    the lowest of them are kept.
    """
    values = [*weights.values()]
    with sdpa_kernel(SDPBackend.MATH):  # other kernels of attention have no second derivative
        gradients = torch.autograd.grad(
            loss(), values, create_graph=True, allow_unused=True, materialize_grads=True
        )
        square = torch.stack([(gradient * gradient.detach()).sum() for gradient in gradients]).sum()
        products = torch.autograd.grad(square, values, allow_unused=True, materialize_grads=True)
    return {
        name: weight.detach() * product
        for (name, weight), product in zip(weights.items(), products, strict=True)
    }


def synflow(
    network: nn.Module, weights: Mapping[str, nn.Parameter], one: torch.Tensor, keep: Quota
) -> dict[str, torch.Tensor]:
    """Return which weights SynFlow keeps, boolean, flat.

    It is computed in float64, as products over many layers are large or small, and in evaluation mode.
    """
    network.double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.abs_()
            if name.rsplit(".", 1)[-1] == "bias":
                parameter.zero_()
    ones = torch.ones_like(one, dtype=torch.float64)
    kept = {name: torch.ones(w.numel(), dtype=torch.bool, device=w.device) for name, w in weights.items()}
    for number in range(1, ROUNDS + 1):
        scores = snip(weights, lambda: network(ones).sum())
        for name, gone in kept.items():
            scores[name].view(-1)[~gone] = -1  # what is gone stays so, below weights of score 0
        kept = largest(scores, _quota(weights, keep, number / ROUNDS))
        with torch.no_grad():
            for name, weight in weights.items():
                weight.view(-1)[~kept[name]] = 0
    return kept


def largest(scores: Weights, keep: Quota) -> dict[str, torch.Tensor]:
    """Mark the weights of largest score, boolean, flat; of equal scores the last ones stay.

    If layers compete (``keep`` is a number), each keeps its best weight.
    """
    flat = {name: values.reshape(-1) for name, values in scores.items()}
    if isinstance(keep, int):
        excess = sum(values.numel() for values in flat.values()) - keep
        lowest = dict(zip(flat, lowest_of_all([*flat.values()], excess), strict=True))
    else:
        lowest = {name: surgery.lowest(values, values.numel() - keep[name]) for name, values in flat.items()}
    return {name: ~marked for name, marked in lowest.items()}


def _quota(weights: Weights, keep: Quota, share: float) -> Quota:
    """Return how many weights to keep when ``share`` of the rounds are done."""

    def then(size: int, end: int) -> int:
        return max(end, round(size * (end / size) ** share))

    if isinstance(keep, int):
        return then(sum(weight.numel() for weight in weights.values()), keep)
    return {name: then(weight.numel(), keep[name]) for name, weight in weights.items()}
