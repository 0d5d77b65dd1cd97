"""Let readers choose a few configurations of many, and show the command that computes them anew."""

from __future__ import annotations

import shlex

import pandas as pd
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
    labels = dict(
        zip(
            done["config_id"].astype(str), done["config_label"].map(selection.look.configuration), strict=True
        )
    )
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
    st.code(f"{command(selection, whole=True)} --force", language="bash", wrap_lines=True)
    st.caption("`--where` and `--seeds` restrict it to some runs and leave the others as they are.")


def command(selection: Selection, whole: bool = False) -> str:
    """Return the command that computes the runs of a selection, or of its ``whole`` suite."""
    part = selection.part
    own = [folder for folder in part.folders if data.has_runs(folder)]  # published ones take no new runs
    words = ["python -m bench.grid", "--suite", part.suite, "--scale", part.scale]
    if not whole:
        words += [*_where(selection), *_seeds(selection.done)]
    return " ".join([*words, *(["--results", shell_path(own[0])] if own else [])])


def _where(selection: Selection) -> list[str]:
    """Return the options that select the cells that the filters leave, or somewhat more."""
    runs, rest = selection.runs, data.table(selection.part, "runs")
    conditions = []
    for column in ("dataset", "network", "recipe", "method", "sparsity", "budget", "criterion"):
        mine = sorted(runs[column].dropna().unique())
        # a condition leaves out the cells that have no such column
        if mine and len(mine) < rest[column].nunique() and not runs[column].isna().any():
            values = (f"{value:g}" if isinstance(value, float) else str(value) for value in mine)
            conditions.append(f"{column}={'|'.join(values)}")
            rest = rest[rest[column].isin(mine)]
    return ["--where", shlex.quote(",".join(conditions))] if conditions else []


def _seeds(done: pd.DataFrame) -> list[str]:
    seeds = sorted(done["seed"].dropna().astype(int).unique())
    if not seeds:
        return []
    whole = seeds == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 1
    return ["--seeds", f"{seeds[0]}-{seeds[-1]}" if whole else ",".join(map(str, seeds))]
