"""Define options as frozen dataclasses whose fields are documented and validated.

Options of methods, data sets and networks, training settings and suites all use this module, so
that a wrong key or value gives the same kind of one-line error everywhere.

    @dataclass(frozen=True)
    class Options:
        sparsity: float = option(0.9, "share of the sparsifiable weights removed", within="[0, 1)")
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin

from methods.core.errors import UserError, meant, unknown
from methods.core.registry import Registry

T = TypeVar("T")

REQUIRED = dataclasses.MISSING
_NO_NEUTRAL = object()
_NUMBER = r"-?(?:inf|[0-9.]+(?:e-?[0-9]+)?)"
_INTERVAL = re.compile(rf"[\[(]{_NUMBER}, *{_NUMBER}[\])]")


def option(
    default: Any = REQUIRED,
    doc: str = "",
    *,
    within: str | None = None,
    choices: tuple[str, ...] | Mapping[str, str] | Registry[Any] | None = None,
    neutral: Any = _NO_NEUTRAL,
    hashed: bool = True,
) -> Any:
    """Declare a dataclass field with documentation and a check of its value.

    Parameters
    ----------
    default
        Default value; without one the option is required.
    doc
        One sentence that ``bench.list --options`` and the documentation show.
    within
        Interval of valid numbers in mathematical notation, for example ``"[0, 1)"`` or ``"(0, inf)"``.
    choices
        Valid values where the value is a string; or a mapping from them to what each means; or a registry,
        whose names are valid, plug-ins included. A registry is asked when a value is checked, so that a
        plug-in may import the module that declares the option.
    neutral
        For an option added when results already existed: the value that means the old behaviour.
        An option with this value is left out of the run id, so that earlier runs keep their ids.
    hashed
        Whether the option can change what a run computes. One that only asks for more is no part of the run:
        its value is neither in the id nor in the record of the run.

    Raises
    ------
    TypeError
        If ``within`` is not an interval, or ``default`` is not valid.
    """
    metadata: dict[str, Any] = {"doc": doc, "within": within, "choices": choices, "hashed": hashed}
    _require_declared(default, within, choices)
    if neutral is not _NO_NEUTRAL:
        metadata["neutral"] = neutral
    if isinstance(default, (dict, list)) or dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _require_declared(
    default: Any, within: str | None, choices: tuple[str, ...] | Mapping[str, str] | Registry[Any] | None
) -> None:
    """Raise ``TypeError`` if ``within`` is not an interval, or if the default is not valid."""
    if within is not None and not _INTERVAL.fullmatch(within):
        raise TypeError(f"option: within={within!r} is not an interval such as '[0, 1)' or '(0, inf)'")
    if isinstance(choices, Registry):
        choices = None  # a plug-in may be importing this module right now
    for value in default if isinstance(default, tuple) else (default,):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if (within and number and not inside(value, within)) or (
            choices and isinstance(value, str) and value not in choices
        ):
            raise TypeError(
                f"option: the default {value!r} is not valid: {within or ', '.join(choices or ())}"
            )


def parse(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build an instance of the dataclass ``cls`` from ``mapping``, and check keys, types and ranges.

    Parameters
    ----------
    cls
        Dataclass whose fields may be declared by ``option``.
    mapping
        Values by field name; fields that are missing take their defaults.
    where
        Place at which the mapping was written, for error messages.

    Raises
    ------
    UserError
        If a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    prefix = f"{where}: " if where else ""
    if not isinstance(mapping, Mapping):
        raise UserError(f"{prefix}expected a mapping, got {mapping!r}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    types_of = field_types(typing.cast("type", cls))
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in fields:
            raise unknown("key", key, fields, where)
        values[key] = _convert(value, types_of[key], f"{prefix}{key}")
        _check(fields[key], values[key], f"{prefix}{key}")
    for name, field in fields.items():
        if name not in values and field.default is REQUIRED and field.default_factory is REQUIRED:
            raise UserError(f"{prefix}missing key {name!r}")
    try:
        return cls(**values)
    except UserError as error:  # a class may check what depends on several options
        raise UserError(f"{prefix}{error}") from None


def names(cls: type) -> list[str]:
    """Return the names of the options of ``cls``, in order of declaration."""
    return [field.name for field in dataclasses.fields(cls)]


@cache
def without(cls: type, name: str) -> type:
    """Return a dataclass of the options of ``cls`` but ``name``; ``cls`` itself if it has no such option."""
    if name not in names(cls):
        return cls
    kept: list[tuple[str, Any, Any]] = []
    for found in dataclasses.fields(cls):
        copied: Any = dataclasses.field(default=found.default, metadata=found.metadata)
        if found.default_factory is not REQUIRED:
            copied = dataclasses.field(default_factory=found.default_factory, metadata=found.metadata)
        if found.name != name:
            kept.append((found.name, field_types(cls)[found.name], copied))
    return dataclasses.make_dataclass(cls.__name__, kept, frozen=True)


def declared_by(cls: type, name: str) -> type | None:
    """Return the class that declares the option ``name`` of ``cls``; None if there is no such option.

    That is ``cls`` itself, or the nearest class that it inherits the option from.
    """
    return next((base for base in cls.__mro__ if name in vars(base).get("__annotations__", ())), None)


def to_dict(instance: Any) -> dict[str, Any]:
    """Convert an options object to plain values: nested dicts, lists, numbers, strings, None."""
    plain = _plain(instance)
    assert isinstance(plain, dict)
    return plain


def unhashed(cls: type) -> list[str]:
    """Return the names of the options of ``cls`` that are no part of a run."""
    return [field.name for field in dataclasses.fields(cls) if not field.metadata.get("hashed", True)]


def recorded_dict(instance: Any) -> dict[str, Any]:
    """Convert an options object to the plain values that are part of a run; otherwise as ``to_dict``."""
    apart = unhashed(type(instance))
    return {name: value for name, value in to_dict(instance).items() if name not in apart}


def hashed_dict(instance: Any) -> dict[str, Any]:
    """Convert an options object to the plain values that enter the run id.

    Fields that have their declared neutral value, or are no part of a run, are left out; otherwise as
    ``to_dict``.
    """
    result = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if not field.metadata.get("hashed", True):
            continue
        if "neutral" in field.metadata and value == field.metadata["neutral"]:
            continue
        result[field.name] = hashed_dict(value) if dataclasses.is_dataclass(value) else _plain(value)
    return result


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option as ``bench.list`` and the documentation show it.

    Parameters
    ----------
    name
        Key of the option.
    type
        Type in words.
    default
        Default value; ``REQUIRED`` if there is none.
    doc
        What the option means.
    valid
        Interval or list of valid values; empty if any value of the type is valid.
    explained
        What each valid value means, where the option says it.
    """

    name: str
    type: str
    default: Any
    doc: str
    valid: str
    explained: Mapping[str, str]


def describe(cls: type) -> list[OptionInfo]:
    """Return every option of ``cls`` in order of declaration."""
    rows = []
    for field in dataclasses.fields(cls):
        default = field.default if field.default_factory is REQUIRED else field.default_factory()
        valid = ", ".join(filter(None, [*_choices(field), field.metadata.get("within")]))
        kind = _type_name(field_types(cls)[field.name])
        choices = field.metadata.get("choices")
        explained = choices if isinstance(choices, Mapping) else {}
        rows.append(OptionInfo(field.name, kind, default, field.metadata.get("doc", ""), valid, explained))
    return rows


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Return the resolved type of every field of ``cls``."""
    return typing.get_type_hints(cls)


def takes_list(cls: type, name: str) -> bool:
    """Return whether the option ``name`` of ``cls`` may be a list."""
    kind = field_types(cls)[name]
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return any(member is Any or get_origin(member) is tuple for member in members)


def registries(cls: type) -> dict[str, Registry[Any]]:
    """Return the options of ``cls`` whose valid values are the names of a registry, with that registry."""
    found = {field.name: field.metadata.get("choices") for field in dataclasses.fields(cls)}
    return {name: choices for name, choices in found.items() if isinstance(choices, Registry)}


def inside(value: float, interval: str) -> bool:
    """Return whether ``value`` lies in ``interval`` (such as ``"[0, 1)"``); always false for NaN."""
    low, high = (float(part) for part in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below


def _check(field: dataclasses.Field[Any], value: Any, where: str) -> None:
    within, choices = field.metadata.get("within"), _choices(field)
    for item in value if isinstance(value, tuple) else (value,):
        if choices and isinstance(item, str) and item not in choices:
            raise UserError(
                f"{where}: {item!r} is not valid{meant(item, choices)}; valid: {', '.join(choices)}"
            )
        if within and isinstance(item, (int, float)) and not inside(item, within):
            raise UserError(f"{where}: {item!r} lies outside {within}{_as_share(item, within)}")


def _as_share(value: float, interval: str) -> str:
    """Return a hint for a share that was written in percent, such as 95 for 0.95."""
    if not 2 <= value <= 100 or inside(1.5, interval) or not inside(value / 100, interval):
        return ""
    return f" (did you mean {value / 100:g}?)"


def _choices(field: dataclasses.Field[Any]) -> Sequence[str]:
    choices = field.metadata.get("choices") or ()
    return choices.names() if isinstance(choices, Registry) else tuple(choices)


def _convert(value: Any, kind: Any, where: str) -> Any:
    """Convert ``value`` to the type ``kind`` if nothing is lost (1 to 1.0, a list to a tuple)."""
    origin = get_origin(kind)
    if kind is Any or (
        origin is None and isinstance(kind, type) and isinstance(value, kind) and kind is not int
    ):
        return _finite(value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        members = [k for k in get_args(kind) if k is not type(None)]
        for member in members[:-1]:
            try:
                return _convert(value, member, where)
            except UserError:
                continue
        return _convert(value, members[-1], where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(v, get_args(kind)[0], where) for v in value)
    if origin is dict and isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{where}: must be finite, got {value!r}") from None
    if kind is int and not isinstance(value, bool):
        if isinstance(value, int):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return parse(typing.cast(type, kind), value, where)
    raise UserError(f"{where}: expected {_type_name(kind)}, got {value!r}")


def _finite(value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: must be finite, got {value!r}")
    # -0.0 becomes 0.0: the two are equal, but would give different run ids
    return 0.0 if isinstance(value, float) and value == 0 else value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _type_name(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if k is type(None) else _type_name(k) for k in args)
    if origin is tuple:
        return f"list of {_type_name(args[0])}"
    if dataclasses.is_dataclass(kind) or origin is dict:
        return "mapping"
    return {"str": "string", "int": "integer", "float": "number", "bool": "true or false"}.get(
        getattr(kind, "__name__", str(kind)), str(kind)
    )
