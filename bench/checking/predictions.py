"""Check the predictions of a trained network: logits, fixed draws, and that it has learnt."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy import stats

from bench.checking.trial import Trial, results
from bench.checking.verdicts import Failed, Skipped
from bench.training.packed_model import is_extra
from methods.base import Predictor

#: Probability with which a network that guesses passes the check `learning`.
LUCK = 1e-6


@torch.no_grad()
def predictions(trial: Trial) -> str:
    """Check for finite logits (N, classes), which do not depend on the other examples."""
    module, inputs, classes = trial.trained.module, trial.inputs(), trial.problem.task.classes
    everything = []
    for name, predict in trial.predictors(module).items():
        logits = predict(inputs)
        if not isinstance(logits, torch.Tensor):
            raise Failed(f"{name} gives {type(logits).__name__}, not a tensor of logits")
        if logits.shape != (len(inputs), classes):
            expected = (len(inputs), classes)
            raise Failed(
                f"{name} gives shape {tuple(logits.shape)} for {len(inputs)} examples, not {expected}"
            )
        if not logits.isfinite().all():
            raise Failed(f"{name} gives logits that are not finite")
        everything.append(logits.double())
    mean = trial.problem.method.mean(module)
    if mean is not None:
        if not torch.equal(mean(inputs), mean(inputs)):
            raise Failed("the mean network gives other logits when it is called again")
        _require_alone("the mean network", mean, inputs)
    kinds = (
        {"the mean network": everything[:1], "draws": everything[1:]}
        if mean is not None
        else {"draws": everything}
    )
    for kind, found in kinds.items():
        _require_logits(kind, torch.cat(found))
    _require_distributions(trial)
    draws = len(everything) - (mean is not None)
    names = ("the mean network and " if mean is not None else "") + (
        "1 draw" if draws == 1 else f"{draws} draws"
    )
    return f"finite logits of {classes} classes by {names}"


def _require_logits(kind: str, found: torch.Tensor) -> None:
    if (found >= 0).all():
        sums = found.sum(1)
        is_whole = torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
        raise Failed(
            f"{kind}: probabilities, not logits ({'rows sum to 1' if is_whole else 'none is negative'}): "
            "the benchmark applies the softmax itself"
        )


def _require_distributions(trial: Trial) -> None:
    for name, array in results(trial.first).items():
        if name.endswith("/probabilities"):
            off = np.abs(array.sum(1) - 1).max()
            if array.shape != (len(trial.problem.splits.test), trial.problem.task.classes) or not off < 1e-4:
                raise Failed(f"{name}: shape {array.shape}, sums of rows up to {off:.2g} off 1")


def _require_alone(name: str, predict: Predictor, inputs: torch.Tensor) -> None:
    """Require the same logits for an example alone and among others, up to rounding."""
    whole = predict(inputs)
    for row in (0, len(inputs) // 2, len(inputs) - 1):
        alone = predict(inputs[row : row + 1])[0]
        off, scale = float((alone - whole[row]).abs().max()), float(whole.abs().max())
        if not off <= 1e-4 * max(scale, 1e-3):
            raise Failed(
                f"{name} gives an example other logits alone than among {len(inputs)} (by {off:.2g}): is "
                "batch normalisation in training mode, or is noise drawn for each example?"
            )


@torch.no_grad()
def draws(trial: Trial) -> str:
    """Check that each draw is one fixed function, set by the state of its generator."""
    module, inputs = trial.trained.module, trial.inputs()
    before = copy.deepcopy(dict(module.state_dict()))
    found, made = [], []
    for number, draw in enumerate(trial.draws(module), start=1):
        made.append(draw)
        found.append(draw(inputs))
        if not torch.equal(draw(inputs), found[-1]):
            raise Failed(
                f"draw {number} gives other logits when it is called again: a draw is one fixed function, so "
                "draw its sample before it is yielded"
            )
        _require_alone(f"draw {number}", draw, inputs)
    if not found:
        raise Failed(f"draws yields none for {trial.spec.evaluation.samples} samples")
    for number, (draw, logits) in enumerate(zip(made, found, strict=True), start=1):
        if not torch.equal(draw(inputs), logits):
            raise Failed(
                f"draw {number} gives other logits once all are made: give each its own sample, and do not "
                "change the module"
            )
    again = [draw(inputs) for draw in trial.draws(module)]
    if len(again) != len(found) or not all(map(torch.equal, again, found)):
        raise Failed("another generator of the same state gives other draws: draw all samples from it")
    after = module.state_dict()
    for name, value in before.items():
        if not is_extra(name) and not torch.equal(after[name], value):
            raise Failed(f"drawing changes {name} of the module")
    different = len({logits.numpy().tobytes() for logits in found})
    return f"fixed functions: {len(found)}, different ones: {different}"


def learning(trial: Trial) -> str:
    """Check that validation accuracy is above chance."""
    if trial.is_short:
        raise Skipped("nothing is learnt in two steps")
    val = trial.problem.splits.val
    if val is None:
        raise Skipped("there are no validation data")
    rows = (trial.first.read("metrics") or {})["metrics"]
    here = {"predictor": "samples", "split": "val", "metric": "accuracy"}
    accuracy = [row["value"] for row in rows if here.items() <= row.items()][-1]
    guess = float(torch.bincount(val.labels).max()) / len(val)
    needed = stats.binom.isf(LUCK, len(val), guess) / len(val)
    words = f"validation accuracy {accuracy:.3f} after {trial.cost('epochs_total')} epochs"
    if accuracy <= needed:
        raise Failed(f"{words}; guessing gives {guess:.2g}, and up to {needed:.2g} by luck")
    return f"{words}; guessing gives {guess:.2g}"
