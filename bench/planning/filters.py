"""Select rows by conditions: ``--where "sparsity>=0.9, method=ssvi|static_vi"``.

Conditions are separated by commas, and all of them must hold. ``=`` and ``!=`` compare any values and
take alternatives (``a|b``: any of them); ``<``, ``<=``, ``>`` and ``>=`` compare numbers.
If a row does not have the column, ``!=`` holds and all other conditions fail.
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
    """A condition on one column of a row.

    Parameters
    ----------
    column
        Name of the column.
    operator
        One of ``= != < <= > >=``.
    values
        The value to compare with; several are alternatives, for ``=`` and ``!=`` only.
    text
        The condition as written, for messages.
    """

    column: str
    operator: str
    values: tuple[Any, ...]
    text: str

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return whether ``row`` fulfils the condition.

        Raises
        ------
        UserError
            If the order of a value that is not a number is asked for.
        """
        value = row.get(self.column, _ABSENT)
        if self.operator not in _ORDER:
            equal = any(_equal(value, wanted) for wanted in self.values)
            return equal if self.operator == "=" else not equal
        if value is _ABSENT or value is None:
            return False
        if not _is_number(value):
            raise UserError(
                f"{WHERE}: {self.text!r}: {self.column} is {show(value)!r} in some cell, "
                "which is not a number; use = or !="
            )
        return _ORDER[self.operator](value, self.values[0])


def parse_where(items: Iterable[str]) -> tuple[Condition, ...]:
    """Parse conditions; each item is a comma-separated list of them.

    Raises
    ------
    UserError
        If the text of a condition is malformed.
    """
    texts = [text for item in items for text in split(item, ",", WHERE)]
    return tuple(_parse_condition(text) for text in texts)


def select(rows: Sequence[Mapping[str, Any]], conditions: Iterable[Condition]) -> list[bool]:
    """Return for each row whether all ``conditions`` hold.

    Raises
    ------
    UserError
        If no row has the column of a condition, or no row fulfils all conditions.
    """
    conditions = tuple(conditions)
    for condition in conditions:
        if not any(condition.column in row for row in rows):
            # columns with dotted names also have a short name; the message lists only that
            columns = {column for row in rows for column in row if "." not in column}
            raise unknown("column", condition.column, columns, WHERE)
    chosen = [all(condition.holds(row) for condition in conditions) for row in rows]
    if conditions and not any(chosen):
        raise UserError(f"{WHERE}: {_nothing_left(rows, conditions)}")
    return chosen


def _parse_condition(text: str) -> Condition:
    match = _FORM.fullmatch(text)
    if not match:
        raise UserError(f"{WHERE}: {text!r} is not a condition; write a column, = != < <= > or >=, a value")
    column, sign, value = match.groups()
    sign = "=" if sign == "==" else sign
    values = tuple(_parse_value(part, text) for part in split(value, "|", WHERE))
    if sign in _ORDER and len(values) > 1:
        raise UserError(f"{WHERE}: {text!r}: only = and != take alternatives (|)")
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
            return f"no cell fulfils {condition.text!r}; values of {condition.column}: {', '.join(values)}"
    return f"no cell fulfils all of {', '.join(repr(condition.text) for condition in conditions)}"


def _equal(value: Any, wanted: Any) -> bool:
    # Python says True == 1, but who writes `flag=1` does not mean `flag=true`
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
