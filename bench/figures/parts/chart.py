"""Define what every chart has: a question as title, its data, how they were computed, and a common look."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from bench.results import names

Mode = Literal["light", "dark"]

#: Colours of text, minor text, grid and background, by mode. Text has a contrast of at least 4.5 : 1.
INK = {"light": "#1F2328", "dark": "#E6E6E6"}
SOFT = {"light": "#57606A", "dark": "#A8B0BA"}
GRID = {"light": "#E3E6EA", "dark": "#30363D"}
BACKGROUND = {"light": "#FFFFFF", "dark": "#0E1117"}
#: One colour for what is neither text nor a method, such as a claimed region.
ACCENT = {"light": "#0B7285", "dark": "#4FD1E0"}
FONT = '"Source Sans", "Segoe UI", Helvetica, Arial, sans-serif'
BAND_ALPHA = 0.18
#: Colour of a method without a style.
_PLAIN = {"light": "#6E7781", "dark": "#9BA4AE"}
#: Colours of methods without styles, which colour-blind readers can tell apart (Okabe and Ito 2008).
_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6E7781")
_MARKERS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "pentagon")
#: Plotly's marker symbols that have a filled and a hollow form, and its line dashes.
_SYMBOL = re.compile(
    r"circle|square|diamond(-tall|-wide)?|cross|x|triangle-(up|down|left|right|ne|se|sw|nw)|pentagon|hexagon2?"
    r"|octagon|star(-triangle-up|-triangle-down|-square|-diamond)?|hexagram|hourglass|bowtie"
)
#: Letters of an axis title in a line on a screen 390 pixels wide.
_TITLE_LETTERS = 42
_DASHES = ("solid", "dot", "dash", "longdash", "dashdot", "longdashdot")


class Missing(Exception):
    """Report that there is nothing to draw; the message tells readers what is missing and how to get it."""


@dataclass(frozen=True)
class Chart:
    """Hold a figure and what belongs to it.

    Parameters
    ----------
    title
        The question that the figure answers.
    figure
        The plotly figure.
    data
        What is drawn, one row per mark.
    how
        How the numbers were computed, in Markdown.
    alt
        What the figure shows, in a sentence, for readers who cannot see it.
    """

    title: str
    figure: go.Figure
    data: pd.DataFrame
    how: str
    alt: str

    def __post_init__(self) -> None:
        """Break the titles of horizontal axes into lines that a phone has room for."""
        for axis in self.figure.select_xaxes():
            if axis.title.text and "<" not in axis.title.text:
                axis.title.text = _broken(axis.title.text)

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> Any:
        """Show the figure where a notebook displays the chart."""
        return self.figure._repr_mimebundle_(*args, **kwargs)


@dataclass(frozen=True)
class Look:
    """Give methods and criteria the same name, colour, marker and dash in every chart.

    Parameters
    ----------
    mode
        ``light`` or ``dark``.
    styles
        Styles by method, as ``Store.read_styles`` returns them. Methods without one get plain defaults.
    criteria
        The same of removal criteria.
    """

    mode: Mode = "light"
    styles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    criteria: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: pd.DataFrame, mode: Mode = "light") -> Look:
        """Make the look that ``table`` carries, as tables of ``bench.tables`` do.

        If it carries none, its methods get colours and markers in the order of their names.
        """
        styles = table.attrs.get("styles", {})
        if not styles and "method" in table:
            names = sorted(table["method"].dropna().astype(str).unique())
            looks = zip(cycle(_HUES), cycle(_MARKERS))  # endless
            styles = {
                name: {"hue": hue, "hue_dark": hue, "marker": marker, "dash": "solid", "order": place}
                for place, (name, (hue, marker)) in enumerate(zip(names, looks, strict=False))
            }
        return cls(mode, styles, table.attrs.get("criteria", {}))

    @property
    def criterion(self) -> Look:
        """The same for removal criteria: ``look.criterion.colour("snr")``."""
        return Look(self.mode, self.criteria)

    def name(self, method: str) -> str:
        """Return the method's name for readers, unescaped, for tables and text that is escaped later."""
        return str(self.styles.get(method, {}).get("label", method))

    def configuration(self, label: object) -> str:
        """Return a configuration's name for readers from its ``config_label``, unescaped."""
        return names.in_words(str(label), self.styles, self.criteria)

    def label(self, method: str) -> str:
        """Return the method's name for readers, escaped for a figure."""
        return escaped(self.name(method))

    def colour(self, method: str) -> str:
        """Return the method's colour in this mode, ``#rrggbb``."""
        key = "hue" if self.mode == "light" else "hue_dark"
        return str(self.styles.get(method, {}).get(key, _PLAIN[self.mode]))

    def marker(self, method: str, hollow: bool = False) -> str:
        """Return the method's plotly marker symbol; a circle if its style names none that plotly has."""
        name = str(self.styles.get(method, {}).get("marker", "circle"))
        name = name.removesuffix("-dot").removesuffix("-open")
        return f"{name if _SYMBOL.fullmatch(name) else 'circle'}{'-open' if hollow else ''}"

    def dash(self, method: str) -> str:
        """Return the method's plotly line dash; dots if its style names none that plotly has."""
        name = str(self.styles.get(method, {}).get("dash", "dot"))
        return name if name in _DASHES else "dot"

    def ordered(self, methods: Iterable[str]) -> list[str]:
        """Return ``methods``, each once, in the order of all charts."""
        return sorted(set(methods), key=lambda name: (self.styles.get(name, {}).get("order", 10**6), name))

    @property
    def ink(self) -> str:
        """Return the colour of text."""
        return INK[self.mode]

    @property
    def soft(self) -> str:
        """Return the colour of rules and minor text."""
        return SOFT[self.mode]

    @property
    def accent(self) -> str:
        """Return the colour that draws attention."""
        return ACCENT[self.mode]

    def figure(self, height: int = 440, legend: bool = True) -> go.Figure:
        """Make an empty figure in the common look; ``height`` is in pixels."""
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
                # the legend stands below the plot, where it hides no curve
                "legend": {
                    "orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0,
                    "font": {"size": 13, "color": self.ink},
                },
                "xaxis": axis,
                "yaxis": axis,
            }
        )  # fmt: skip


def escaped(text: object) -> str:
    """Escape ``text`` so that plotly, which interprets some HTML, shows it literally."""
    return html.escape(str(text), quote=False)


def translucent(colour: str, alpha: float = BAND_ALPHA) -> str:
    """Turn the colour ``#rrggbb`` into a translucent one; ``alpha`` is its opacity in [0, 1]."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def interval(mean: float, half_width: float, digits: int, factor: float = 1.0) -> str:
    """Format a mean and half width as ``98.12 ± 0.30``.

    A NaN half width gives ``98.12``, a NaN mean ``–``. Both numbers are multiplied by ``factor`` first.
    """
    if math.isnan(mean):
        return "–"
    if math.isnan(half_width):
        return f"{mean * factor:.{digits}f}"
    return f"{mean * factor:.{digits}f} ± {half_width * factor:.{digits}f}"


def _broken(title: str) -> str:
    """Break a title into as few lines as fit, about equally long, between words but not before ``%``."""
    lines = math.ceil(len(html.unescape(title)) / _TITLE_LETTERS)
    if lines == 1:
        return title
    width = min(_TITLE_LETTERS, math.ceil(len(title) / lines) + 4)
    return "<br>".join(textwrap.wrap(title.replace(" %", "\u00a0%"), width, break_long_words=False))


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return plotly properties for the ticks of a log axis from ``low`` to ``high``.

    Ticks are at 1, 2 and 5 of each decade, only at decades if the axis is long, and nearer to each other if
    it is so short that fewer than three would show. Their texts are plain numbers below 1,000 and have SI
    prefixes above: ``0.05``, ``20``, ``50k``, ``1M``.
    """
    steps = (1, 2, 5) if math.log10(high / low) < 2.6 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    shown = [v for decade in decades for step in steps if low <= (v := step * 10.0**decade) <= high]
    if len(shown) < 3 and high < 10 * low:
        # the step of a linear axis, since a short logarithmic one is nearly linear
        power = 10.0 ** math.floor(math.log10((high - low) / 3))
        step = next(power * times for times in (10, 5, 2, 1) if (high - low) / (power * times) >= 3)
        shown = [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return {
        "tickmode": "array",
        "tickvals": shown,
        "ticktext": list(map(_short, shown)),
        "minor": {"ticks": ""},
    }


def _short(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.6g}{letter}"
    return f"{value:.6g}"


def signed(mean: float, half_width: float, digits: int, factor: float = 1.0) -> str:
    """Format a difference like ``interval``, with its sign: ``+0.50 ± 0.30``."""
    text = interval(mean, half_width, digits, factor)
    return text if text.startswith(("-", "–")) else f"+{text}"
