"""Show one row below each figure and table: its files for a paper, its link, and what computes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from bench.figures import Chart, Look, printing
from dashboard import address, choose
from dashboard.filters import Selection

_TITLE = "For your paper"
_WIDTHS = {"text": "as wide as a page (5.5 in)", "column": "as wide as a column (3.25 in)"}


def figure(key: str, make: Callable[[Look], Chart], selection: Selection, words: str) -> None:
    """Show the row of a figure.

    Parameters
    ----------
    key
        Name of the figure's widgets and files.
    make
        Makes the chart in a given look.
    selection
        What the page shows.
    words
        The filters in force, as text.
    """
    with st.expander(_TITLE, key=f"{key}-paper", on_change="rerun") as opened:
        if not opened.open:
            return
        width = str(
            st.segmented_control(
                "Width", list(_WIDTHS), format_func=_WIDTHS.__getitem__, key=f"{key}-paper-width",
                default="text", required=True, label_visibility="collapsed",
            )
        )  # fmt: skip
        printed = printing.printed(make, selection.look, words, width)
        name, missing = f"ssvi-bench-{key}", printing.why_no_converter()
        with st.container(horizontal=True):
            for kind in () if missing else ("svg", "pdf", "png"):
                _file(kind.upper(), f"{name}.{kind}", partial(printing.picture, printed.figure, kind))
            latex = partial(printing.figure_latex, printed, words, f"{name}.pdf")
            _file("LaTeX", f"{name}.tex", lambda: latex().encode())
            csv(f"{key}-paper", printed.data, name)
        _source(selection)
        if missing:
            st.caption(f"The camera on the picture saves it as SVG. {missing}")
        st.plotly_chart(
            printed.figure,
            key=f"{key}-paper-figure",
            theme=None,
            width="content",
            alt=printed.alt,
            config={
                "displaylogo": False,
                "displayModeBar": bool(missing),
                "modeBarButtons": [["toImage"]],
                "staticPlot": not missing,
                "toImageButtonOptions": {
                    "format": "svg",
                    "filename": name,
                    "width": printed.figure.layout.width,
                    "height": printed.figure.layout.height,
                },
            },
        )


def table(key: str, frame: pd.DataFrame, latex: Callable[[], str], selection: Selection) -> None:
    """Show the row of a table.

    Parameters
    ----------
    key
        Name of the table's widgets and files.
    frame
        The data of the file CSV.
    latex
        Writes the table in LaTeX.
    selection
        What the page shows.
    """
    with st.expander(_TITLE, key=f"{key}-paper", on_change="rerun") as opened:
        if opened.open:
            with st.container(horizontal=True):
                _file("LaTeX", f"ssvi-bench-{key}.tex", lambda: latex().encode())
                csv(key, frame, f"ssvi-bench-{key}")
            _source(selection)


def csv(key: str, frame: pd.DataFrame, name: str) -> None:
    """Show a button to download ``frame`` as ``name``.csv; the file is made when it is pressed."""
    _file("CSV", f"{name}.csv", lambda: frame.to_csv(index=False).encode(), f"{key}-csv")


def _file(label: str, name: str, make: Callable[[], bytes], key: str = "") -> None:
    st.download_button(
        label, make, file_name=name, key=key or f"file-{name}", on_click="ignore", icon=":material/download:"
    )


def _source(selection: Selection) -> None:
    """Show a link to this view, and the command that computes its runs."""
    asked = urlencode(address.here(), doseq=True)
    st.code(f"{st.context.url}?{asked}", language=None, wrap_lines=True)
    st.code(choose.command(selection), language="bash", wrap_lines=True)
