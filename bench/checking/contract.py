"""The check of what a method is asked before anything trains: members, equivalent, stages, validate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from bench import blueprint
from bench.budget import planned_stages
from bench.checking.blame import tell
from bench.checking.outcomes import Failed
from bench.checking.trial import Trial
from bench.plan import canonical
from methods.base import METHODS, Equivalent, Method, Stage
from methods.errors import UserError

T = TypeVar("T")


def contract(trial: Trial) -> str:
    """What is asked of a method before it trains has the types and the meaning that the contract says."""
    name, options = trial.spec.method
    cls = METHODS.get(name)
    if not _is_whole(cls.version):
        raise Failed(f"version is {cls.version!r}; it is a whole number, 1 at first")
    _ask("__init__", cls, lambda: cls(options))
    members = _ask("members", cls, trial.problem.method.members)
    if not _is_whole(members):
        raise Failed(f"members returns {members!r}; it is how many networks build is given, 1 or more")
    _require_equivalent(trial, cls)
    stages = _planned(trial, cls)
    network = blueprint.network(trial.spec)
    _ask("validate", cls, lambda: cls.validate(options, network))
    named = ", ".join(f"{stage.name} ({stage.epochs})" for stage in stages[:6])
    more = f", … {len(stages)} in all" if len(stages) > 6 else ""
    return f"stages, and their epochs: {named}{more}" + (f"; {members} members" if members > 1 else "")


def _ask(hook: str, method: type[Method], call: Callable[[], T]) -> T:
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise Failed(f"{hook}: {tell(error, method)}") from error


def _require_equivalent(trial: Trial, cls: type[Method]) -> None:
    same: Any = _ask("equivalent", cls, lambda: cls.equivalent(trial.spec.method[1]))
    if same is not None and not isinstance(same, Equivalent):
        raise Failed(f"equivalent returns {same!r}; it is an Equivalent, or None")
    _ask("equivalent", cls, lambda: canonical(trial.spec))


def _planned(trial: Trial, cls: type[Method]) -> list[Stage]:
    method, budget = trial.problem.method, trial.problem.budget
    found: Any = _ask("stages", cls, lambda: method.stages(budget))
    if not isinstance(found, list) or not all(isinstance(stage, Stage) for stage in found):
        raise Failed(f"stages returns {found!r}; it is a list of Stages")
    try:
        stages = planned_stages(method, budget)
    except UserError as error:  # what they are is asked of every run
        raise Failed(str(error)) from error
    for stage in stages:
        if stage.start == "rewind" and not 0 <= stage.rewind_to <= stages[0].epochs:
            raise Failed(
                f"stages: {stage.name!r} rewinds to epoch {stage.rewind_to} of the first stage, which has "
                f"{stages[0].epochs}"
            )
    return stages


def _is_whole(value: Any) -> bool:
    """Whether it is one of 1, 2, …"""
    return type(value) is int and value >= 1
