"""Listen to the marks of all charts: a click opens a configuration, the pointer highlights its method."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import configuration

_KEY = "marks"
_listener = st.components.v2.component(
    "ssvi_bench_marks", js=(Path(__file__).parent / "marks.js").read_text(encoding="utf-8")
)


def listen() -> None:
    """Open the configuration of the mark that is clicked, in whichever chart of the page."""
    _listener(key=_KEY, height=1, on_configuration_change=_clicked)


def _clicked() -> None:
    if (clicked := st.session_state[_KEY].get("configuration")) is not None:
        configuration.choose(str(clicked))
