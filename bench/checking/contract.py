"""Check a method before it trains: its names, its hooks, and what these return."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import nn

from bench.checking.trial import Trial
from bench.checking.verdicts import Failed, place_of, tell
from bench.experiment import preflight
from bench.experiment.budget import planned_stages
from bench.planning.plan import canonical
from methods.base import METHODS, Batch, Equivalent, Method, Progress, Stage, Task
from methods.core.errors import UserError
from methods.core.streams import Streams

T = TypeVar("T")

#: Functions of ``Method`` that a method may replace.
HOOKS = tuple(
    name
    for name, value in vars(Method).items()
    if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))
)
#: Similarity, from 0 to 1, above which a name is taken for a misspelt hook.
_ALIKE = 0.82


def contract(trial: Trial) -> str:
    """Check that the hooks return, before training, what the contract says."""
    name, options = trial.spec.method
    cls = METHODS.get(name)
    _require_named(cls)
    require_hooks(cls)
    _ask("__init__", cls, lambda: cls(options))
    members = _ask("members", cls, trial.problem.method.members)
    if not _is_whole(members):
        raise Failed(f"members returns {members!r}; it must be how many networks build gets, 1 or more")
    _require_equivalent(trial, cls)
    stages = _planned(trial, cls)
    network = preflight.network(trial.spec)
    _ask("validate", cls, lambda: cls.validate(options, network))
    rehearse(trial)
    named = ", ".join(f"{stage.name} ({stage.epochs})" for stage in stages[:6])
    more = f", … {len(stages)} in all" if len(stages) > 6 else ""
    return f"stages, and their epochs: {named}{more}" + (f"; {members} members" if members > 1 else "")


def _require_named(cls: type[Method]) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", str(cls.name)):
        raise Failed(f"name is {cls.name!r}; valid: a to z, 0 to 9 and _")
    if not _is_whole(cls.version):
        raise Failed(f"version is {cls.version!r}; valid: whole numbers from 1")
    if not (vars(cls).get("__doc__") or "").strip():
        raise Failed(f"{cls.__name__} has no docstring; lists and figures show its first line")


def _ask(hook: str, method: type[Method], call: Callable[[], T]) -> T:
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise Failed(f"{hook}: {tell(error, method)}") from error


def _require_equivalent(trial: Trial, cls: type[Method]) -> None:
    same: Any = _ask("equivalent", cls, lambda: cls.equivalent(trial.spec.method[1]))
    if same is not None and not isinstance(same, Equivalent):
        raise Failed(f"equivalent returns {same!r}; it must be an Equivalent or None")
    _ask("equivalent", cls, lambda: canonical(trial.spec))


def _planned(trial: Trial, cls: type[Method]) -> list[Stage]:
    method, budget = trial.problem.method, trial.problem.budget
    found: Any = _ask("stages", cls, lambda: method.stages(budget))
    if not isinstance(found, list) or not all(isinstance(stage, Stage) for stage in found):
        raise Failed(f"stages returns {found!r}; it must be a list of Stages")
    try:
        stages = planned_stages(method, budget)
    except UserError as error:  # every run checks its stages in this way
        raise Failed(str(error)) from error
    for stage in stages:
        if stage.start == "rewind" and not 0 <= stage.rewind_to <= stages[0].epochs:
            raise Failed(
                f"stages: {stage.name!r} rewinds to epoch {stage.rewind_to} of the first stage, which has "
                f"{stages[0].epochs} epochs"
            )
    return stages


def _is_whole(value: Any) -> bool:
    """Return whether ``value`` is one of 1, 2, …"""
    return type(value) is int and value >= 1


def require_hooks(cls: type[Method]) -> None:
    """Check that each hook of ``cls`` can be called and no name is a misspelt hook; else raise ``Failed``."""
    for name in HOOKS:
        _require_callable(cls, name)
    for name in _own(cls):
        alike = difflib.get_close_matches(name, HOOKS, n=1, cutoff=_ALIKE)
        if alike and not hasattr(Method, name):
            raise Failed(
                f"{name} is not a hook, so it is never called: is {alike[0]} meant? A helper's name begins "
                f"with _{place_of(cls, name)}"
            )


def _own(cls: type[Method]) -> Iterator[str]:
    """Yield the names of public functions of the class and its bases, except those of ``Method``."""
    for base in cls.__mro__:
        if base not in Method.__mro__:
            for name, value in vars(base).items():
                is_function = inspect.isroutine(value) or isinstance(value, classmethod | staticmethod)
                if is_function and not name.startswith("_"):
                    yield name


def _require_callable(cls: type[Method], name: str) -> None:
    written: Any = inspect.getattr_static(cls, name)
    of_class = isinstance(inspect.getattr_static(Method, name), classmethod)
    if not callable(getattr(cls, name)):
        raise Failed(f"{name} is {getattr(cls, name)!r}; it must be a function")
    if of_class and not isinstance(written, classmethod | staticmethod):
        raise Failed(f"{name}: is called on the class: @classmethod is missing{place_of(cls, name)}")
    # the arguments of the real call: a plain function gets the object as its first one
    taken = inspect.signature(getattr(cls, name))
    given = list(inspect.signature(getattr(Method, name)).parameters)
    if not of_class:
        given = given[1:]
    bound = isinstance(written, classmethod | staticmethod)
    try:
        taken.bind(*([] if bound else ["self"]), *given)
    except TypeError:
        words = ", ".join(str(parameter) for parameter in taken.parameters.values())
        called = ", ".join(given if bound else ["self", *given])
        raise Failed(f"{name}: takes ({words}); it is called with ({called}){place_of(cls, name)}") from None


class _Over(Exception):
    """Ends the rehearsal once everything has been checked."""


def rehearse(trial: Trial) -> None:
    """Check that ``build`` and ``loss`` return what can be trained; raise ``Failed`` if they do not.

    Errors that they raise are ignored here; the check ``runs``, which comes next, reports them.
    """
    name, options = trial.spec.method
    asked = cast(Method, _Asked(METHODS.get(name)(options)))
    try:
        with torch.enable_grad():  # the caller may have disabled gradients
            trial.trainer("rehearsal", asked).run()
    except Failed:
        raise
    except (Exception, SystemExit):
        pass


class _Asked:
    """Takes the place of a method in training, checks what it returns, and ends with the first loss."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def build(self, network: nn.Module, streams: Streams, task: Task) -> nn.Module:
        """Return the module that the method builds, after checking it."""
        module: Any = self._method.build(network, streams, task)
        cls = type(self._method)
        place = place_of(cls, "build")
        if not isinstance(module, nn.Module):
            raise Failed(f"build returns {_words(module)}; it must be the nn.Module to train{place}")
        callers = [hook for hook in ("loss", "mean") if getattr(cls, hook) is getattr(Method, hook)]
        if callers and type(module).forward is nn.Module.forward:
            raise Failed(
                f"build returns a {type(module).__name__}, which has no forward, and {' and '.join(callers)} "
                f"of Method would call it{place}"
            )
        return module

    def loss(self, module: nn.Module, batch: Batch, progress: Progress) -> torch.Tensor:
        """Check the loss, then raise ``_Over``."""
        loss: Any = self._method.loss(module, batch, progress)
        if not isinstance(loss, torch.Tensor) or loss.dim() or not loss.requires_grad:
            place = place_of(type(self._method), "loss")
            raise Failed(f"loss returns {_words(loss)}; it must be a scalar tensor with a gradient{place}")
        raise _Over


def _words(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        gradient = "" if value.requires_grad else " without a gradient"
        return f"a tensor of shape {tuple(value.shape)}{gradient}"
    return " ".join(repr(value).split())[:80]
