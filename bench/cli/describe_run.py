"""Describe one run as text before it is trained: its id, settings, parameters, and the cost of a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn

from bench.cli.describe_settings import describe_settings
from bench.data.base import Split, Splits
from bench.experiment import preflight
from bench.experiment.execution import Execution
from bench.experiment.problem import problem_of
from bench.experiment.spec import RunSpec
from bench.results.words import counted
from methods.core.streams import Streams
from methods.layers import execution
from methods.layers.parameter_report import Row, report

_HEADER = ("parameter", "shape", "weights", "kind", "active", "reason")
_NUMBERS = (2, 4)


def preview(
    spec: RunSpec, how: Execution = Execution(), origins: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return a description of a run as plain text for a terminal.

    Its module is built, but not trained. No data is loaded, unless the data set does not know its sizes.

    Parameters
    ----------
    spec
        The run.
    how
        How it would be computed.
    origins
        Where its settings that are not a default are from, by full key.
    """
    nothing = Split(torch.empty(0), torch.empty(0, dtype=torch.long))
    task = preflight.task(spec)
    problem = problem_of(spec, Splits(nothing, None, nothing, task.classes), task, how)
    module = problem.build(Streams(spec.seed))
    counts = problem.method.counts(module)
    inference, step = (problem.method.flops(module, event) for event in ("inference", "step"))
    facts = {
        "parameters": f"{counts.kernel + counts.other:,}, {counts.active + counts.other:,} of them active",
        "density": f"{counts.density:.6g} ({counts.active:,} of {counts.kernel:,} kernel weights)",
        "execution": _execution(module),
        "FLOPs per example": f"{inference:,.0f} for inference, {step:,.0f} for a training step",
    }
    head = f"run {spec.run_id}: {spec.method[0]} on {spec.network[0]}, {spec.dataset[0]}, seed {spec.seed}"
    if spec.training.budget != "epochs":
        epochs, nominal = problem.budget.epochs, spec.training.epochs
        most = ", the most that is allowed" if epochs == spec.training.budget_cap * nominal else ""
        facts["budget"] = (
            f"{spec.training.budget}: {counted(epochs, 'epoch')}, {epochs / nominal:.4g} x {nominal}{most}"
        )
    settings = describe_settings([(spec, origins)])
    return "\n".join(
        [head, "", *settings, "", *_table(report(module)), "", *(f"{k}: {v}" for k, v in facts.items())]
    )


def _execution(module: nn.Module) -> str:
    ways = Counter(execution.report(module).values())
    return (
        "; ".join(f"{counted(count, 'layer')} {way}" for way, count in ways.items())
        or "dense: no variational layer"
    )


def _table(rows: list[Row]) -> list[str]:
    cells = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if place in _NUMBERS else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _cells(row: Row) -> tuple[str, ...]:
    shape = "x".join(map(str, row.shape)) or "scalar"
    return row.name, shape, f"{row.size:,}", row.kind, f"{row.active:,}", row.reason
