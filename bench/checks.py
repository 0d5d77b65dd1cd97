"""What is promised of every method, and what became of it: the checks of ``bench.check``, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench import check_predictions, check_repeats, check_sizes
from bench.blame import tell
from bench.trial import Failed, Skipped, Trial
from methods.base import METHODS


@dataclass(frozen=True)
class Check:
    """name: one word. promise: what is held, in a sentence. look: returns what was found, or raises
    ``Failed`` or ``Skipped`` with the reason.
    """

    name: str
    promise: str
    look: Callable[[Trial], str]


@dataclass(frozen=True)
class Verdict:
    """What became of a check on one network: the figure, or the reason why not."""

    check: Check
    network: str
    outcome: Literal["pass", "FAIL", "skipped"]
    words: str


def examine(trial: Trial) -> Iterator[Verdict]:
    """Every check in order. An error of the method is a check that fails; without a run there is no other."""
    network, method = trial.spec.network[0], METHODS.get(trial.spec.method[0])
    broken = False
    for check in CHECKS:
        if broken:
            yield Verdict(check, network, "skipped", f"{CHECKS[0].name} failed")
            continue
        try:
            yield Verdict(check, network, "pass", check.look(trial))
        except Skipped as reason:
            yield Verdict(check, network, "skipped", str(reason))
        except Failed as reason:
            yield Verdict(check, network, "FAIL", str(reason))
            broken = check is CHECKS[0]
        except Exception as error:  # whatever a method of others does
            yield Verdict(check, network, "FAIL", tell(error, method))
            broken = check is CHECKS[0]


CHECKS = (
    Check("runs", "it trains, is scored and stored without an error", check_repeats.runs),
    Check(
        "determinism",
        "a seed fixes every bit of model and predictions, and another gives others",
        check_repeats.determinism,
    ),
    Check(
        "resume",
        "a run that is stopped and gone on with has the bits of one that was not",
        check_repeats.resume,
    ),
    Check(
        "predictions",
        "mean and draws give finite logits (N, classes) of each example alone",
        check_predictions.predictions,
    ),
    Check(
        "draws", "each draw is one fixed function, which a generator's state decides", check_predictions.draws
    ),
    Check(
        "density", "as many weights are active as is declared, and no others are used", check_sizes.density
    ),
    Check("costs", "declared FLOPs are what torch counts, at the density of each layer", check_sizes.flops),
    Check("state", "what training keeps is a few numbers an active weight", check_sizes.state),
    Check(
        "stored",
        "the stored model has the size of the active weights, and predicts the same",
        check_sizes.packed,
    ),
    Check("learning", "validation accuracy is above chance", check_predictions.learning),
)
