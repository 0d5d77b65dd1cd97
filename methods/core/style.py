"""How figures and tables show methods and removal criteria."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NEVER_DOTTED = (
    *("hourglass", "bowtie", "circle-cross", "circle-x", "square-cross", "square-x", "diamond-cross"),
    *("diamond-x", "cross-thin", "x-thin", "asterisk", "y-up", "y-down", "y-left", "y-right"),
    *("line-ew", "line-ns", "line-ne", "line-nw", "arrow-up", "arrow-down", "arrow-left", "arrow-right"),
    *("arrow-bar-up", "arrow-bar-down", "arrow-bar-left", "arrow-bar-right", "arrow", "arrow-wide"),
)
_DOTTED = (
    *("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "triangle-left"),
    *("triangle-right", "triangle-ne", "triangle-se", "triangle-sw", "triangle-nw", "pentagon", "hexagon"),
    *("hexagon2", "octagon", "star", "hexagram", "star-triangle-up", "star-triangle-down", "star-square"),
    *("star-diamond", "diamond-tall", "diamond-wide", "hash"),
)
#: Markers that plotly can draw. Each also exists with the suffix ``-open``; those in ``_DOTTED`` also with
#: ``-dot`` and ``-open-dot``.
MARKERS = (*_DOTTED, *_NEVER_DOTTED)
DASHES = ("solid", "dot", "dash", "longdash", "dashdot", "longdashdot")


@dataclass(frozen=True)
class Style:
    """How figures and tables show a method or a criterion.

    Label, colours, marker and dash are the same on every page.

    Parameters
    ----------
    label
        Name in legends and tables, 1 to 80 characters.
    hue, hue_dark
        Colour on a light and on a dark background, ``#rrggbb``.
    marker, dash
        Marker and dash by plotly's names, from ``MARKERS`` and ``DASHES``.
    order
        Position in legends and tables, smallest first.

    Raises
    ------
    ValueError
        If a field is not valid.
    """

    label: str
    hue: str
    hue_dark: str
    marker: str = "circle"
    dash: str = "solid"
    order: int = 100

    def __post_init__(self) -> None:
        for name in ("hue", "hue_dark"):
            self._require(name, r"#[0-9A-Fa-f]{6}", "#rrggbb")
        plain = "|".join(MARKERS)
        marker = f"({plain})(-open)?|({'|'.join(_DOTTED)})(-open)?-dot"
        self._require("marker", marker, f"a name of plotly's, as {', '.join(MARKERS[:8])}")
        self._require("dash", "|".join(DASHES), f"a name of plotly's: {', '.join(DASHES)}")
        self._require("label", r".{1,80}", "a label of 1 to 80 characters")

    def _require(self, name: str, pattern: str, what: str) -> None:
        value = getattr(self, name)
        if not re.fullmatch(pattern, value) or not value.isprintable():
            raise ValueError(f"style {self.label!r}: {name}: {value!r} is not {what}")
