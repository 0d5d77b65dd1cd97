"""Put something in force wherever ``torch.utils.checkpoint`` computes a segment of a network again.

A checkpointed segment keeps none of its activations. The backward pass computes them again, when whatever
was in force during the forward pass has ended, and perhaps in another thread. torch brings back its own
random state and autocast, and offers no hook for anything else. So, while there is something to bring back,
this module stands in for the functions in which torch begins a segment.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

from torch.utils import checkpoint as torch_checkpoint

#: Called where a segment begins. What it returns makes the context in which the segment is computed: it is
#: called with False for the first computation, and with True for each later one. It is called for the first
#: one only if that is without gradients (``use_reentrant=True``).
Begin = Callable[[], Callable[[bool], AbstractContextManager[None]]]

#: Functions of ``torch_checkpoint`` that begin a segment with ``use_reentrant=False``; which of them is used
#: depends on torch's version. They call their first argument in the backward pass only.
_GENERATORS = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")

_begin: ContextVar[Begin | None] = ContextVar("begin of a checkpointed segment", default=None)
_lock = threading.Lock()
_users = 0
_replaced: dict[str, Any] = {}


@contextmanager
def segments(begin: Begin) -> Iterator[None]:
    """Call ``begin`` for each checkpointed segment that begins within the block, unless in an inner block."""
    token = _begin.set(begin)
    _stand_in()
    try:
        yield
    finally:
        _step_back()
        _begin.reset(token)


def _stand_in() -> None:
    global _users
    with _lock:
        _users += 1
        if _users > 1:
            return
        torch_checkpoint.CheckpointFunction.apply = classmethod(_apply)
        for name in _GENERATORS:
            if (original := getattr(torch_checkpoint, name, None)) is not None:
                _replaced[name] = original
                setattr(torch_checkpoint, name, functools.partial(_generate, original))


def _step_back() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users:
            return
        del torch_checkpoint.CheckpointFunction.apply  # that of torch.autograd.Function shows again
        while _replaced:
            setattr(torch_checkpoint, *_replaced.popitem())


def _apply(cls: type[torch_checkpoint.CheckpointFunction], function: Callable[..., Any], *args: Any) -> Any:
    begin = _begin.get()
    if begin is not None:
        function = _Segment(function, begin(), computed=False)
    return super(torch_checkpoint.CheckpointFunction, cls).apply(function, *args)


def _generate(original: Callable[..., Any], function: Callable[..., Any], *args: Any, **how: Any) -> Any:
    begin = _begin.get()
    if begin is not None:
        function = _Segment(function, begin(), computed=True)
    return original(function, *args, **how)


class _Segment:
    """A segment's function, called in the contexts that belong to it."""

    def __init__(
        self,
        function: Callable[..., Any],
        context: Callable[[bool], AbstractContextManager[None]],
        computed: bool,
    ) -> None:
        self._function, self._context, self._computed = function, context, computed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        again, self._computed = self._computed, True
        with self._context(again):
            return self._function(*args, **kwargs)
