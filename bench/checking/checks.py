"""List what every method promises, and check each promise."""

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
    """A promise of every method, and how it is checked.

    Parameters
    ----------
    name
        One word.
    promise
        What is promised, in a sentence.
    look
        Returns what was found; raises ``Failed`` or ``Skipped`` with the reason.
    vital
        Whether all later checks are skipped if this one fails.
    """

    name: str
    promise: str
    look: Callable[[Trial], str]
    vital: bool = False


@dataclass(frozen=True)
class Verdict:
    """The result of a check on one network.

    Parameters
    ----------
    check
        The check.
    network
        Name of the network.
    outcome
        ``pass``, ``FAIL`` or ``skipped``.
    words
        What was found, or the reason of the failure.
    """

    check: Check
    network: str
    outcome: Literal["pass", "FAIL", "skipped"]
    words: str


def examine(trial: Trial) -> Iterator[Verdict]:
    """Make every check in order; an error raised by the method is a failed check."""
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
    except (Exception, SystemExit) as error:  # any error of a method that others wrote
        return Verdict(check, network, "FAIL", tell(error, METHODS.get(trial.spec.method[0])))


CHECKS = (
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
