"""Open a configuration beside the page: its scores, its runs, what sets it apart, and how to compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from bench.figures import SCORES, axes, differing, interval, settings
from bench.results.words import counted
from bench.statistics.seeds import summarise
from dashboard import choose as command_of
from dashboard import data
from dashboard.filters import Selection
from dashboard.plain import plain

#: Name in the address.
_KEY = "configuration"


def choose(config_id: str) -> None:
    """Open a configuration; it is in the address from then on, so that the view is a link."""
    st.query_params[_KEY] = config_id


def choose_row(table: str, config_ids: Sequence[str]) -> None:
    """Open the row that was just chosen in the table with this key, whose rows are these configurations."""
    for row in st.session_state[table]["selection"]["rows"]:
        choose(config_ids[row])
    # the row can be chosen again once the drawer is closed
    st.session_state[table] = {"selection": {"rows": [], "columns": [], "cells": []}}


def show(selection: Selection) -> None:
    """Show the configuration that the address asks for, in a drawer that keeps the page in sight."""
    if (config_id := st.query_params.get(_KEY)) is None:
        return
    runs = selection.everything[selection.everything["config_id"] == config_id]
    if runs.empty:  # not of the data set that is chosen
        every = data.table(selection.part, "runs")
        runs = every[every["config_id"] == config_id]
    known = not runs.empty
    title = selection.look.configuration(runs["config_label"].iloc[0]) if known else "No such configuration"
    # as wide as leaves the mark in sight on a usual screen
    with_title = st.dialog(plain(title), width=560, position="right", on_dismiss=_close)
    with_title(_contents if known else _unknown)(selection, runs.sort_values("seed"))


def _close() -> None:
    st.query_params.pop(_KEY, None)


def _unknown(selection: Selection, runs: pd.DataFrame) -> None:
    st.markdown(plain(f"{selection.part.name} has none of this id; choose another suite."))


def _contents(selection: Selection, runs: pd.DataFrame) -> None:
    done = runs[runs["status"] == "done"]
    first = runs.iloc[0]
    where = f"{selection.part.name} · {first['dataset']} · {first['network']}"
    st.caption(plain(f"{where} · {len(done)} of {counted(len(runs), 'run')} done"))
    _scores(done)
    _runs(runs)
    st.markdown("**This command computes it**")
    st.code(command_of.command(replace(selection, runs=runs)), language="bash", wrap_lines=True)
    _apart(selection, runs)
    with st.expander("All settings", key="configuration-settings", on_change="rerun") as opened:
        if opened.open:
            st.dataframe(settings(first), hide_index=True, key="configuration-settings-table")


def _scores(done: pd.DataFrame) -> None:
    """Show the mean of each score over seeds, with the 95 % t-interval."""
    if done.empty:
        return
    (found,) = summarise(done, metrics=list(SCORES)).to_dict("records")
    parts = []
    for name in SCORES:
        axis = axes()[name]
        told = interval(found[f"{name}_mean"], found[f"{name}_half_width"], axis.digits, axis.factor)
        parts.append(f"{plain(axis.name)} **{plain(f'{told} {axis.unit}'.strip())}**")
    st.markdown(" · ".join(parts))


def _runs(runs: pd.DataFrame) -> None:
    """Show a row for each run, and links to the runs."""
    columns = [*SCORES, "wall_seconds"]
    st.dataframe(
        runs[["seed", "status", *columns]].assign(**{n: runs[n] * axes()[n].factor for n in columns}),
        hide_index=True,
        placeholder="–",
        key="configuration-runs",
        column_config={
            n: st.column_config.NumberColumn(
                axes()[n].name, help=axes()[n].title, format=f"%.{axes()[n].digits}f"
            )
            for n in columns
        },
        alt="The runs of this configuration.",
    )
    with st.container(horizontal=True):
        for run in runs.itertuples():
            st.page_link("views/runs.py", label=f"seed {run.seed}", query_params={"run": str(run.run_id)})


def _apart(selection: Selection, runs: pd.DataFrame) -> None:
    """Show the settings in which it differs from its reference."""
    references = data.references(selection.part)
    mine = str(runs["config_id"].iloc[0])
    every = data.table(selection.part, "runs")
    if (theirs := references.get(mine, mine)) == mine or theirs not in set(every["config_id"]):
        return
    pair = pd.concat([runs.head(1), every[every["config_id"] == theirs].head(1)])
    names = [selection.look.configuration(label) for label in pair["config_label"]]
    table = differing(pair.assign(**{"config.seed": None})).set_axis(["setting", "this", "reference"], axis=1)
    st.markdown(f"**Settings that differ from its reference**, {plain(names[1])}")
    st.dataframe(table, hide_index=True, key="configuration-apart", alt=f"{names[0]} against {names[1]}.")
