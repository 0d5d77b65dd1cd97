"""List the checks that ``bench.check`` makes of a method, each with the promise that it verifies."""

from __future__ import annotations

from bench.checking import contract, packing, predictions, repeats, sizes
from bench.checking.trial import Trial
from bench.checking.verdicts import Check

CHECKS: tuple[Check[Trial], ...] = (
    Check(
        "contract",
        "before training, its hooks return what methods/base.py says",
        contract.contract,
        vital=True,
    ),
    Check("runs", "it trains, is scored and stored without an error", repeats.runs, vital=True),
    Check(
        "determinism",
        "a seed fixes every bit of the model and its predictions, and another seed gives others",
        repeats.determinism,
    ),
    Check(
        "resume",
        "a run that was stopped and resumed has the same bits as one that was not",
        repeats.resume,
    ),
    Check(
        "predictions",
        "mean and draws give finite logits (N, classes), the same for an example alone and among others",
        predictions.predictions,
    ),
    Check("draws", "each draw is one fixed function, set by the state of its generator", predictions.draws),
    Check("density", "the declared number of weights is active, and no others are used", sizes.density),
    Check("costs", "declared FLOPs are those that torch counts, at the density of each layer", sizes.flops),
    Check("state", "training keeps only a few numbers for each active weight", sizes.state),
    Check(
        "stored",
        "the stored model has the size of the active weights, and predicts the same",
        packing.packed,
    ),
    Check("learning", "validation accuracy is above chance", predictions.learning),
)
