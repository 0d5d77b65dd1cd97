"""Make charts and tables fit for a paper: light, as wide as a column, with captions, as files and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from textwrap import wrap

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts import latex
from bench.figures.parts.chart import Chart, Look, escaped
from bench.results.words import counted

#: Widths of a picture in pixels, of which 96 are an inch: a column of two, and the text of a page.
WIDTHS = {"column": 312, "text": 528}
#: Sizes of title and caption in pixels, and the height of a line relative to its size.
_TITLE, _CAPTION, _LINE = 14, 11, 1.3
#: Width of a letter relative to its size, on average.
_LETTER = 0.47
#: Signs of Markdown, and words about what only a screen has.
_ON_SCREEN = re.compile(
    r"\*\*|`|[,;]?( and)? \(?n( pairs)? in the tooltip( and the data)?\)?|in the data below, "
)
#: Columns of chart data with the number of seeds.
_COUNTS = re.compile(r"n|seeds|\w+_n")


def printed(make: Callable[[Look], Chart], look: Look, words: str, width: str = "text") -> Chart:
    """Make a chart for paper: light, with title and caption in the picture.

    Parameters
    ----------
    make
        Makes the chart in a given look.
    look
        Names, colours and markers; the mode is replaced by the light one.
    words
        The filters in force, as text.
    width
        A key of ``WIDTHS``.
    """
    chart = make(replace(look, mode="light"))
    figure, pixels = go.Figure(chart.figure), WIDTHS[width]
    title, below = _lines(chart.title, pixels, _TITLE), _lines(caption(chart, words), pixels, _CAPTION)
    room = round(_LINE * (_TITLE * len(title) + _CAPTION * len(below))) + 16
    figure.update_layout(
        width=pixels,
        height=figure.layout.height + room,
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"t": figure.layout.margin.t + room},
        title={
            "text": f"<b>{'<br>'.join(map(escaped, title))}</b>", "font": {"size": _TITLE},
            "subtitle": {"text": "<br>".join(map(escaped, below)), "font": {"size": _CAPTION}},
            "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top",
            "pad": {"l": 8, "t": 8},
        },
    )  # fmt: skip
    return replace(chart, figure=figure)


def caption(chart: Chart, words: str) -> str:
    """Say in plain text what a chart shows: the filters ``words``, its seeds, and how to read it."""
    how = _ON_SCREEN.sub("", chart.how.split("\n\n")[0])
    return " ".join(part for part in (f"{words}.", _seeds(chart.data), how) if part)


def figure_latex(chart: Chart, words: str, file: str) -> str:
    """Write the LaTeX that includes the picture ``file`` of a chart, with its caption and a label."""
    return latex.figure(file, f"{chart.title} {caption(chart, words)}", chart.title)


def table_latex(frame: pd.DataFrame, title: str, words: str) -> str:
    """Write a table of texts and numbers, formatted as they are to be read, in LaTeX.

    Parameters
    ----------
    frame
        The table; its columns are the heads.
    title
        What the table shows; the label is made of it.
    words
        Filters, and what ± and other signs mean.
    """
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return latex.table([str(head) for head in frame.columns], rows, f"{title}. {words}", title)


def why_no_converter() -> str:
    """Say in a line what is needed to write pictures as files; nothing if it is all here."""
    if find_spec("kaleido") is None:
        return "PDF and PNG need `pip install kaleido`, and Chrome or Chromium."
    from choreographer.browsers.chromium import Chromium

    found = Chromium.find_browser(skip_local=False)
    return "" if found else "PDF and PNG need Chrome or Chromium; `kaleido_get_chrome` installs one."


def picture(figure: go.Figure, kind: str) -> bytes:
    """Convert a figure to a file of the kind ``svg``, ``pdf`` or ``png``.

    It needs kaleido and Chrome (see ``why_no_converter``), and asks nothing of other machines.
    """
    import kaleido

    size = {"width": figure.layout.width, "height": figure.layout.height}
    options = {"format": kind, "scale": 4 if kind == "png" else 1, **size}
    found: bytes = kaleido.calc_fig_sync(figure, opts=options, kopts={"mathjax": False})
    return found


def _lines(text: str, pixels: int, size: int) -> list[str]:
    return wrap(text, int((pixels - 16) / (_LETTER * size)), break_long_words=True)


def _seeds(data: pd.DataFrame) -> str:
    """Say how many seeds the rows of a chart's data have; nothing if they do not tell."""
    names = [name for name in map(str, data.columns) if _COUNTS.fullmatch(name)]
    counts = pd.concat([data[name] for name in names]).dropna().astype(int) if names else pd.Series(dtype=int)
    counts = counts[counts > 0]
    if counts.empty:
        return ""
    few, many = int(counts.min()), int(counts.max())
    return f"n = {counted(many, 'seed')}." if few == many else f"n = {few} to {many} seeds."


def _cell(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
