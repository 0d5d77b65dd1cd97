"""Read and check ``methods.json`` and ``criteria.json``: names, colours, markers and words for views."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results.files import StoreError, read_json

_LONGEST = 1000
_MOST_ENTRIES = 10_000
_HUE = re.compile(r"#[0-9A-Fa-f]{6}")
_PLOTLY = re.compile(r"[a-z0-9-]{1,40}")
_LINE = re.compile(r".{1,300}")
#: The type of each field, and the pattern that its whole text must match.
_LOOKS: dict[str, tuple[type, re.Pattern[str]]] = {
    "label": (str, re.compile(r".{1,80}")),
    "hue": (str, _HUE),
    "hue_dark": (str, _HUE),
    "marker": (str, _PLOTLY),
    "dash": (str, _PLOTLY),
    "order": (int, re.compile(r"-?\d{1,9}")),
    "doc": (str, re.compile(f".{{0,{_LONGEST}}}")),
    "version": (int, re.compile(r"\d{1,9}")),
}


@dataclass(frozen=True, eq=False)
class StyleFile:
    """The file of the styles of all methods, or of all criteria.

    Parameters
    ----------
    file
        Its name in the folder of a suite.
    kind
        What it describes, for error messages.
    fields
        The type of each field, and the pattern that its whole text must match.
    """

    file: str
    kind: str
    fields: Mapping[str, tuple[type, re.Pattern[str]]]

    def read(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Read the styles from the folder of a suite.

        The folder may come from somebody else, so that every field is checked.

        Parameters
        ----------
        folder
            Folder of the suite.

        Returns
        -------
        dict
            The fields of each method or criterion, by name; hues are ``#rrggbb``. Other fields are left out.

        Raises
        ------
        StoreError
            The file is missing, or a field has the wrong type, is too long or is not printable; the message
            names it.
        """
        path = folder / self.file
        found = read_json(path)
        if not isinstance(found, dict) or len(found) > _MOST_ENTRIES:
            raise StoreError(f"{path}: expected the styles of {self.kind} by name")
        return {
            self._name(name, path): self._entry(entry, f"{path}: {name}") for name, entry in found.items()
        }

    def _name(self, name: str, path: Path) -> str:
        if not name.isprintable() or not 1 <= len(name) <= 80:
            raise StoreError(f"{path}: {name[:80]!r} is not a name of {self.kind}")
        return name

    def _entry(self, entry: object, where: str) -> dict[str, Any]:
        if not isinstance(entry, dict):
            raise StoreError(f"{where}: expected the style of {self.kind}, got {repr(entry)[:60]}")
        for field, (kind, pattern) in self.fields.items():
            value = entry.get(field)
            if type(value) is not kind or not str(value).isprintable() or not pattern.fullmatch(str(value)):
                raise StoreError(f"{where}: {field}: {repr(value)[:60]} is not valid")
        return {field: entry[field] for field in self.fields}


METHODS = StyleFile("methods.json", "methods", _LOOKS)
#: ``ranks_as`` is empty if a criterion ranks as no other. ``latex`` has no dollars and backticks, so that it
#: can't end the formula in which a page sets it.
CRITERIA = StyleFile(
    "criteria.json",
    "criteria",
    {
        **_LOOKS,
        "formula": (str, _LINE),
        "latex": (str, re.compile(r"[^$`]{1,300}")),
        "source": (str, _LINE),
        "ranks_as": (str, re.compile(r".{0,80}")),
    },
)
FILES = (METHODS, CRITERIA)


def one_line(text: str | None) -> str:
    """Return the first line of a docstring, cut to the length that ``read`` allows."""
    return (text or "").strip().partition("\n")[0][:_LONGEST]
