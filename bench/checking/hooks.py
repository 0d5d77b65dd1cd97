"""The hooks that a class overrides, as they are written: their names and what they can be called with."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

from bench.checking.blame import place_of
from bench.checking.outcomes import Failed
from methods.base import Method

HOOKS = tuple(
    name
    for name, value in vars(Method).items()
    if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod))
)
#: How alike two names are, from 0 to 1, of which one is the other misspelt.
_ALIKE = 0.82


def require_hooks(cls: type[Method]) -> None:
    """Raise ``Failed`` where a hook can't be called as it is, and where a name is nearly a hook's."""
    for name in HOOKS:
        _require_callable(cls, name)
    for name in _own(cls):
        alike = difflib.get_close_matches(name, HOOKS, n=1, cutoff=_ALIKE)
        if alike and not hasattr(Method, name):
            raise Failed(
                f"{name} is no hook, so that it would never be called: is {alike[0]} meant? A helper begins "
                f"with _{place_of(cls, name)}"
            )


def _own(cls: type[Method]) -> Iterator[str]:
    """Public functions of the class and of those that it is made from, ``Method`` and its bases left out."""
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
        raise Failed(f"{name} is {getattr(cls, name)!r}; it is a function")
    if of_class and not isinstance(written, classmethod | staticmethod):
        raise Failed(f"{name}: is asked of the class: @classmethod is missing{place_of(cls, name)}")
    # as it is called: of the class, or of an object, which is the first argument of a plain function
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
