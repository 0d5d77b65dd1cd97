"""Describe a plan as text: every cell with its status, why some are omitted, all settings, and the cost."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping

from bench.cli.describe_settings import describe_settings
from bench.planning.estimate import Estimate
from bench.planning.plan import Plan
from bench.results.words import counted

_WIDTH = 100


def describe_plan(plan: Plan, statuses: Mapping[str, str], estimate: Estimate) -> str:
    """Return ``plan`` as plain text for a terminal.

    Parameters
    ----------
    plan
        The plan.
    statuses
        Status by run id; a run that is not in it is ``pending``.
    estimate
        Estimated cost of the remaining runs.
    """
    lines = [f"{plan.suite}, scale {plan.scale}: {plan.question}", ""]
    lines.append(f"{'run':<12}  {'status':<9}  {'seed':>4}  cell")
    for cell, following in zip(plan.cells, [*plan.cells[1:], None], strict=True):
        run_id = cell.alias_of or cell.run_id
        status = "omitted" if cell.omitted else statuses.get(run_id, "pending")
        lines.append(f"{run_id:<12}  {status:<9}  {cell.spec.seed:>4}  {cell.label}")
        same_follows = following and (following.label, following.omitted) == (cell.label, cell.omitted)
        if cell.omitted and not same_follows:
            lines += _indented(cell.omitted)
    lines += ["", *describe_settings((cell.spec, cell.origins) for cell in plan.cells)]
    return "\n".join([*lines, "", *describe_cost(plan, statuses, estimate)])


def describe_cost(plan: Plan, statuses: Mapping[str, str], estimate: Estimate) -> list[str]:
    """Return lines with the numbers of cells and runs, and the estimated cost of the remaining runs."""
    counts = Counter(statuses.get(spec.run_id, "pending") for spec in plan.specs)
    omitted = len(plan.cells) - counts.total()
    by_status = ", ".join(f"{count} {status}" for status, count in counts.items())
    cells, runs = counted(len(plan.cells), "cell"), counted(counts.total(), "run")
    lines = [f"{cells}: {runs} ({by_status}), {omitted} omitted"]
    lines.append(f"about {_hours(estimate)} for the {counted(estimate.runs, 'run')} left")
    for sentence in estimate.basis:
        lines += textwrap.wrap(sentence, _WIDTH, initial_indent="- ", subsequent_indent="  ")
    return lines


def cost(estimate: Estimate) -> str:
    """Say in a few words how many runs there are, and what they cost."""
    return f"{counted(estimate.runs, 'run')}, about {_hours(estimate)}"


def _hours(estimate: Estimate) -> str:
    return " or ".join(f"{_rounded(hours)} {name}-hours" for name, hours in estimate.hours.items())


def _rounded(hours: float) -> str:
    """Format hours with two digits, or as whole hours from 100 on."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _indented(text: str) -> list[str]:
    margin = " " * 31
    return textwrap.wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=margin)
