"""Page Trade-off: scores against FLOPs, time, bytes or sparsity."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.figures import COSTS, at_compression, axes, interval, printing, tradeoff
from dashboard import data, for_paper, show
from dashboard.filters import Selection

selection: Selection = st.session_state["selection"]
st.title("Trade-off", anchor=False)
score = selection.score
cost = show.axis("Against", {name: axes()[name].name for name in COSTS}, "cost")
references = data.references(selection.part)
differ = (
    st.toggle("Difference to the reference", key="tradeoff_paired", bind="query-params")
    if references
    else False
)
shown = set(selection.runs["config_id"])
show.chart(
    "tradeoff",
    lambda look: (
        # the reference may be filtered out
        tradeoff(selection.everything, cost, score, look, references, shown)
        if differ
        else tradeoff(selection.runs, cost, score, look)
    ),
    selection.words,
)

st.subheader(f"Which {axes()[score].name} is left at 10 × smaller or more?", anchor=False)
with show.forgiving():
    small = at_compression(selection.runs, score)
    if small.empty:
        st.caption("No configuration here is that small.")
    else:
        axis = axes()[score]
        table = {
            "method": [selection.look.name(method) for method in small["method"]],
            axis.title: [
                interval(mean, half, axis.digits, axis.factor)
                for mean, half in zip(small["mean"], small["half_width"], strict=True)
            ],
            "× smaller": small["compression"].round(1),
            "configuration": small["config_label"].map(selection.look.configuration),
            "n": small["n"],
        }
        title = f"Best {axis.name} of each method, 10 × smaller or more"
        st.dataframe(table, hide_index=True, alt=f"{title}.")
        told = (
            "For every method the configuration with the best mean, chosen by the scores that are shown; ± "
            "is the half width of the 95 % t-interval over n seeds."
        )
        st.caption(told)
        for_paper.table(
            "small", small,
            lambda: printing.table_latex(pd.DataFrame(table), title, f"{selection.words}. {told}"), selection,
        )  # fmt: skip
