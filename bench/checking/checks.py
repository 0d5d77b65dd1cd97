"""What is promised of every method, and what became of it: the checks of ``bench.check``, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.checking import contract, packing, predictions, repeats, sizes
from bench.checking.trial import Trial
from bench.checking.verdicts import Failed, Skipped, tell
from methods.base import METHODS


@dataclass(frozen=True)
class Check:
    """name: one word. promise: what is held, in a sentence. look: returns what was found, or raises
    ``Failed`` or ``Skipped`` with the reason. vital: there is nothing else to look at where it fails.
    """

    name: str
    promise: str
    look: Callable[[Trial], str]
    vital: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a check on one network: the figure, or the reason why not."""

    check: Check
    network: str
    outcome: Literal["pass", "FAIL", "skipped"]
    words: str


def examine(trial: Trial) -> Iterator[Verdict]:
    """Every check in order; an error of the method is a check that fails."""
    network, failed = trial.spec.network[0], ""
    for check in CHECKS:
        if failed:
            yield Verdict(check, network, "skipped", f"{failed} failed")
            continue
        verdict = _examine(trial, check)
        if verdict.outcome == "FAIL" and check.vital:
            failed = check.name
        yield verdict


def _examine(trial: Trial, check: Check) -> Verdict:
    network = trial.spec.network[0]
    try:
        return Verdict(check, network, "pass", check.look(trial))
    except Skipped as reason:
        return Verdict(check, network, "skipped", str(reason))
    except Failed as reason:
        return Verdict(check, network, "FAIL", str(reason))
    except (Exception, SystemExit) as error:  # whatever a method of others does
        return Verdict(check, network, "FAIL", tell(error, METHODS.get(trial.spec.method[0])))


CHECKS = (
    Check(
        "contract",
        "what is asked of it before it trains has the types and the meaning that methods/base.py says",
        contract.contract,
        vital=True,
    ),
    Check("runs", "it trains, is scored and stored without an error", repeats.runs, vital=True),
    Check(
        "determinism",
        "a seed fixes every bit of model and predictions, and another gives others",
        repeats.determinism,
    ),
    Check(
        "resume",
        "a run that is stopped and gone on with has the bits of one that was not",
        repeats.resume,
    ),
    Check(
        "predictions",
        "mean and draws give finite logits (N, classes) of each example alone",
        predictions.predictions,
    ),
    Check("draws", "each draw is one fixed function, which a generator's state decides", predictions.draws),
    Check("density", "as many weights are active as is declared, and no others are used", sizes.density),
    Check("costs", "declared FLOPs are what torch counts, at the density of each layer", sizes.flops),
    Check("state", "what training keeps is a few numbers an active weight", sizes.state),
    Check(
        "stored",
        "the stored model has the size of the active weights, and predicts the same",
        packing.packed,
    ),
    Check("learning", "validation accuracy is above chance", predictions.learning),
)
