"""The check of a method before it trains: its names and hooks, and what these return."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from bench import blueprint
from bench.budget import planned_stages
from bench.checking.blame import tell
from bench.checking.hooks import require_hooks
from bench.checking.outcomes import Failed
from bench.checking.rehearsal import rehearse
from bench.checking.trial import Trial
from bench.plan import canonical
from methods.base import METHODS, Equivalent, Method, Stage
from methods.errors import UserError

T = TypeVar("T")


def contract(trial: Trial) -> str:
    """What is asked of a method before it trains has the types and the meaning that the contract says."""
    name, options = trial.spec.method
    cls = METHODS.get(name)
    _require_named(cls)
    require_hooks(cls)
    _ask("__init__", cls, lambda: cls(options))
    members = _ask("members", cls, trial.problem.method.members)
    if not _is_whole(members):
        raise Failed(f"members returns {members!r}; it is how many networks build is given, 1 or more")
    _require_equivalent(trial, cls)
    stages = _planned(trial, cls)
    network = blueprint.network(trial.spec)
    _ask("validate", cls, lambda: cls.validate(options, network))
    rehearse(trial)
    named = ", ".join(f"{stage.name} ({stage.epochs})" for stage in stages[:6])
    more = f", … {len(stages)} in all" if len(stages) > 6 else ""
    return f"stages, and their epochs: {named}{more}" + (f"; {members} members" if members > 1 else "")


def _require_named(cls: type[Method]) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", str(cls.name)):
        raise Failed(f"name is {cls.name!r}; it is made of a to z, 0 to 9 and _, as folders and keys are")
    if not _is_whole(cls.version):
        raise Failed(f"version is {cls.version!r}; it is a whole number, 1 at first")
    if not (vars(cls).get("__doc__") or "").strip():
        raise Failed(f"{cls.__name__} has no docstring; its first line is what lists and views say of it")


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
