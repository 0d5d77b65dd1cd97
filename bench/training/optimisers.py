"""The optimiser of a recipe, and its learning rate over epochs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from bench.experiment.problem import Problem
from bench.experiment.settings import Training


def make_optimiser(problem: Problem, module: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser: scales in a group of their own, with their learning rate and no decay."""
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
    # fused: one call for all parameters, which for small layers takes a fraction of the time
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum, fused=True)
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(groups, momentum=recipe.momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser](groups, fused=True)


def schedule_factor(recipe: Training, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by in ``epoch`` of 1..``epochs``; a cosine nears 0 in the last."""
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
