"""Page Overview: what was found, how sure it is, and what is missing."""

from __future__ import annotations

from functools import partial

import streamlit as st

from bench.figures import MOST_ROWS, at_compression, axes, best, coverage, forest, interval
from bench.results.words import counted
from bench.statistics.seeds import summarise
from bench.statistics.splits import scope
from dashboard import data, filters, show
from dashboard.filters import Selection
from dashboard.plain import plain


def _with_unit(value: str) -> str:
    """Add a percent sign to the number of a card; other units are in the definitions."""
    return f"{value} %" if axis.unit == "%" else value


selection: Selection = st.session_state["selection"]
plan = data.plan(selection.part)
st.title(plain(plan.get("question") or selection.part.name), anchor=False)

score = selection.score
axis = axes()[score]
with show.forgiving():
    cards = st.columns(3)
    label, _, value = best(summarise(selection.runs, metrics=[score]), score, selection.look).rpartition(": ")
    with cards[0]:
        show.card(f"Best {axis.name}", _with_unit(value), label)
    small = at_compression(selection.runs, score)
    with cards[1]:
        if len(small):
            top = small.iloc[0]
            value = interval(top["mean"], top["half_width"], axis.digits, axis.factor)
            name = selection.look.configuration(top["config_label"])
            words = f"{name} ({top['compression']:.1f} × smaller), n = {top['n']}"
            show.card(f"Best {axis.name} at 10 × smaller or more", _with_unit(value), words)
        else:
            show.card("At 10 × smaller or more", "–", "no configuration is that small")
    counts = filters.described(selection.runs)
    with cards[2]:
        words = f"{counts['open']} open, {counts['failed']} failed; {counts['seeds']}"
        show.card("Runs done", f"{counts['runs']:,}", words)
st.caption(
    f"Mean ± half width of the 95 % t-interval over seeds. {scope(selection.runs)} The best of many looks a "
    "little better than it would in a repetition; the page Leaderboard shows which others may be the best."
)

references = data.references(selection.part)
if references:
    shown = set(selection.runs["config_id"])
    known = selection.everything.drop_duplicates("config_id").set_index("config_id")["config_label"]
    compared = [mine for mine in known.index if mine in shown and references.get(mine, mine) != mine]
    # differences from one reference share an axis; those from another one would be read as if they did
    for number, reference in enumerate(dict.fromkeys(references[mine] for mine in compared)):
        rows = {mine for mine in compared if references[mine] == reference}
        drawn = show.chart(
            f"forest-{number}" if number else "forest",
            partial(forest, selection.everything, references, selection.score, only=rows),
            selection.words,
        )
        if drawn is not None and len(drawn.data) > MOST_ROWS:
            rest = len(drawn.data) - MOST_ROWS
            st.caption(f"{rest} more, behind these, are in the data.")
    alone = shown - references.keys()
    if alone:
        st.caption(f"Without a reference: {counted(len(alone), 'configuration')}.")
else:
    st.info("This suite names no reference, so there are no paired differences to show.")

everything = data.table(selection.part, "runs")
show.chart("coverage", lambda look: coverage(everything, look), f"{selection.part.name}, without filters")
missing = everything[everything["status"] != "done"]
if len(missing):
    failed = int((missing["status"] == "failed").sum())
    words = f"Missing: {counted(len(missing), 'run')}, of which {failed} failed."
    st.markdown(f"{words} This command computes them:")
    for folder, lines in data.commands(selection.part).items():
        if not data.has_runs(folder):
            continue
        again = [
            f"{line} --retry-failed" if failed and "--retry-failed" not in line else line for line in lines
        ]
        if len(selection.part.folders) > 1:
            st.caption(plain(f"in {data.shown(folder)}:"))
        st.code("\n".join(again), language="bash", wrap_lines=True)
