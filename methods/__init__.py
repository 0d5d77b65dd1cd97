"""The methods under comparison, a file each, and the names that a new method imports.

A plug-in needs one import line, such as ``from methods import Method, Style, option``. Names are loaded on
first use, so that importing this package does not load torch. No module of it imports ``bench`` or
``dashboard``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.base import (
        Batch,
        Budget,
        Context,
        Equivalent,
        Method,
        Predictor,
        Progress,
        Stage,
        Task,
        get,
        names,
        register,
    )
    from methods.core.errors import UserError
    from methods.core.options import option
    from methods.core.streams import Streams
    from methods.core.style import Style
    from methods.criteria.base import Criterion
    from methods.criteria.moments import Moments

__all__ = [
    "Batch",
    "Budget",
    "Context",
    "Criterion",
    "Equivalent",
    "Method",
    "Moments",
    "Predictor",
    "Progress",
    "Stage",
    "Streams",
    "Style",
    "Task",
    "UserError",
    "get",
    "names",
    "option",
    "register",
]

#: Exported names that ``methods.base`` does not define, and their modules.
_ELSEWHERE = {
    "Criterion": "methods.criteria.base",
    "Moments": "methods.criteria.moments",
    "Streams": "methods.core.streams",
    "Style": "methods.core.style",
    "UserError": "methods.core.errors",
    "option": "methods.core.options",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "methods.base")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
