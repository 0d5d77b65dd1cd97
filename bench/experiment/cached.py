"""What many runs share is computed once a process: one cache, by the parts of a run that decide it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from bench.experiment.spec import RunSpec

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class _Run:
    """A run, equal to every other whose ``key`` is the same."""

    key: str
    spec: RunSpec = field(compare=False)


def once_per(
    *sections: str,
) -> Callable[[Callable[Concatenate[RunSpec, P], T]], Callable[Concatenate[RunSpec, P], T]]:
    """Have a function of a run computed once for all runs that agree in ``sections`` of the configuration.

    sections: such as ``dataset`` or ``protocol``; the function may read no others. Its further arguments must
    be hashable, and are part of the key. An error is not kept. As with ``functools.cache``, the function has
    ``cache_clear()`` and ``cache_info()``.
    """

    def decorate(function: Callable[Concatenate[RunSpec, P], T]) -> Callable[Concatenate[RunSpec, P], T]:
        @cache
        def kept(run: _Run, *args: Any, **kwargs: Any) -> T:
            return function(run.spec, *args, **kwargs)

        @wraps(function)
        def cached(spec: RunSpec, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return kept(_Run(spec.key(*sections), spec), *args, **kwargs)  # type: ignore[arg-type]

        vars(cached).update(cache_clear=kept.cache_clear, cache_info=kept.cache_info)
        return cached

    return decorate
