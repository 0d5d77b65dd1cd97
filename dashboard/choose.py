"""Let readers choose a few configurations of many, and show the command that computes them anew."""

from __future__ import annotations

import streamlit as st

from bench.figures import MOST_CHOSEN, one_a_method
from bench.results.files import shell_path
from dashboard import data
from dashboard.filters import Selection

#: Greatest number of options in a list, since all their names are sent to the browser at every change.
MOST_OPTIONS = 300


def configurations(selection: Selection, key: str) -> list[str]:
    """Return the ``config_id`` of up to ``MOST_CHOSEN`` chosen configurations; by default one a method."""
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
    """Tell readers if there are more configurations than a list has room for."""
    if number > MOST_OPTIONS:
        st.caption(f"The first {MOST_OPTIONS} of {number:,} can be chosen; use the filters for the others.")


def again(selection: Selection) -> None:
    """Show the command that computes the selected suite anew with this version."""
    part = selection.part
    own = [
        folder for folder in part.folders if data.has_runs(folder)
    ]  # a published folder cannot take new runs
    folders = f"--results {shell_path(own[0])}" if own else ""
    command = f"python -m bench.grid --suite {part.suite} --scale {part.scale} {folders} --force"
    st.code(command, language="bash", wrap_lines=True)
    st.caption("`--where` and `--seeds` restrict it to some runs and leave the others as they are.")
