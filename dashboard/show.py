"""How pages show things: a chart with its data and words, what is missing, a table with its downloads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import Chart, Missing
from bench.results.files import StoreError
from dashboard.plain import plain, restrained


def chart(key: str, make: Callable[[], Chart], subtitle: str = "") -> Chart | None:
    """Draw what ``make`` gives, with its title, data, downloads and how it was computed.

    key: names the chart's widgets and its files. Where there is nothing to draw, or a table can't be read,
    that is said instead, and the rest of the page goes on.
    """
    try:
        found = make()
    except (Missing, StoreError) as error:
        st.info(plain(error), icon=":material/info:")
        return None
    st.subheader(plain(found.title), anchor=False)
    if subtitle:
        st.caption(plain(subtitle))
    st.plotly_chart(
        found.figure,
        key=key,
        theme=None,
        alt=found.alt,
        config={
            "displaylogo": False,
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
            "toImageButtonOptions": {"format": "svg", "filename": f"ssvi-bench-{key}"},
        },
    )
    more(key, found.data, found.how)
    return found


def height(rows: int, most: int = 25) -> int:
    """Pixels of a table that shows ``rows`` rows, and scrolls beyond ``most``."""
    return 38 + 35 * min(max(rows, 1), most)


def card(title: str, value: str, words: str) -> None:
    """A figure that is looked at first, with what it is of. All three are shown as they are."""
    with st.container(border=True):
        st.caption(plain(title))
        st.markdown(f"### {plain(value)}")
        st.caption(plain(words))


def more(key: str, frame: pd.DataFrame, how: str) -> None:
    """Below a chart: its data as a table and a file, and how they were computed; made once it is opened."""
    with st.expander("Data, and how it was computed", key=f"{key}-more", on_change="rerun") as opened:
        if opened.open:
            st.markdown(restrained(how))
            st.dataframe(frame, hide_index=True, key=f"{key}-data")
            download(key, frame)


def download(key: str, frame: pd.DataFrame, label: str = "CSV") -> None:
    """A button that gives ``frame`` as a file, made when it is pressed."""
    st.download_button(
        label,
        lambda: frame.to_csv(index=False).encode(),
        file_name=f"ssvi-bench-{key}.csv",
        mime="text/csv",
        key=f"{key}-csv",
        on_click="ignore",
        icon=":material/download:",
    )


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    """Say what is missing or can't be read in place of a section, and go on with the rest of the page."""
    try:
        yield
    except (Missing, StoreError) as error:
        st.info(plain(error), icon=":material/info:")


def axis(label: str, options: dict[str, str], key: str, **more: Any) -> str:
    """A choice among columns, by their names for readers; it is in the address as ``key``."""
    chosen = st.segmented_control(
        label, list(options), format_func=options.__getitem__, key=key, bind="query-params",
        default=next(iter(options)), required=True, **more,
    )  # fmt: skip
    return str(chosen)
