"""Read the range of one key of a search, and map numbers in [0, 1) to its values.

A range is written as ``{log: [0.01, 1]}``, ``{uniform: [0, 0.5]}`` or a list of choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.experiment.notation import show
from methods.core.errors import UserError

FORMS = "{log: [low, high]}, {uniform: [low, high]} or a list of choices"
#: Significant digits of a value. It is rounded before it is tried, so that files show exactly what was tried.
_DIGITS = 3


@dataclass(frozen=True)
class Range:
    """The values that one key may take.

    Parameters
    ----------
    key
        The key as it was written, short or full.
    kind
        ``log``, ``uniform`` or ``choices``.
    values
        Both ends, or the choices.
    """

    key: str
    kind: str
    values: tuple[Any, ...]

    def at(self, share: float, whole: bool = False) -> Any:
        """Return the value at ``share`` of the range, rounded to three significant digits.

        Parameters
        ----------
        share
            Position in the range, in [0, 1).
        whole
            Whether to round to a whole number instead.
        """
        if self.kind == "choices":
            return self.values[int(share * len(self.values))]
        low, high = self.values
        value = low * (high / low) ** share if self.kind == "log" else low + (high - low) * share
        if whole:
            return round(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), float(low)), float(high))

    def __str__(self) -> str:
        values = show(self.values)
        return f"{self.key} {values}" if self.kind == "choices" else f"{self.key} {self.kind} {values}"


def parse_range(key: str, written: Any, where: str) -> Range:
    """Parse the range of ``key``; raise ``UserError`` if it has no known form."""
    place = f"{where}: {key}"
    if isinstance(written, list):
        return Range(key, "choices", _choices(written, place))
    if isinstance(written, Mapping) and len(written) == 1 and next(iter(written)) in ("log", "uniform"):
        ((kind, ends),) = written.items()
        return Range(key, str(kind), _ends(str(kind), ends, place))
    raise UserError(f"{place}: {show(written)} is not a range; valid: {FORMS}")


def _choices(written: list[Any], place: str) -> tuple[Any, ...]:
    shown = [show(value) for value in written]
    if len(set(shown)) < max(len(shown), 2):
        raise UserError(f"{place}: {show(written)}: give two or more different choices")
    return tuple(written)


def _ends(kind: str, ends: Any, place: str) -> tuple[float, float]:
    if not isinstance(ends, list) or len(ends) != 2 or not all(_is_finite(end) for end in ends):
        raise UserError(f"{place}: {kind}: expected [low, high], got {show(ends)}")
    low, high = ends
    if not low < high:
        raise UserError(f"{place}: {kind}: {show(low)} is not below {show(high)}")
    if kind == "log" and low <= 0:
        raise UserError(f"{place}: log: {show(low)} has no logarithm; both ends must be above 0")
    return low, high


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
