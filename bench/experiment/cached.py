"""Cache what several runs share, by the sections of their configuration on which it depends."""

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
    """A run as a key of the cache: equal to all runs with the same ``key``."""

    key: str
    spec: RunSpec = field(compare=False)


def once_per(
    *sections: str,
) -> Callable[[Callable[Concatenate[RunSpec, P], T]], Callable[Concatenate[RunSpec, P], T]]:
    """Return a decorator that caches the results of a function of a run in this process.

    The first argument of the function is a ``RunSpec``; all others must be hashable and are part of the key.
    An exception is not cached. As with ``functools.cache``, the decorated function has ``cache_clear()`` and
    ``cache_info()``.

    Parameters
    ----------
    *sections
        Sections of the configuration on which the result depends, such as ``dataset`` or ``protocol``. Runs
        that agree in them share one result, so the function may read no others.
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
