"""Check whole runs: they finish, and give the same bits again, even if interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.checking.trial import OTHER_SEED, SEED, Trial, results
from bench.checking.verdicts import Failed, Skipped
from bench.training import packed_model


def runs(trial: Trial) -> str:
    """Check that a run trains, is scored and stored without an error."""
    costs = trial.first.read("costs") or {}
    return f"{costs['steps_total']} steps, {costs['epochs_total']} epochs in {costs['wall_seconds']:.1f} s"


def determinism(trial: Trial) -> str:
    """Check that a seed fixes every bit, and that another seed gives others."""
    found = results(trial.first)
    if (unequal := difference(found, results(trial.again))) is not None:
        raise Failed(
            f"a second run under seed {SEED}: {unequal}; draw from the run's streams (context.streams, "
            "progress.noise, the generator of draws), and keep no state in the class"
        )
    if trial.is_short:
        other = "no other seed was tried"
    else:
        other = "another seed gives another model"
        _require_other_model(found, results(trial.reseeded))
    arrays = sum(isinstance(value, np.ndarray) for value in found.values())
    return f"{arrays} arrays of two runs have the same bits; {other}"


def _require_other_model(*found: Mapping[str, Any]) -> None:
    models = [{name: each[name] for name in each if name.startswith(packed_model.MODEL)} for each in found]
    if difference(*models) is None:
        raise Failed(f"seeds {SEED} and {OTHER_SEED} give the same model: it does not depend on the seed")


def resume(trial: Trial) -> str:
    """Check that a run that was stopped and resumed has the same bits as one that was not."""
    if trial.is_short:
        raise Skipped("two steps have no checkpoint between them")
    found = results(trial.first)
    if difference(found, results(trial.again)) is not None:
        raise Skipped("runs differ without any interruption")
    interrupted = trial.interrupted
    if (unequal := difference(found, results(interrupted.folder))) is not None:
        raise Failed(
            f"{interrupted.words}: {unequal}; state belongs in the module, the optimiser or context.memory, "
            "which checkpoints store"
        )
    return f"{interrupted.words}: the same bits"


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the first difference between two ``results``, in words; None if all bits are equal."""
    for name in sorted(one.keys() ^ other.keys()):
        return f"{name} is in one and not in the other"
    for name, a in one.items():
        b = other[name]
        if not isinstance(a, np.ndarray):
            if a != b:
                return f"{name} differs"
        elif a.shape != b.shape or a.dtype != b.dtype:
            return f"{name} has shape {a.shape} in one and {b.shape} in the other"
        elif a.tobytes() != b.tobytes():
            largest = np.abs(a.astype(np.float64) - b.astype(np.float64)).max()
            return f"{name} differs (by {largest:.2g} at most)"
    return None
