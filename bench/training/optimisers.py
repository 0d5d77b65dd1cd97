"""Make the optimiser of a recipe, and compute its learning rate over epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from bench.experiment.problem import Problem
from bench.experiment.settings import Training


def make_optimiser(problem: Problem, module: nn.Module) -> torch.optim.Optimizer:
    """Make the recipe's optimiser.

    The posterior scales form a group with their own learning rate and without weight decay.
    """
    recipe = problem.spec.training
    scales = problem.method.scale_parameters(module)
    known = {id(p) for p in scales}
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in module.parameters() if id(p) not in known],
            "lr": recipe.lr,
            "weight_decay": recipe.weight_decay,
        }
    ]
    if scales:
        lr = recipe.lr if recipe.lr_scale is None else recipe.lr_scale
        groups.append({"params": scales, "lr": lr, "weight_decay": 0.0})
    for group in groups:
        group["initial_lr"] = group["lr"]
    # `fused` makes one call for all parameters, which takes a fraction of the time if layers are small
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, fused=True)
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=recipe.momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser](groups, fused=True)


def schedule_factor(recipe: Training, epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate in an epoch.

    Parameters
    ----------
    recipe
        Settings of training; ``schedule`` is ``constant`` or ``cosine``.
    epoch
        Number of the epoch, from 1 to ``epochs``.
    epochs
        Length of training in epochs. A cosine starts at 1 and is close to 0 in the last epoch.
    """
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
