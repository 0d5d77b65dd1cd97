"""Read and check ``methods.json``, the names, colours and markers of methods beside the tables of a suite."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.results.files import StoreError, read_json

#: The file's name in the folder of a suite.
FILE = "methods.json"
_HUE = re.compile(r"#[0-9A-Fa-f]{6}")
_PLOTLY = re.compile(r"[a-z0-9-]{1,40}")
_LONGEST = 1000
_MOST_METHODS = 10_000
#: The type of each field, and the pattern that its whole text must match.
_FIELDS: dict[str, tuple[type, re.Pattern[str]]] = {
    "label": (str, re.compile(r".{1,80}")),
    "hue": (str, _HUE),
    "hue_dark": (str, _HUE),
    "marker": (str, _PLOTLY),
    "dash": (str, _PLOTLY),
    "order": (int, re.compile(r"-?\d{1,9}")),
    "doc": (str, re.compile(f".{{0,{_LONGEST}}}")),
    "version": (int, re.compile(r"\d{1,9}")),
}


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the styles of methods from the folder of a suite.

    The folder may come from somebody else, so that every field is checked.

    Parameters
    ----------
    folder
        Folder of the suite.

    Returns
    -------
    dict
        By name of the method: label, hue and hue_dark (``#rrggbb``), marker, dash, order, doc (one line) and
        version. Other fields are left out.

    Raises
    ------
    StoreError
        The file is missing, or a field has the wrong type, is too long or is not printable; the message
        names it.
    """
    path = folder / FILE
    found = read_json(path)
    if not isinstance(found, dict) or len(found) > _MOST_METHODS:
        raise StoreError(f"{path}: expected the styles of methods by name")
    return {_name(name, path): _style(style, f"{path}: {name}") for name, style in found.items()}


def one_line(text: str | None) -> str:
    """Return the first line of a docstring, cut to the length that ``read`` allows."""
    return (text or "").strip().partition("\n")[0][:_LONGEST]


def _name(name: str, path: Path) -> str:
    if not name.isprintable() or not 1 <= len(name) <= 80:
        raise StoreError(f"{path}: {name[:80]!r} is not a name of a method")
    return name


def _style(style: object, where: str) -> dict[str, Any]:
    if not isinstance(style, dict):
        raise StoreError(f"{where}: expected the style of a method, got {repr(style)[:60]}")
    for field, (kind, pattern) in _FIELDS.items():
        value = style.get(field)
        if type(value) is not kind or not str(value).isprintable() or not pattern.fullmatch(str(value)):
            raise StoreError(f"{where}: {field}: {repr(value)[:60]} is not valid")
    return {field: style[field] for field in _FIELDS}
