"""Let readers choose a few configurations of many, and show the command that computes them anew."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import MOST_CHOSEN, axes, one_a_method
from bench.results.files import shell_path
from bench.results.words import counted
from dashboard import data
from dashboard.filters import Selection

#: Greatest number of options in a list, since all their names are sent to the browser at every change.
MOST_OPTIONS = 300
#: Columns by which cells are selected first, since readers know them as filters.
_FIRST = ("dataset", "network", "recipe", "method", "sparsity", "budget", "criterion")


@dataclass(frozen=True)
class Chosen:
    """Hold the configurations that a page shows.

    Parameters
    ----------
    ids
        ``config_id`` of those with a panel or a line each.
    runs
        Rows of the table ``runs`` for charts with a row a configuration.
    words
        Which these are, for the line below a title.
    """

    ids: list[str]
    runs: pd.DataFrame
    words: str


def configurations(selection: Selection, key: str, score: str) -> Chosen:
    """Let readers choose up to ``MOST_CHOSEN`` configurations, one of each method, or all.

    Parameters
    ----------
    selection
        What the page shows.
    key
        Name of the choice in the address.
    score
        Column of ``runs`` by which methods are ranked, if only the best few are shown.
    """
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
        return _these(selection, chosen, f"{counted(len(chosen), 'configuration')} chosen")
    references = data.references(selection.part).values()
    methods = one_a_method(selection.runs, selection.look, references, None, score)
    many, best = len(methods) > MOST_CHOSEN, f"those of the best {axes()[score].name}"
    words = {
        "few": f"{MOST_CHOSEN} of {len(methods)} methods, {best}",
        "methods": f"all {len(methods)} methods" if many else counted(len(methods), "method"),
        "all": f"all {counted(len(labels), 'configuration')}",
    }
    # the address has these names, and stays what it is as results are added
    shown = {"few": f"best {MOST_CHOSEN}"} if many else {}
    shown["methods"] = "all methods"
    if len(labels) > len(methods):
        shown["all"] = "all configurations"
    what = next(iter(shown))
    if len(shown) > 1:
        what = str(
            st.segmented_control(
                "Shown", list(shown), format_func=shown.__getitem__, key=f"{key}-shown",
                bind="query-params", default=what, required=True,
                help="One configuration of each method. With all configurations, charts with a row for each "
                "show them, and panels and lines one of each method.",
            )
        )  # fmt: skip
    ids = methods[:MOST_CHOSEN] if what == "few" else methods
    found = _these(selection, ids, words[what])
    return replace(found, runs=selection.runs) if what == "all" else found


def _these(selection: Selection, ids: list[str], words: str) -> Chosen:
    return Chosen(ids, selection.runs[selection.runs["config_id"].isin(ids)], words)


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
