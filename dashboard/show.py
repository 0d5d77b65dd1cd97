"""Show the elements of pages: charts with their data and explanation, and notes on missing data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import Chart, Look, Missing
from bench.results.files import StoreError
from dashboard import configuration, for_paper
from dashboard.filters import Selection
from dashboard.plain import plain, restrained

#: Buttons above a chart that would do nothing, or save it in the colours of the screen.
_BUTTONS = ["select2d", "lasso2d", "autoScale2d", "toImage"]


def chart(key: str, make: Callable[[Look], Chart], subtitle: str, say_missing: bool = True) -> Chart | None:
    """Draw a chart with its title, data and explanation, and with its version for papers.

    If there is nothing to draw or a table cannot be read, a note says so, and the page goes on.

    Parameters
    ----------
    key
        Name of the chart's widgets and files.
    make
        Makes the chart in a given look.
    subtitle
        The filters in force: the line below the title.
    say_missing
        Whether a note says why there is nothing to draw; false for charts of some suites only.

    Returns
    -------
    Chart or None
        None if there is nothing to draw.
    """
    selection: Selection = st.session_state["selection"]
    try:
        found = make(selection.look)
    except (Missing, StoreError) as error:
        if say_missing:
            st.info(plain(error), icon=":material/info:")
        return None
    st.subheader(plain(found.title), anchor=False)
    opens = any("config_id" in (trace.meta or {}) for trace in found.figure.data)
    st.caption(plain(f"{subtitle} · click a mark for its configuration" if opens else subtitle))
    st.plotly_chart(
        found.figure,
        key=key,
        theme=None,
        alt=found.alt,
        config={"displaylogo": False, "modeBarButtonsToRemove": _BUTTONS},
    )
    for_paper.figure(key, make, selection, subtitle)
    with st.expander("Data, and how it was computed", key=f"{key}-more", on_change="rerun") as opened:
        if opened.open:
            st.markdown(restrained(found.how))
            _data(f"{key}-data", found.data, selection.look)
            download(key, found.data)
    return found


def _data(key: str, frame: pd.DataFrame, look: Look) -> None:
    """Show the data of a chart; a row opens its configuration, as the mark does, also from the keyboard."""
    if "config_id" not in frame:
        st.dataframe(_named(frame, look), hide_index=True, key=key)
        return
    ids = frame["config_id"].astype(str).tolist()
    st.dataframe(
        _named(frame, look),
        hide_index=True,
        key=key,
        on_select=lambda: configuration.choose_row(key, ids),
        selection_mode="single-row",
    )


def _named(frame: pd.DataFrame, look: Look) -> pd.DataFrame:
    """Replace the labels of configurations, which are for commands, by their names in words."""
    heads = {"config_label": "configuration", "reference_label": "reference"}
    names = {label: frame[label].map(look.configuration) for label in heads if label in frame}
    return frame.assign(**names).rename(columns=heads)


def height(rows: int, most: int = 25) -> int:
    """Return the height in pixels of a table of ``rows`` rows; it scrolls if there are more than ``most``."""
    return 38 + 35 * min(max(rows, 1), most)


def download(key: str, frame: pd.DataFrame) -> None:
    """Show a button to download ``frame`` as CSV."""
    for_paper.csv(key, frame, f"ssvi-bench-{key}")


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Show a note in place of a section whose data are missing or unreadable, and go on with the page."""
    try:
        yield
    except (Missing, StoreError) as error:
        st.info(plain(error), icon=":material/info:")


def axis(label: str, options: dict[str, str], key: str, **more: Any) -> str:
    """Show a choice among ``options``, names for readers by value, and return the chosen value.

    The choice is in the address as ``key``.
    """
    chosen = st.segmented_control(
        label, list(options), format_func=options.__getitem__, key=key, bind="query-params",
        default=next(iter(options)), required=True, **more,
    )  # fmt: skip
    return str(chosen)
