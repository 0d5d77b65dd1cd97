"""What a plan will cost: hours of a core or a GPU for the runs still to be done, roughly, and from what."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.experiment import preflight
from bench.experiment.spec import RunSpec
from bench.planning.plan import Plan
from bench.results.files import StoreError
from methods.core.errors import UserError

if TYPE_CHECKING:
    from bench.results.store import Store


@dataclass(frozen=True)
class Processor:
    """What computes a run, and rates that are used where nothing was measured on it.

    device: how names of such devices begin. cores: whether a run takes as many as it has threads.
    """

    name: str
    device: str
    cores: bool
    flops_per_second: float
    seconds_per_step: float
    seconds_per_run: float


#: A core by small matrices, as measured; a GPU by an assumption: far below what its data sheet says.
CORE = Processor("core", "cpu", True, 20e9, 1.5e-3, 1.0)
GPU = Processor("GPU", "cuda", False, 10e12, 10e-3, 10.0)
PROCESSORS = (CORE, GPU)
#: Run folders that are looked into for times.
_MOST_READ = 2000


@dataclass(frozen=True)
class Estimate:
    """Hours of a processor for ``runs`` runs, by its name; ``basis`` says in sentences what they rest on."""

    runs: int
    hours: dict[str, float]
    basis: tuple[str, ...]


def estimate(plan: Plan, store: Store | None) -> Estimate:
    """What the runs of ``plan`` that ``store`` has not done take, on cores alone and on GPUs alone.

    From finished runs of the same data, protocol, network and method (and number of steps, where that
    is cut) on such a processor in ``store`` where there are any; elsewhere from a count of FLOPs and a rate.
    """
    left = [spec for spec in plan.specs if not (store and _is_done(store, spec.run_id))]
    known, unknown = [], Counter[str]()
    for spec in left:
        try:
            preflight.training_flops(spec)
            known.append(spec)
        except (UserError, RuntimeError) as error:  # what cannot be built fails when it is run, not here
            unknown[str(error)] += 1
    hours, basis = {}, []
    found = _measured(store, {_kind(spec.to_dict()) for spec in known}) if store else {}
    for processor in PROCESSORS:
        measured = found.get(processor.name, {})
        timed, counted, seconds = 0, 0, 0.0
        for spec in known:
            rate = measured.get(_kind(spec.to_dict()))
            timed, counted = timed + (rate is not None), counted + (rate is None)
            seconds += _counted(spec, processor) if rate is None else rate * preflight.steps(spec)
        hours[processor.name] = seconds / 3600
        if timed:
            basis.append(
                f"{processor.name}-hours: {timed} of them from the time of finished runs of the same data, "
                "network and method"
            )
        if counted:
            basis.append(
                f"{processor.name}-hours: {counted} of them from a rough count: twice the training FLOPs "
                f"of the dense network at {processor.flops_per_second / 1e9:,g} GFLOP/s, "
                f"{processor.seconds_per_step * 1e3:g} ms a step, {processor.seconds_per_run:g} s a run"
            )
    basis += [f"{count} of them left out: {reason}" for reason, count in unknown.items()]
    return Estimate(len(left), hours, tuple(basis))


def expected_seconds(spec: RunSpec, on_gpu: bool) -> float:
    """What a run takes on one core or a GPU, by the rough count; of what can't be built, the start alone."""
    processor = GPU if on_gpu else CORE
    try:
        return _counted(spec, processor)
    except (UserError, RuntimeError):
        return processor.seconds_per_run


def _counted(spec: RunSpec, processor: Processor) -> float:
    """Local reparameterisation contracts twice a layer; sparse layers run no faster than dense ones."""
    steps = preflight.steps(spec)
    flops = 2 * preflight.training_flops(spec) * steps * spec.training.batch_size
    rate, step, run = processor.flops_per_second, processor.seconds_per_step, processor.seconds_per_run
    return flops / rate + steps * step + run


def _measured(store: Store, wanted: set[str]) -> dict[str, dict[str, float]]:
    """Seconds of each processor a step, the median over finished runs of each kind that is wanted.

    A few runs tell the median: of thousands, those are read that come first by their ids, which are hashes.
    """
    found: dict[str, dict[str, list[float]]] = {processor.name: {} for processor in PROCESSORS}
    for run_id in store.run_ids()[:_MOST_READ] if wanted else ():
        try:
            folder = store.run(run_id)
            if not folder.is_done():
                continue
            spec, spent, how = (folder.read(name) or {} for name in ("spec", "costs", "provenance"))
            if (kind := _kind(spec["config"])) not in wanted:
                continue
            device, threads = how.get("device") or "cpu", how.get("threads") or 1
            for processor in PROCESSORS:
                if device.startswith(processor.device):
                    seconds = float(spent["wall_seconds"]) * (threads if processor.cores else 1)
                    if math.isfinite(rate := seconds / spent["steps_total"]) and rate > 0:
                        found[processor.name].setdefault(kind, []).append(rate)
        except (
            StoreError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            continue  # a folder that is broken is the launcher's to report; here it is no measurement
    return {name: {kind: median(values) for kind, values in kinds.items()} for name, kinds in found.items()}


def _kind(config: Mapping[str, Any]) -> str:
    """What runs must share for the time of a step of one to tell that of another."""
    sections = (config[key] for key in ("dataset", "protocol", "network"))
    recipe, samples = config["training"], config["evaluation"]["samples"]
    # where training is cut short, what comes before and after it weighs more
    rest = recipe.get("max_steps"), config["precision"], recipe["batch_size"], samples
    return json.dumps([*sections, config["method"]["name"], *rest], sort_keys=True)


def _is_done(store: Store, run_id: str) -> bool:
    try:
        return store.run(run_id).is_done()
    except StoreError:
        return False
