"""Choosing a few configurations of many, and the command that computes them anew."""

from __future__ import annotations

import shlex

import streamlit as st

from bench.figures import MOST_CHOSEN, one_a_method
from dashboard import data
from dashboard.filters import Selection

#: Options of a list, at most: their names are sent to the browser at every change.
MOST_OPTIONS = 300


def configurations(selection: Selection, key: str) -> list[str]:
    """The ``config_id`` of up to ``MOST_CHOSEN`` configurations; of one a method while nobody chose."""
    done = selection.done.drop_duplicates("config_id").sort_values("config_label")
    labels = dict(zip(done["config_id"].astype(str), done["config_label"].astype(str), strict=True))
    chosen = st.multiselect(
        "Configurations", list(labels)[:MOST_OPTIONS], format_func=labels.__getitem__, key=key,
        max_selections=MOST_CHOSEN, bind="query-params",
        placeholder="one of each method, at the sparsity that most have",
    )  # fmt: skip
    say_if_more(len(labels))
    if chosen:
        return chosen
    return one_a_method(selection.runs, selection.look, data.references(selection.part).values())


def say_if_more(number: int) -> None:
    """Where there are more configurations than a list has room for, say so."""
    if number > MOST_OPTIONS:
        st.caption(f"The first {MOST_OPTIONS} of {number:,} can be chosen; filters on the left bring others.")


def again(selection: Selection) -> None:
    """The command that computes what is looked at anew, with this version."""
    part = selection.part
    own = [
        folder for folder in part.folders if data.has_runs(folder)
    ]  # in a published one nothing is computed
    folders = f"--results {shlex.quote(own[0])}" if own else ""
    command = f"python -m bench.grid --suite {part.suite} --scale {part.scale} {folders} --force"
    st.code(command, language="bash", wrap_lines=True)
    st.caption("`--where` and `--seeds` leave the other runs as they are.")
