"""Trade-off: what a budget of FLOPs, time or bytes buys."""

from __future__ import annotations

import streamlit as st

from bench.figures import COSTS, SCORES, at_compression, axes, tradeoff
from dashboard import show
from dashboard.filters import Selection

selection: Selection = st.session_state["selection"]
st.title("Trade-off", anchor=False)
score = show.axis("Score", {name: axes()[name].name for name in SCORES}, "score")
cost = show.axis("Against", {name: axes()[name].name for name in COSTS}, "cost")
show.chart("tradeoff", lambda: tradeoff(selection.runs, cost, score, selection.look), selection.words)

st.subheader(f"Which {axes()[score].name} is left at 10 × smaller or more?", anchor=False)
with show.forgiving():
    st.dataframe(at_compression(selection.runs, score), hide_index=True)
