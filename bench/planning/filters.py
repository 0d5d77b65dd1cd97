"""Choosing rows by conditions: ``--where "sparsity>=0.9, method=ssvi|static_vi"``.

Conditions are joined by commas and must all hold. ``=`` and ``!=`` compare anything and
take alternatives (``a|b``: any of them); ``<``, ``<=``, ``>`` and ``>=`` compare numbers.
A row without the column equals nothing: ``=`` and the order fail there, ``!=`` holds.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.experiment.notation import parse_yaml, show, split
from methods.core.errors import UserError, unknown

WHERE = "--where"
_FORM = re.compile(r"([A-Za-z_][\w.]*)\s*(==|!=|<=|>=|=|<|>)\s*(.+)", re.DOTALL)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ABSENT = object()


@dataclass(frozen=True)
class Condition:
    """``column operator value``; several values are alternatives of ``=`` and ``!=``."""

    column: str
    operator: str
    values: tuple[Any, ...]
    text: str

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether ``row`` fulfils it; ``UserError`` where text would have to be ordered."""
        value = row.get(self.column, _ABSENT)
        if self.operator not in _ORDER:
            equal = any(_equal(value, wanted) for wanted in self.values)
            return equal if self.operator == "=" else not equal
        if value is _ABSENT or value is None:
            return False
        if not _is_number(value):
            raise UserError(
                f"{WHERE}: {self.text!r}: {self.column} is {show(value)!r} somewhere, "
                "which is no number; use = or !="
            )
        return _ORDER[self.operator](value, self.values[0])


def parse_where(items: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions in ``items``, each a comma-separated list of them."""
    texts = [text for item in items for text in split(item, ",", WHERE)]
    return tuple(_parse_condition(text) for text in texts)


def select(rows: Sequence[Mapping[str, Any]], conditions: Iterable[Condition]) -> list[bool]:
    """For each row whether all ``conditions`` hold.

    Raises ``UserError`` on a column that no row has and when nothing is left.
    """
    conditions = tuple(conditions)
    for condition in conditions:
        if not any(condition.column in row for row in rows):
            # dotted columns also go by a short name, which is enough to list
            columns = {column for row in rows for column in row if "." not in column}
            raise unknown("column", condition.column, columns, WHERE)
    chosen = [all(condition.holds(row) for condition in conditions) for row in rows]
    if conditions and not any(chosen):
        raise UserError(f"{WHERE}: {_nothing_left(rows, conditions)}")
    return chosen


def _parse_condition(text: str) -> Condition:
    match = _FORM.fullmatch(text)
    if not match:
        raise UserError(f"{WHERE}: {text!r} is no condition; write column, one of = != < <= > >=, value")
    column, sign, value = match.groups()
    sign = "=" if sign == "==" else sign
    values = tuple(_parse_value(part, text) for part in split(value, "|", WHERE))
    if sign in _ORDER and len(values) > 1:
        raise UserError(f"{WHERE}: {text!r}: alternatives (|) go with = and != only")
    if sign in _ORDER and not _is_number(values[0]):
        raise UserError(f"{WHERE}: {text!r}: {sign} compares numbers only; use = or != for text")
    return Condition(column, sign, values, text)


def _parse_value(part: str, text: str) -> Any:
    if not part:
        raise UserError(f"{WHERE}: {text!r}: a value is missing")
    return parse_yaml(part, f"{WHERE} {text!r}")


def _nothing_left(rows: Sequence[Mapping[str, Any]], conditions: Iterable[Condition]) -> str:
    for condition in conditions:
        if not any(condition.holds(row) for row in rows):
            values = dict.fromkeys(show(row[condition.column]) for row in rows if condition.column in row)
            return f"no cell fulfils {condition.text!r}; {condition.column} takes {', '.join(values)}"
    return f"no cell fulfils all of {', '.join(repr(condition.text) for condition in conditions)}"


def _equal(value: Any, wanted: Any) -> bool:
    # True equals 1 in Python, which is not what a reader of `flag=1` expects
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
