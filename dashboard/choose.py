"""Let readers choose a few configurations of many, and show the command that computes them anew."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import MOST_CHOSEN, one_a_method
from bench.results.files import shell_path
from dashboard import data
from dashboard.filters import Selection

#: Greatest number of options in a list, since all their names are sent to the browser at every change.
MOST_OPTIONS = 300
#: Columns by which cells are selected first, since readers know them as filters.
_FIRST = ("dataset", "network", "recipe", "method", "sparsity", "budget", "criterion")


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
    kept = set(selection.runs["config_id"])
    cells = [cell for cell in data.plan(selection.part)["cells"] if cell["alias_of"] is None]
    mine = [_texts(cell["labels"]) for cell in cells if cell["config_id"] in kept]
    rest = [_texts(cell["labels"]) for cell in cells if cell["config_id"] not in kept]
    conditions = []
    for column in dict.fromkeys([*_FIRST, *(name for labels in mine for name in labels)]):
        values = {labels.get(column) for labels in mine}
        others = {labels.get(column) for labels in rest} - values
        if not others:
            continue
        # a cell without the column fulfils no condition but that its value is none of these
        sign, told = ("!=", others) if None in values else ("=", values)
        conditions.append(f"{column}{sign}{'|'.join(sorted(filter(None, told)))}")
        rest = [labels for labels in rest if labels.get(column) in values]
    return ["--where", shlex.quote(",".join(conditions))] if mine and conditions else []


def _texts(labels: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a cell, but its seed, as conditions write them."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in labels.items()
        if name != "seed"
    }


def _seeds(done: pd.DataFrame) -> list[str]:
    seeds = sorted(done["seed"].dropna().astype(int).unique())
    if not seeds:
        return []
    whole = seeds == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 1
    return ["--seeds", f"{seeds[0]}-{seeds[-1]}" if whole else ",".join(map(str, seeds))]
