"""Page Questions: what each suite asks, how far it is, and what its results answer."""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

import pandas as pd
import streamlit as st

from bench import suites
from bench.figures import (
    Answer,
    Look,
    answers,
    convergence,
    dimension,
    finding,
    layer_types,
    ranked_by,
    recovery,
    responses,
    updates,
)
from bench.results.files import StoreError
from bench.results.styles import CRITERIA
from bench.results.words import counted
from dashboard import data, show
from dashboard.data import Part
from dashboard.filters import Selection
from dashboard.plain import plain

selection: Selection = st.session_state["selection"]
#: Tables that answers are made of.
_TABLES = ("runs", "metrics", "history", "layers")


def _asked(part: Part, unfolded: bool) -> None:
    """Show the question of a suite and its state, and its answers where the reader unfolds them."""
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
    if done.empty:
        st.markdown("No run is finished.")
        return
    key = f"answers-{part.name}-{unfolded}"
    with st.expander("Answers", expanded=unfolded, key=key, on_change="rerun") as opened:
        if opened.open:
            _answered(part)


def _answered(part: Part) -> None:
    """Show what the results of a suite answer."""
    tables = {name: _read(part, name) for name in _TABLES}

    def table(name: str) -> pd.DataFrame:
        if isinstance(found := tables[name], StoreError):
            raise found
        return found

    def make() -> list[Answer]:
        look = Look(selection.look.mode, data.styles(part), data.styles(part, CRITERIA))
        return answers(table, data.references(part), ranked_by(data.plan(part)), look)

    for each in data.kept("answers", [part], make):
        heading = f"**{plain(each.question)}**\n\n" if each.question else ""
        st.markdown(heading + "\n".join(f"- {plain(sentence)}" for sentence in each.sentences))


def _read(part: Part, name: str) -> pd.DataFrame | StoreError:
    """Return a table, or why it cannot be read; readers are told of folders without it on every visit."""
    try:
        return data.table(part, name)
    except StoreError as error:
        return error


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"


st.title("Questions", anchor=False)
st.markdown(
    "Every suite asks a question. These are the answers of the results that are here, generated from them: "
    "± is the half width of the 95 % t-interval over seeds."
)
every = st.toggle("Unfold the answers of all suites", key="questions_all", bind="query-params")
parts, _ = data.parts(data.folders())
for part in parts:
    _asked(part, every or part == selection.part)
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

# charts of what some suites are about; the others have nothing to show in them
part, shown = selection.part, selection.runs
references = data.references(part)
table = partial(data.table, part)
OF_SOME_SUITES = {
    "convergence": lambda look: convergence(table("history"), shown, look),
    "updates": lambda look: updates(table("history"), shown, list(dict.fromkeys(references.values())), look),
    "dimension": lambda look: dimension(table("layers"), table("history"), shown, look),
    "recovery": lambda look: recovery(shown, table("metrics"), references, look),
    "finding": lambda look: finding(shown, table("metrics"), table("history"), references, look),
    "layer-types": lambda look: layer_types(shown, table("layers"), look),
}
for name, make in OF_SOME_SUITES.items():
    show.chart(name, make, selection.words, say_missing=False)
