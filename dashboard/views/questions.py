"""Page Questions: what each suite asks, how far it is, and what its results answer."""

from __future__ import annotations

from urllib.parse import quote

import streamlit as st

from bench import suites
from bench.figures import Look, answers, ranked_by, responses
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
        runs = data.table(part, "runs")
    except StoreError as error:
        st.info(plain(error), icon=":material/info:")
        return
    done = runs[runs["status"] == "done"]
    failed = int((runs["status"] == "failed").sum())
    seconds = done["wall_seconds"].astype("float64")
    state = (
        f"{len(done)} of {counted(len(runs), 'run')} done, {failed} failed, {_hours(seconds.sum())} of runs"
    )
    if (left := len(runs) - len(done) - failed) and len(done):
        state += f", about {_hours(seconds.mean() * left)} left"
    st.caption(f"[{plain(part.name)}](overview?suite={quote(part.name)}) · {plain(state)}")
    look = Look(selection.look.mode, data.styles(part), data.styles(part, CRITERIA))
    found = answers(lambda name: data.table(part, name), data.references(part), ranked_by(plan), look)
    if not found:
        st.markdown("No run is finished.")
    for each in found:
        heading = f"**{plain(each.question)}**\n\n" if each.question else ""
        st.markdown(heading + "\n".join(f"- {plain(sentence)}" for sentence in each.sentences))


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"


st.title("Questions", anchor=False)
st.markdown(
    "Every suite asks a question. These are the answers of the results that are here, generated from them: "
    "± is the half width of the 95 % t-interval over seeds."
)
parts, _ = data.parts(data.folders())
for part in parts:
    _answered(part)
asked, launched = suites.questions(), {part.suite for part in parts}
if others := [name for name in suites.names() if name not in launched]:
    st.divider()
    st.subheader("Not launched yet", anchor=False)
    st.markdown(
        "\n".join(
            f"- {plain(asked.get(name, name))} `python -m bench.grid --suite {name}`" for name in others
        )
    )
    st.caption("What each costs, with the option `--dry-run`; of all of them: `python -m bench.list suites`")
st.divider()
st.subheader(plain(f"What does {selection.part.name} vary?"), anchor=False)
show.chart("responses", lambda look: responses(selection.runs, selection.score, look), selection.words)
