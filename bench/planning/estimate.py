"""Estimate what a plan costs: the hours that its remaining runs take on a core or a GPU."""

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
from bench.results.words import counted
from methods.core.errors import UserError

if TYPE_CHECKING:
    from bench.results.store import Store


@dataclass(frozen=True)
class Processor:
    """A kind of processor, with the rates to assume where nothing was measured on it.

    Parameters
    ----------
    name
        Name in messages.
    device
        Beginning of torch's names of such devices.
    cores
        Whether a run occupies one of them for each of its threads.
    flops_per_second
        FLOPs in a second.
    seconds_per_step
        Fixed time of a training step, beside its FLOPs, in seconds.
    seconds_per_run
        Fixed time of a run, in seconds.
    """

    name: str
    device: str
    cores: bool
    flops_per_second: float
    seconds_per_step: float
    seconds_per_run: float


#: The rates of a core were measured with small matrices. Those of a GPU are assumed: far below data sheets.
CORE = Processor("core", "cpu", True, 20e9, 1.5e-3, 1.0)
GPU = Processor("GPU", "cuda", False, 10e12, 10e-3, 10.0)
PROCESSORS = (CORE, GPU)
#: Most run folders to read for measured times.
_MOST_READ = 2000


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of the remaining runs of a plan.

    Parameters
    ----------
    runs
        Number of runs that are not done.
    hours
        Hours that they take on one kind of processor alone, by its name.
    basis
        Sentences that say what the hours are based on.
    """

    runs: int
    hours: dict[str, float]
    basis: tuple[str, ...]


def estimate(plan: Plan, store: Store | None) -> Estimate:
    """Estimate how long the remaining runs of ``plan`` take, on cores alone and on GPUs alone.

    The time of a step is measured where ``store`` has finished runs of the same data set, protocol,
    network, method, precision, batch size, number of samples and limit of steps on such a processor.
    Elsewhere it is computed from a count of FLOPs and an assumed rate.

    Parameters
    ----------
    plan
        Plan to estimate.
    store
        Results folder with the finished runs; None if there is none yet.
    """
    left = [spec for spec in plan.specs if not (store and _is_done(store, spec.run_id))]
    known, unknown = [], Counter[str]()
    for spec in left:
        try:
            preflight.training_flops(spec)
            known.append(spec)
        except (UserError, RuntimeError) as error:  # such a run fails when it is run, not here
            unknown[str(error)] += 1
    hours, basis = {}, []
    found = _measured(store, {_kind(spec.to_dict()) for spec in known}) if store else {}
    for processor in PROCESSORS:
        measured = found.get(processor.name, {})
        timed, guessed, seconds = 0, 0, 0.0
        for spec in known:
            rate = measured.get(_kind(spec.to_dict()))
            timed, guessed = timed + (rate is not None), guessed + (rate is None)
            seconds += _counted(spec, processor) if rate is None else rate * preflight.steps(spec)
        hours[processor.name] = seconds / 3600
        if timed:
            basis.append(
                f"{processor.name}-hours: {counted(timed, 'run')} by the time of finished runs with the "
                "same data, network and method"
            )
        if guessed:
            basis.append(
                f"{processor.name}-hours: {counted(guessed, 'run')} by a rough count: twice the training "
                f"FLOPs of the dense network at {processor.flops_per_second / 1e9:,g} GFLOP/s, "
                f"{processor.seconds_per_step * 1e3:g} ms a step and {processor.seconds_per_run:g} s a run"
            )
    basis += [
        f"{counted(count, 'run')} left out of the estimate: {reason}" for reason, count in unknown.items()
    ]
    return Estimate(len(left), hours, tuple(basis))


def expected_seconds(spec: RunSpec, on_gpu: bool) -> float:
    """Return the seconds that a run takes on one core or one GPU, by the rough count.

    For a run that cannot be built, only the fixed time of a run is returned.
    """
    processor = GPU if on_gpu else CORE
    try:
        return _counted(spec, processor)
    except (UserError, RuntimeError):
        return processor.seconds_per_run


def _counted(spec: RunSpec, processor: Processor) -> float:
    """Estimate the seconds of a run from its FLOPs.

    The factor 2 is for local reparameterisation, which contracts twice in each layer. Sparse layers are
    assumed to be as slow as dense ones.
    """
    steps = preflight.steps(spec)
    flops = 2 * preflight.training_flops(spec) * steps * spec.training.batch_size
    rate, step, run = processor.flops_per_second, processor.seconds_per_step, processor.seconds_per_run
    return flops / rate + steps * step + run


def _measured(store: Store, wanted: set[str]) -> dict[str, dict[str, float]]:
    """Return the seconds of a step by processor and kind: the median over finished runs of those kinds.

    A few runs are enough for a median. Of thousands, those whose ids come first are read; ids are hashes,
    so this is a random choice.
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
            continue  # the launcher reports broken folders; here they only give no measurement
    return {name: {kind: median(values) for kind, values in kinds.items()} for name, kinds in found.items()}


def _kind(config: Mapping[str, Any]) -> str:
    """Return a key that two runs share if the time of a step of one predicts that of the other."""
    sections = (config[key] for key in ("dataset", "protocol", "network"))
    recipe, samples = config["training"], config["evaluation"]["samples"]
    # the limit of steps matters: where training is cut short, the time before and after it weighs more
    rest = recipe.get("max_steps"), config["precision"], recipe["batch_size"], samples
    return json.dumps([*sections, config["method"]["name"], *rest], sort_keys=True)


def _is_done(store: Store, run_id: str) -> bool:
    try:
        return store.run(run_id).is_done()
    except StoreError:
        return False
