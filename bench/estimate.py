"""What a plan will cost: core-hours of the runs that are still to be done, roughly, and from what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import blueprint
from bench.files import StoreError
from bench.plan import Plan
from bench.spec import RunSpec
from methods.errors import UserError

if TYPE_CHECKING:
    from bench.store import Store

#: Used where nothing was measured yet: small matrices on one CPU core.
FLOPS_PER_SECOND = 20e9
SECONDS_PER_STEP = 1.5e-3
SECONDS_PER_RUN = 1.0


@dataclass(frozen=True)
class Estimate:
    """``core_hours`` for ``runs`` runs; ``basis`` says in sentences what the figure rests on."""

    runs: int
    core_hours: float
    basis: tuple[str, ...]


def estimate(plan: Plan, store: Store | None) -> Estimate:
    """Core-hours of the runs of ``plan`` that ``store`` has not done.

    From finished runs of the same data set, protocol, network and method in ``store`` where there
    are any (their median seconds an epoch); elsewhere from a count of FLOPs and a rate.
    """
    measured = _seconds_per_epoch(store) if store else {}
    left = [spec for spec in plan.specs if not (store and _is_done(store, spec.run_id))]
    seconds, timed, counted = 0.0, 0, 0
    unknown: Counter[str] = Counter()
    for spec in left:
        rate = measured.get(_kind(spec.to_dict()))
        try:
            seconds += _counted_seconds(spec) if rate is None else rate * spec.training.epochs
        except (UserError, RuntimeError) as error:  # what cannot be built fails when it is run, not here
            unknown[str(error)] += 1
            continue
        timed, counted = timed + (rate is not None), counted + (rate is None)
    basis = []
    if timed:
        basis.append(f"{timed} of them from the time of finished runs of the same data, network and method")
    if counted:
        basis.append(
            f"{counted} of them from a rough count: twice the training FLOPs of the dense network at "
            f"{FLOPS_PER_SECOND / 1e9:g} GFLOP/s, {SECONDS_PER_STEP * 1e3:g} ms a step, "
            f"{SECONDS_PER_RUN:g} s a run"
        )
    basis += [f"{count} of them left out: {reason}" for reason, count in unknown.items()]
    return Estimate(len(left), seconds / 3600, tuple(basis))


def _counted_seconds(spec: RunSpec) -> float:
    """Local reparameterisation contracts twice a layer; sparse layers run no faster than dense ones."""
    examples = blueprint.task(spec).examples * spec.training.epochs
    steps = examples / spec.training.batch_size
    flops = 2 * blueprint.training_flops(spec) * examples
    return flops / FLOPS_PER_SECOND + steps * SECONDS_PER_STEP + SECONDS_PER_RUN


def _seconds_per_epoch(store: Store) -> dict[str, float]:
    """Core-seconds an epoch of finished runs, the median over those of a kind."""
    found: dict[str, list[float]] = {}
    for run_id in store.run_ids():
        try:
            folder = store.run(run_id)
            spec, spent, how = (folder.read(name) or {} for name in ("spec", "costs", "provenance"))
            if folder.is_done():
                seconds = spent["wall_seconds"] * (how.get("threads") or 1)
                found.setdefault(_kind(spec["config"]), []).append(
                    seconds / spec["config"]["training"]["epochs"]
                )
        except (StoreError, KeyError, TypeError, ZeroDivisionError):
            continue  # a folder that is broken is the launcher's to report; here it is no measurement
    return {kind: median(values) for kind, values in found.items()}


def _kind(config: Mapping[str, Any]) -> str:
    kind = [config["dataset"], config["protocol"], config["network"], config["method"]["name"]]
    return json.dumps(kind, sort_keys=True)


def _is_done(store: Store, run_id: str) -> bool:
    try:
        return store.run(run_id).is_done()
    except StoreError:
        return False
