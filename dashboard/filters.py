"""Show the filters that all pages share; their values are in the address, so that a view is a link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import PREDICTORS, SCORES, Look, axes, ranked_by, scored_by
from bench.figures.parts.chart import Mode
from bench.results.files import StoreError
from bench.results.styles import CRITERIA
from bench.results.words import counted
from dashboard import address, data
from dashboard.data import Part

#: Names in the address of the filters that leave out runs.
_NARROWING = ("recipe", "method", "sparsity", "budget", "criterion")


@dataclass(frozen=True)
class Selection:
    """Hold what a page is to show.

    Parameters
    ----------
    part
        Suite, scale and folders.
    runs
        Rows of the table ``runs`` that pass the filters, finished or not.
    setting
        Data set and network, as text.
    methods
        Methods of ``runs``, in order.
    look
        Colours and names.
    score
        Column that pages are about.
    everything
        All runs of the setting, whatever the other filters say.
    chosen
        The other filters in force, except methods, as texts.
    """

    part: Part
    runs: pd.DataFrame
    setting: str
    methods: tuple[str, ...]
    look: Look
    score: str
    everything: pd.DataFrame
    chosen: tuple[str, ...] = ()

    @property
    def done(self) -> pd.DataFrame:
        """Return the finished runs."""
        return self.runs[self.runs["status"] == "done"]

    @property
    def words(self) -> str:
        """Return the filters in force as text, for the line below a title."""
        shown = ", ".join(self.look.name(method) for method in self.methods)
        some = len(self.methods) <= 4
        methods = shown if some else f"{len(self.methods)} methods"
        return " · ".join([self.part.name, self.setting, *self.chosen, methods])


def choose(parts: Sequence[Part], mode: Mode) -> tuple[Selection | None, str]:
    """Show the filters in the sidebar.

    Parameters
    ----------
    parts
        Suites and scales to choose from.
    mode
        ``light`` or ``dark``.

    Returns
    -------
    tuple
        The selection and an empty text; None and the reason if the chosen part has no tables.
    """
    with st.sidebar:
        names = {part.name: part for part in parts}
        part = names[address.one_of("Suite", list(names), "suite", parts[0].name)]
        try:
            runs = data.table(part, "runs")
        except StoreError as error:
            return None, str(error)
        score = _score(part)
        runs, predictor = _predicted(part, runs)
        look = Look(mode, data.styles(part), data.styles(part, CRITERIA))
        setting, runs = _setting(runs)
        # every filter offers what the setting has, whatever the others say: then none of them changes another
        everything = runs
        recipes = sorted(everything["recipe"].dropna().astype(str).unique())
        runs, recipe = _narrowed(runs, "recipe", "Recipe", recipes)
        methods = look.ordered(everything["method"].dropna().astype(str))
        runs, _ = _narrowed(runs, "method", "Methods", methods, look.name)
        runs, sparsity = _sparsity(runs, everything)
        budgets = sorted(everything["budget"].dropna().astype(str).unique())
        runs, budget = _narrowed(runs, "budget", "Budget", budgets)
        criteria = sorted(everything["criterion"].dropna().astype(str).unique())
        runs, criterion = _narrowed(runs, "criterion", "Criterion", criteria)
        st.caption(f"{len(runs):,} of {counted(len(everything), 'run')}")
        st.button("Reset filters", on_click=_reset, disabled=len(runs) == len(everything))
    words = [] if predictor == "samples" else [PREDICTORS[predictor]]
    words += [f"recipe {', '.join(recipe)}"] if recipe else []
    words += [f"budget {', '.join(budget)}"] if budget else []
    words += [f"criterion {', '.join(criterion)}"] if criterion else []
    words += [f"sparsity {', '.join(sparsity)}"] if sparsity else []
    methods = look.ordered(runs["method"].dropna().astype(str))
    return Selection(part, runs, setting, tuple(methods), look, score, everything, tuple(words)), ""


def _score(part: Part) -> str:
    """Show the choice of the score; the default is the one that the suite ranks by."""
    names = {axes()[name].name: name for name in SCORES}
    first = axes()[ranked_by(data.plan(part))].name
    return names[address.one_of("Score", list(names), "score", first)]


def _reset() -> None:
    for key in _NARROWING:
        if key in st.session_state:
            st.session_state[key] = []


def _predicted(part: Part, runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Show the choice of the predictor, and return the runs with its scores."""
    names = {name: key for key, name in PREDICTORS.items()}
    chosen = st.selectbox("Scores of", list(names), key="predictor", bind="query-params")
    key = names[chosen]
    return (runs if key == "samples" else scored_by(runs, data.table(part, "metrics"), key)), key


def _setting(runs: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Show the choice of one data set and network, since scores of different ones are not comparable."""
    names = runs["dataset"].astype(str) + " · " + runs["network"].astype(str)
    found = list(dict.fromkeys(names))
    if not found:
        return "nothing", runs
    chosen = st.selectbox("Data set · network", found, key="data", bind="query-params")
    return chosen, runs[names == chosen]


def _narrowed(
    runs: pd.DataFrame, column: str, label: str, options: Sequence[str], shown: Any = str
) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs with the chosen values, and these values; all runs if none is chosen.

    Runs without a value in the column are kept.
    """
    chosen = address.some_of(label, options, column, shown)
    return (runs[runs[column].isin(chosen) | runs[column].isna()] if chosen else runs), chosen


def _sparsity(runs: pd.DataFrame, everything: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs of the chosen sparsities; dense ones stay, since sparse ones are compared with them."""
    found = sorted(value for value in everything["sparsity"].dropna().unique() if value > 0)
    texts = {f"{value:g}": value for value in found}
    chosen = address.some_of(
        "Sparsity", list(texts), "sparsity",
        help="dense configurations stay, since sparse ones are compared with them",
    )  # fmt: skip
    if not chosen:
        return runs, []
    values = [texts[text] for text in chosen]
    dense = runs["sparsity"].isna() | (runs["sparsity"] == 0)
    return runs[runs["sparsity"].isin(values) | dense], chosen


def described(runs: pd.DataFrame) -> Mapping[str, Any]:
    """Return the counts, date and commits for the line at the top of every page."""
    status = runs["status"].value_counts()
    done = runs[runs["status"] == "done"]
    seeds = done.groupby("config_id", observed=True)["seed"].nunique()
    few, many = (int(seeds.min()), int(seeds.max())) if len(seeds) else (0, 0)
    return {
        "runs": int(status.get("done", 0)),
        "failed": int(status.get("failed", 0)),
        "open": int(len(runs) - status.get("done", 0) - status.get("failed", 0)),
        "methods": int(runs["method"].nunique()),
        "seeds": f"{few} to {many} seeds" if few != many else counted(many, "seed"),
        "date": str(done["started_at"].max())[:10] if len(done) else "–",
        "commits": sorted(done["git_sha"].dropna().astype(str).unique()),
    }
