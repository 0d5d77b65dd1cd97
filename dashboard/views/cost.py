"""Page Cost: whether counted savings are also measured."""

from __future__ import annotations

import streamlit as st

from bench.figures import COUNTED, MEASURED, axes, costs, not_comparable, printing, speed, stored
from dashboard import choose, for_paper, show
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

st.subheader("What does each configuration cost?", anchor=False)
st.caption(plain(selection.words))
with show.forgiving():
    table = costs(selection.runs, selection.look)
    shown = {name: axes()[name] for name in (*COUNTED, *MEASURED, "compression_vs_dense_vi")}
    named = table.rename(columns={name: axis.name for name, axis in shown.items()})
    st.dataframe(
        named,
        hide_index=True,
        placeholder="–",
        height=show.height(len(named), 13),
        column_config={
            axis.name: st.column_config.NumberColumn(format=f"%.{axis.digits}f", help=axis.definition)
            for axis in shown.values()
        },
        alt="Counted and measured costs of each configuration.",
    )
    bare = {name: int(table[name].isna().sum()) for name in MEASURED}
    if missing := [f"{axes()[name].name} of {number}" for name, number in bare.items() if number]:
        st.markdown(
            f"Not measured, of {len(table)} configurations: {', '.join(missing)}. It needs runs that have "
            "the machine to themselves, and one of dense VI beside them. This command measures them:"
        )
        st.code(f"{choose.command(selection)} --workers 1 --force", language="bash", wrap_lines=True)
        st.caption("`--force` computes finished runs again; their earlier folders are moved to `corrupted/`.")
    told = "Means over n seeds, as ratios to dense VI; – where nothing was measured."
    st.caption(told)
    caption = f"{selection.words}. {told}"
    title = "Counted and measured costs"
    for_paper.table("costs", table, lambda: printing.table_latex(named, title, caption), selection)
show.chart("stored", lambda look: stored(selection.runs, look), selection.words)
