"""Page Questions: what each suite asks, how far it is, and what its results answer."""

from __future__ import annotations

from urllib.parse import quote

import streamlit as st

from bench.figures import Look, answer, ranked_by, responses
from bench.results.files import StoreError
from bench.results.styles import CRITERIA
from bench.results.words import counted
from dashboard import data, show
from dashboard.data import Part
from dashboard.filters import Selection
from dashboard.plain import plain

selection: Selection = st.session_state["selection"]


def _answered(part: Part) -> None:
    """Show the question of a suite, its state and its answer."""
    plan = data.plan(part)
    st.subheader(plain(plan.get("question") or part.name), anchor=False)
    try:
        runs, history, layers = (data.table(part, name) for name in ("runs", "history", "layers"))
    except StoreError as error:
        st.info(plain(error), icon=":material/info:")
        return
    done = runs[runs["status"] == "done"]
    failed = int((runs["status"] == "failed").sum())
    hours = float(done["wall_seconds"].astype("float64").sum()) / 3600
    state = f"{len(done)} of {counted(len(runs), 'run')} done, {failed} failed, {hours:.1f} hours of runs"
    st.caption(f"[{plain(part.name)}](overview?suite={quote(part.name)}) · {plain(state)}")
    look = Look(selection.look.mode, data.styles(part), data.styles(part, CRITERIA))
    lines = answer(runs, data.references(part), ranked_by(plan), look, history, layers)
    st.markdown("\n".join(f"- {plain(line)}" for line in lines) or "No run is finished.")


st.title("Questions", anchor=False)
st.markdown(
    "Every suite asks a question. These are the answers of the results that are here, generated from them: "
    "± is the half width of the 95 % t-interval over seeds. Suites that were not launched are listed by"
)
st.code("python -m bench.list suites", language="bash")
parts, _ = data.parts(data.folders())
for part in parts:
    _answered(part)
st.divider()
st.subheader(plain(f"What does {selection.part.name} vary?"), anchor=False)
show.chart("responses", lambda look: responses(selection.runs, selection.score, look), selection.words)
