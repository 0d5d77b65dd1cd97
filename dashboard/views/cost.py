"""Page Cost: whether counted savings are also measured."""

from __future__ import annotations

import streamlit as st

from bench.figures import COUNTED, MEASURED, axes, not_comparable, speed, stored
from dashboard import show
from dashboard.filters import Selection
from dashboard.plain import plain

selection: Selection = st.session_state["selection"]
st.title("Cost", anchor=False)
st.markdown(
    "Fewer FLOPs save time only if the machine can use them. **On the line** the measured saving equals the "
    "counted one; **above** it a run took more time or memory than its counts promise; **below** it less."
)
left, right = st.columns(2)
with left:
    counted = show.axis("Counted", {name: axes()[name].name for name in COUNTED}, "cost_counted")
with right:
    measured = show.axis("Measured", {name: axes()[name].name for name in MEASURED}, "cost_measured")
if reasons := not_comparable(selection.runs):
    lines = "\n".join(f"- {plain(reason)}" for reason in reasons)
    st.warning(
        f"Measured times of these runs are not comparable with each other; they differ in\n{lines}\n\nNarrow "
        "the filters, and read `docs/costs.md`. For claims of speed use the suite `cost`, which computes one "
        "run at a time.",
        icon=":material/warning:",
    )
elif selection.part.suite != "cost":
    st.caption("Claims of speed come only from the suite `cost`: see `docs/costs.md`.")
show.chart("speed", lambda look: speed(selection.runs, counted, measured, look), selection.words)
if measured == "step_time_ratio" and counted == "inference_flops_ratio":
    st.caption("The time is that of a training step, updates of the subspace included.")
show.chart("stored", lambda look: stored(selection.runs, look), selection.words)
