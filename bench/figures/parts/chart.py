"""What every chart has: a title that asks, its data, how they were computed, the same looks everywhere."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

Mode = Literal["light", "dark"]

#: Ink, softer ink, grid and background, by mode. Text has a contrast of at least 4.5 : 1 on the background.
INK = {"light": "#1F2328", "dark": "#E6E6E6"}
SOFT = {"light": "#57606A", "dark": "#A8B0BA"}
GRID = {"light": "#E3E6EA", "dark": "#30363D"}
BACKGROUND = {"light": "#FFFFFF", "dark": "#0E1117"}
#: One hue for what is neither a method nor ink, such as a claimed region.
ACCENT = {"light": "#0B7285", "dark": "#4FD1E0"}
FONT = '"Source Sans", "Segoe UI", Helvetica, Arial, sans-serif'
BAND_ALPHA = 0.18
#: Of a method that nobody gave looks: plain grey, and every time the same.
_PLAIN = {"light": "#6E7781", "dark": "#9BA4AE"}
#: Plotly's marker symbols that have a filled and a hollow form, and its dashes.
_SYMBOL = re.compile(
    r"circle|square|diamond(-tall|-wide)?|cross|x|triangle-(up|down|left|right|ne|se|sw|nw)|pentagon|hexagon2?"
    r"|octagon|star(-triangle-up|-triangle-down|-square|-diamond)?|hexagram|hourglass|bowtie"
)
_DASHES = ("solid", "dot", "dash", "longdash", "dashdot", "longdashdot")
_TOKEN = re.compile(r"(?<!\S)([\w.]{1,200})=(\[[^\]]*\]|\{[^}]*\}|\S+)")


#: What seeds stand for, said below charts with intervals over them.
SEEDS = (
    "Seeds vary the training, and where data have no official test part (digits) the split too; an interval "
    "says nothing of other data sets."
)


class Missing(Exception):
    """There is nothing to draw: what is missing, and what would bring it, in words for a reader."""


@dataclass(frozen=True)
class Chart:
    """A figure with what belongs to it.

    title: the question that it answers. data: what is drawn, a row a mark. how: how the numbers were
    computed, Markdown. alt: what it shows, in a sentence, for those who can't see it.
    """

    title: str
    figure: go.Figure
    data: pd.DataFrame
    how: str
    alt: str


@dataclass(frozen=True)
class Look:
    """How methods are shown, the same in every chart. styles: as ``Store.read_styles`` has them."""

    mode: Mode = "light"
    styles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def name(self, method: str) -> str:
        """The method's name for readers, as it is: for tables, and text that is escaped as a whole."""
        return str(self.styles.get(method, {}).get("label", method))

    def label(self, method: str) -> str:
        """The method's name for readers, to stand in a figure."""
        return escaped(self.name(method))

    def colour(self, method: str) -> str:
        """The method's colour in this mode."""
        key = "hue" if self.mode == "light" else "hue_dark"
        return str(self.styles.get(method, {}).get(key, _PLAIN[self.mode]))

    def marker(self, method: str, hollow: bool = False) -> str:
        """The method's plotly marker symbol, filled or hollow; a circle where it names none that there is."""
        name = str(self.styles.get(method, {}).get("marker", "circle"))
        name = name.removesuffix("-dot").removesuffix("-open")
        return f"{name if _SYMBOL.fullmatch(name) else 'circle'}{'-open' if hollow else ''}"

    def dash(self, method: str) -> str:
        """The method's plotly line dash; dots where it names none that there is."""
        name = str(self.styles.get(method, {}).get("dash", "dot"))
        return name if name in _DASHES else "dot"

    def ordered(self, methods: Iterable[str]) -> list[str]:
        """``methods``, each once, in the order in which all charts have them."""
        return sorted(set(methods), key=lambda name: (self.styles.get(name, {}).get("order", 10**6), name))

    @property
    def ink(self) -> str:
        """The colour of text."""
        return INK[self.mode]

    @property
    def soft(self) -> str:
        """The colour of what stands back: rules, minor text."""
        return SOFT[self.mode]

    @property
    def accent(self) -> str:
        """The colour of what is pointed at."""
        return ACCENT[self.mode]

    def figure(self, height: int = 440, legend: bool = True) -> go.Figure:
        """An empty figure in the house's looks; height in pixels."""
        axis = {
            "gridcolor": GRID[self.mode], "linecolor": self.soft, "zeroline": False, "showline": True,
            "ticks": "outside", "tickcolor": self.soft, "tickangle": 0, "automargin": True,
            "tickfont": {"size": 13, "color": self.ink}, "title": {"font": {"size": 14, "color": self.ink}},
        }  # fmt: skip
        return go.Figure(
            layout={
                "height": height,
                "font": {"family": FONT, "size": 13, "color": self.ink},
                "paper_bgcolor": "rgba(0,0,0,0)",
                "plot_bgcolor": "rgba(0,0,0,0)",
                "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
                "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
                "showlegend": legend,
                "modebar": {
                    "bgcolor": "rgba(0,0,0,0)", "color": self.soft, "activecolor": self.ink,
                },
                # below the plot, where no curve is
                "legend": {
                    "orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0,
                    "font": {"size": 13, "color": self.ink},
                },
                "xaxis": axis,
                "yaxis": axis,
            }
        )  # fmt: skip


def variant(label: str) -> str:
    """What sets a configuration apart beside its method and sparsity: ``criterion=snr budget=flops``."""
    found = [f"{key}={value}" for key, value in _TOKEN.findall(label) if key != "sparsity"]
    return " ".join(found)


def escaped(text: object) -> str:
    """``text`` such that plotly, which knows some HTML, shows it as it is."""
    return html.escape(str(text), quote=False)


def translucent(colour: str, alpha: float = BAND_ALPHA) -> str:
    """``#rrggbb`` as a colour that lets others through."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def interval(mean: float, half_width: float, digits: int, factor: float = 1.0) -> str:
    """``98.12 ± 0.30``; ``98.12`` where there is no interval, ``–`` where there is no value."""
    if math.isnan(mean):
        return "–"
    if math.isnan(half_width):
        return f"{mean * factor:.{digits}f}"
    return f"{mean * factor:.{digits}f} ± {half_width * factor:.{digits}f}"


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Properties of a log axis from ``low`` to ``high``: marks at 1, 2 and 5 of each decade, or at decades.

    Texts are plain numbers below 1,000 and SI from there: ``0.05``, ``20``, ``50k``, ``1M``.
    """
    steps = (1, 2, 5) if math.log10(high / low) < 2.6 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    shown = [v for decade in decades for step in steps if low <= (v := step * 10.0**decade) <= high]
    return {
        "tickmode": "array",
        "tickvals": shown,
        "ticktext": list(map(_short, shown)),
        "minor": {"ticks": ""},
    }


def _short(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.10g}{letter}"
    return f"{value:.10g}"


def signed(mean: float, half_width: float, digits: int, factor: float = 1.0) -> str:
    """A difference as ``interval`` has it, with its sign: ``+0.50 ± 0.30``."""
    text = interval(mean, half_width, digits, factor)
    return text if text.startswith(("-", "–")) else f"+{text}"
