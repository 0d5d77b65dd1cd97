"""The methods under comparison. Knows nothing of ``bench`` or ``dashboard``."""

from methods.base import Method, get, names, register
from methods.core.errors import UserError

__all__ = ["Method", "UserError", "get", "names", "register"]
