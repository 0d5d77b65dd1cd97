"""Page Overview: what was found, how sure it is, and what is missing."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode

import streamlit as st

from bench.figures import MOST_ROWS, coverage, forest, headlines
from bench.results.words import counted
from bench.statistics.splits import scope
from dashboard import address, data, show
from dashboard.filters import Selection
from dashboard.plain import plain

selection: Selection = st.session_state["selection"]
plan = data.plan(selection.part)
st.title("Overview", anchor=False)
st.markdown(plain(plan.get("question") or selection.part.name))

score = selection.score
references = data.references(selection.part)
with show.forgiving():
    for line in headlines(selection.runs, references, score, selection.look, selection.everything):
        where = address.here() | dict(line.where)
        st.markdown(f"- {plain(line.words)} [The evidence]({line.page}?{urlencode(where, doseq=True)})")
    st.caption(
        f"± is the half width of the 95 % t-interval over seeds. {scope(selection.runs)} The best of many "
        "looks a little better than it would in a repetition."
    )
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
