"""Overview: what was found, whether to trust it, and what is missing."""

from __future__ import annotations

import streamlit as st

from bench.figures import at_compression, axes, best, coverage, forest, interval
from bench.store import summarise
from dashboard import data, filters, show
from dashboard.filters import Selection
from dashboard.plain import plain


def _with_unit(value: str) -> str:
    """In a card a percent sign stands behind the number, and other units stand in the definitions."""
    return f"{value} %" if axis.unit == "%" else value


selection: Selection = st.session_state["selection"]
plan = data.plan(selection.part)
st.title(plain(plan.get("question") or selection.part.name), anchor=False)

score = show.score(selection)
axis = axes()[score]
with show.forgiving():
    cards = st.columns(3)
    label, _, value = best(summarise(selection.runs, metrics=[score]), score).rpartition(": ")
    with cards[0]:
        show.card(f"Best {axis.name}", _with_unit(value), label)
    small = at_compression(selection.runs, score)
    with cards[1]:
        if len(small):
            top = small.iloc[0]
            value = interval(top["mean"], top["half_width"], axis.digits, axis.factor)
            words = f"{top['config_label']} ({top['compression']:.1f} × smaller), n = {top['n']}"
            show.card(f"Best {axis.name} at 10 × smaller or more", _with_unit(value), words)
        else:
            show.card("At 10 × smaller or more", "–", "no configuration is that small")
    counts = filters.described(selection.runs)
    with cards[2]:
        words = f"{counts['open']} open, {counts['failed']} failed; {counts['seeds']} seeds"
        show.card("Runs done", f"{counts['runs']:,}", words)
st.caption(
    "Mean ± half width of the 95 % t-interval over seeds, on this data set. The best of many is a little "
    "better than it would be again; the page Leaderboard says from what it can be told apart."
)

references = data.references(selection.part)
if references:
    show.chart("forest", lambda: forest(selection.runs, references, score, selection.look), selection.words)
else:
    st.info("This suite names no reference, so there are no paired differences to show.")

everything = data.table(selection.part, "runs")
show.chart(
    "coverage", lambda: coverage(everything, selection.look), f"{selection.part.name}, without filters"
)
missing = everything[everything["status"] != "done"]
if len(missing):
    failed = int((missing["status"] == "failed").sum())
    st.markdown(f"{len(missing)} runs are missing, {failed} of them failed. This goes on with the others:")
    for folder, lines in data.commands(selection.part).items():
        again = [
            f"{line} --retry-failed" if failed and "--retry-failed" not in line else line for line in lines
        ]
        if len(selection.part.folders) > 1:
            st.caption(plain(f"in {data.shown(folder)}:"))
        st.code("\n".join(again), language="bash", wrap_lines=True)
