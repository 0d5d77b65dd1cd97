"""Write names beside the marks that they name, where they cover neither marks nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

from bench.figures.parts.chart import Look, translucent

#: Widths in pixels of the same plot on a usual screen and on a phone, which share one figure.
_WIDTHS = (850.0, 265.0)
_LETTER, _LINE, _SIZE = 6.3, 15.0, 12
#: Distance of a name from its mark, and half the width of a mark with its whiskers.
_AWAY, _MARK = 11.0, 7.0
#: Steps up and down that are tried, in lines.
_STEPS = sorted(range(-16, 17), key=abs)


@dataclass(frozen=True)
class Label:
    """A name and the mark that it belongs to.

    Parameters
    ----------
    text
        The name, escaped.
    x, y
        Place of the mark on its axes, as annotations take it (of a logarithmic axis, the logarithm).
    colour
        Colour of the name's leader.
    """

    text: str
    x: float
    y: float
    colour: str


@dataclass(frozen=True)
class Area:
    """The part of the axes that a plot shows, and its height in pixels."""

    left: float
    right: float
    bottom: float
    top: float
    height: float

    def pixels(self, x: float, y: float, width: float) -> tuple[float, float]:
        """Return a place in pixels from the lower left corner, for a plot ``width`` pixels wide."""
        return (
            width * (x - self.left) / (self.right - self.left),
            self.height * (y - self.bottom) / (self.top - self.bottom),
        )


_Box = tuple[float, float, float, float]


def beside(
    labels: Sequence[Label], taken: Sequence[tuple[float, float, float]], area: Area, look: Look
) -> list[dict[str, Any]]:
    """Place each name left or right of its mark, and as far above or below it as needed, with a leader.

    Parameters
    ----------
    labels
        The names.
    taken
        Places of marks: x, and the lower and upper ends of the whiskers.
    area
        The plot.
    look
        Colours.

    Returns
    -------
    list of dict
        Annotations, without ``xref`` and ``yref``.
    """
    marks = [[_whisker(area, width, *mark) for mark in taken] for width in _WIDTHS]
    placed: list[list[_Box]] = [[] for _ in _WIDTHS]
    found = []
    for label in sorted(labels, key=lambda each: (-each.y, each.x)):
        size = _LETTER * len(unescape(label.text))
        options: list[tuple[float, int, int, int, list[_Box]]] = []
        for side in (1, -1):
            for step in _STEPS:
                boxes = [_box(area, width, label, size, side, step) for width in _WIDTHS]
                cost = sum(
                    40 * _outside(box, area, width) + sum(4 * _shared(box, other) for other in others)
                    + sum(_shared(box, mark) for mark in around)
                    for box, width, others, around in zip(boxes, _WIDTHS, placed, marks, strict=True)
                )  # fmt: skip
                options.append((cost + 25 * abs(step) + (side < 0), len(options), side, step, boxes))
        _, _, side, step, boxes = min(options, key=lambda option: option[:2])
        for others, box in zip(placed, boxes, strict=True):
            others.append(box)
        found.append(
            {
                "x": label.x, "y": label.y, "text": label.text, "showarrow": True, "arrowhead": 0,
                # without a step there is no room for a leader, and no need
                "arrowwidth": 1, "arrowcolor": translucent(label.colour, 0.7 if step else 0.0),
                "standoff": _MARK, "ax": side * _AWAY, "ay": -step * _LINE,
                "xanchor": "left" if side > 0 else "right", "yanchor": "middle",
                "font": {"size": _SIZE, "color": look.ink},
            }
        )  # fmt: skip
    return found


def _box(area: Area, width: float, label: Label, size: float, side: int, step: int) -> _Box:
    x, y = area.pixels(label.x, label.y, width)
    start, middle = x + side * _AWAY, y + step * _LINE
    ends = sorted((start, start + side * size))
    return ends[0], ends[1], middle - _LINE / 2, middle + _LINE / 2


def _whisker(area: Area, width: float, x: float, low: float, high: float) -> _Box:
    across, down = area.pixels(x, low, width)
    _, up = area.pixels(x, high, width)
    return across - _MARK, across + _MARK, down - _MARK, up + _MARK


def _shared(one: _Box, other: _Box) -> float:
    """Return the area in pixels that two boxes share."""
    across = min(one[1], other[1]) - max(one[0], other[0])
    along = min(one[3], other[3]) - max(one[2], other[2])
    return max(across, 0.0) * max(along, 0.0)


def _outside(box: _Box, area: Area, width: float) -> float:
    """Return the area in pixels of the part of a box that is outside the plot."""
    whole = (box[1] - box[0]) * (box[3] - box[2])
    return whole - _shared(box, (0.0, width, 0.0, area.height))
