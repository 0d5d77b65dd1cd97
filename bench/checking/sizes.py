"""Check the costs of a method: active weights, FLOPs, and the state of training."""

from __future__ import annotations

from functools import partial

import torch

from bench.checking.held import numbers_held
from bench.checking.probe import weights_used
from bench.checking.trial import Trial
from bench.checking.verdicts import Failed
from bench.checking.watched import FlopCounter
from methods.layers import convert, costs
from methods.subspace import allocation

#: Numbers that training may keep for an active weight: value, scale and inclusion, two moments of each, its
#: position, and two for the method. At the sparsity of the checks, one dense tensor has 20 for each.
HELD_PER_WEIGHT = 12
#: The same for each other parameter: its value, two moments, two running statistics.
HELD_PER_OTHER = 5
#: Largest relative difference of values that are equal up to rounding.
ROUNDING = 1e-9


def _declared(trial: Trial) -> int | None:
    """Return the number of active weights that the option ``sparsity`` asks for; None without that option."""
    method = trial.problem.method
    sparsity = getattr(method.options, "sparsity", None)
    if sparsity is None:
        return None
    kernels = convert.sparsifiable(trial.plain, getattr(method.options, "keep_dense", ()))
    dense = costs.counts(trial.plain).kernel - sum(shape.numel() for shape in kernels.values())
    return method.members() * (dense + allocation.total(kernels, sparsity))


@torch.no_grad()
def density(trial: Trial) -> str:
    """Check that the declared number of weights is active, and that no others are used."""
    module, method = trial.trained.module, trial.problem.method
    counts, whole = method.counts(module), method.members() * costs.counts(trial.plain).kernel
    if counts.kernel != whole:
        raise Failed(f"counts has {counts.kernel} kernel weights, the network {whole}")
    declared = _declared(trial)
    if declared is not None and counts.active != declared:
        sparsity = method.options.sparsity
        raise Failed(
            f"{counts.active} weights are active; sparsity {sparsity} declares {declared} of {whole}"
        )
    for place in trial.trained.unflagged:
        raise Failed(f"{place}; set context.pruned = True then, as sparse kernels depend on it")
    words = f"{counts.active} of {whole} weights active, {counts.density:.4g}"
    if counts.active == whole:
        return f"{words}: all, as declared"
    inputs = trial.inputs(2)
    most = 0
    for name, predict in trial.predictors(module).items():
        used = weights_used(trial.plain, module, partial(predict, inputs))
        most = max(most, sum(used.values()))
        if sum(used.values()) > counts.active:
            raise Failed(
                f"{name} uses {sum(used.values())} weights, found from its layers' outputs; counts says "
                f"{counts.active} ({', '.join(f'{layer} {n}' for layer, n in used.items())})"
            )
    if not most:
        return f"{words}; which are used is not known, as its layers are named unlike the network's"
    return f"{words}; no predictor uses more than {most}"


@torch.no_grad()
def flops(trial: Trial) -> str:
    """Check that declared FLOPs are those that torch counts, at the density of each layer."""
    module, method, steps = trial.trained.module, trial.problem.method, trial.trained.steps
    share, inputs = method.counts(module).density, trial.inputs(8)
    inference = method.flops(module, "inference")
    passes: dict[str, list[float]] = {}
    for name, predict in trial.predictors(module).items():
        with FlopCounter() as counter:
            _, forward = counter.forward(module, partial(predict, inputs))
        kind = "a draw" if name.startswith("draw") else name
        passes.setdefault(kind, []).append(forward.sparse(module, share) / len(inputs))
    for name, each in passes.items():
        found = sum(each) / len(each)  # members of an ensemble may differ
        if not _near(found, inference):
            raise Failed(
                f"{name}: {found:.6g} FLOPs an example counted, at the layers' densities; "
                f"flops says {inference:.6g} for inference"
            )
    for step in steps:
        counted, at = step.counted, f"step {step.number} of stage {step.stage!r}"
        if counted is None:
            continue
        if not _near(step.declared, counted.expected):
            raise Failed(
                f"{at}: three times the forward pass of the loss is {counted.expected:.6g} FLOPs an example, "
                f"at the layers' densities; flops says {step.declared:.6g} for a step"
            )
        if counted.passes > step.passes * (1 + ROUNDING):
            raise Failed(
                f"{at}: took {counted.passes:.3g} forward and backward passes; its events ("
                f"{', '.join(step.events)}) count {step.passes}: use context.extra_pass for more passes"
            )
    spent, stated = sum(step.examples * step.spent for step in steps), trial.cost("train_flops")
    if not _near(spent, stated):
        raise Failed(f"train_flops is {stated:.6g}, the sum over the steps {spent:.6g}")
    return f"inference {inference:.4g}, the last step {steps[-1].declared:.4g} FLOPs an example, as counted"


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= ROUNDING * max(abs(a), abs(b))


def state(trial: Trial) -> str:
    """Check that training keeps only a few numbers for each active weight."""
    trained, counts = trial.trained, trial.problem.method.counts(trial.trained.module)
    held = numbers_held(trained.module, trained.optimiser, trained.memory, trial.problem.method)
    total = sum(held.values())
    declared = _declared(trial)
    active = counts.active if declared is None else declared
    own = trial.problem.method.held_per_weight()
    limit = (HELD_PER_WEIGHT + own) * active + (HELD_PER_OTHER + own) * counts.other + 100
    if total > limit:
        largest = sorted(held, key=lambda name: -held[name])[:3]
        is_whole = sum(parameter.numel() for parameter in trained.module.parameters()) >= counts.kernel
        hint = "; zeroed weights are still there: use slots (methods/families/sparse.py)"
        raise Failed(
            f"{total} numbers are kept from step to step; {active} active weights allow {limit}: "
            f"{', '.join(f'{name} ({held[name]})' for name in largest)}, ...{hint if is_whole else ''}"
        )
    return f"{total / max(counts.active, 1):.2f} numbers an active weight are kept from step to step"
