"""Page Runs: what exactly was run, how training went, and how runs differ."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import MOST_RUNS, SCORES, Look, axes, differing, recorded, run_curves, seed_curves
from bench.results.words import counted
from dashboard import choose, data, live, one_run, show
from dashboard.filters import Selection
from dashboard.plain import plain

#: Number of rows on a page of the table, since ids and labels are most of what is sent to the browser.
_ROWS = 250
_SCORES = ("accuracy", "nll", "ece")
_COMPARED = (*SCORES, "compression_vs_dense_vi", "train_flops_ratio", "wall_seconds")
_ID = re.compile(r"[0-9a-f]{12}")


def _ordered(runs: pd.DataFrame) -> pd.DataFrame:
    """Sort runs: failed ones first, then cancelled, open and finished ones, by configuration and seed."""
    rank = runs["status"].map({"failed": 0, "cancelled": 1, "done": 3}).astype(float).fillna(2)
    keys = pd.DataFrame({"rank": rank, "label": runs["config_label"].astype(str), "seed": runs["seed"]})
    return runs.loc[keys.sort_values(["rank", "label", "seed"], kind="stable").index]


def _matching(runs: pd.DataFrame, words: str, look: Look) -> pd.DataFrame:
    """Return the runs that have every one of ``words`` in their id, name, status, reason or commit."""
    named = runs["config_label"].map(look.configuration).str.lower()
    columns = ("run_id", "config_label", "status", "error_kind", "error", "git_sha")
    for word in words.lower().split():
        hit = named[runs.index].str.contains(word, regex=False)
        for column in columns:
            hit |= runs[column].astype(str).str.lower().str.contains(word, regex=False)
        runs = runs[hit]
    return runs


def _shown(runs: pd.DataFrame, look: Look) -> pd.DataFrame:
    table = runs[["status", "config_label", "seed", *_SCORES, "wall_seconds", "started_at"]].assign(
        config_label=runs["config_label"].map(look.configuration),
        started_at=runs["started_at"].astype(str).str.slice(0, 16).str.replace("T", " ").where(
            runs["started_at"].notna()
        ),
        commit=runs["git_sha"].astype(str).str.replace(r"^([0-9a-f]{7})[0-9a-f]*", r"\1", regex=True).where(
            runs["git_sha"].notna()
        ),
        run_id=runs["run_id"],
    )  # fmt: skip
    if runs["error"].notna().any():
        table.insert(1, "error_kind", runs["error_kind"])
        table.insert(4, "error", runs["error"].astype(object).str.slice(0, 200))
    for name in _SCORES:
        table[name] = table[name] * axes()[name].factor
    return table


def _columns() -> dict[str, Any]:
    heads = {
        "status": "status", "error_kind": "kind", "error": "reason", "config_label": "configuration",
        "seed": "seed", "started_at": "started", "run_id": "run",
    }  # fmt: skip
    found: dict[str, Any] = {
        name: st.column_config.Column(head, help=data.column(name)["definition"])
        for name, head in heads.items()
    }
    found["error"] = {**found["error"], "width": "large"}
    found["commit"] = st.column_config.Column(help=data.column("git_sha")["definition"])
    for name in (*_SCORES, "wall_seconds"):
        axis = axes()[name]
        title = axis.title if name != "wall_seconds" else "time (s)"
        digits = f"%.{axis.digits}f"
        found[name] = st.column_config.NumberColumn(title, help=axis.definition, format=digits)
    return found


def _choose(ids: list[str]) -> None:
    """Open the rows that were just chosen; this runs before the page is drawn again."""
    rows = st.session_state["runs-table"]["selection"]["rows"]
    st.session_state["run"] = " ".join(ids[row] for row in rows if row < len(ids))


selection: Selection = st.session_state["selection"]
st.title("Runs", anchor=False)
live.panel(selection.part)

st.subheader("What exactly was run?", anchor=False)
st.caption(plain(selection.words))
left, right = st.columns([3, 1], vertical_alignment="bottom")
with left:
    words = st.text_input(
        "Find", key="runs_find", bind="query-params", icon=":material/search:",
        placeholder="parts of a configuration, id, status, reason or commit",
    )  # fmt: skip
found = _ordered(_matching(selection.runs, words or "", selection.look))
pages = -(-len(found) // _ROWS)
with right:
    page = int(st.number_input("Page", 1, pages, 1, key="runs_page")) if pages > 1 else 1
part = found.iloc[(page - 1) * _ROWS : page * _ROWS]
if found.empty:
    st.info("No run matches; search for fewer words, or widen the filters.", icon=":material/info:")
else:
    ids = part["run_id"].astype(str).tolist()
    st.dataframe(
        _shown(part, selection.look),
        hide_index=True,
        placeholder="–",
        key="runs-table",
        on_select=lambda: _choose(ids),
        selection_mode="multi-row",
        column_config=_columns(),
        alt="Runs, failed ones first.",
    )
    every = counted(len(found), "run")
    some = f"Rows {(page - 1) * _ROWS + 1:,} to {(page - 1) * _ROWS + len(part):,} of {len(found):,}. "
    st.caption(
        f"{some if pages > 1 else f'{every}. '}Choose one to open it, "
        f"or two to {MOST_RUNS} to compare them. Downloads have all columns."
    )
    show.download("runs", found)

asked = st.text_input(
    "Opened", key="run", bind="query-params", placeholder="ids of runs; choosing rows above fills this",
    help=f"one run, or up to {MOST_RUNS} to compare; part of the address, so that the view can be shared",
)  # fmt: skip
everything = data.table(selection.part, "runs")
wanted = list(dict.fromkeys(_ID.findall((asked or "").lower())))
opened = everything[everything["run_id"].isin(wanted)].drop_duplicates("run_id")
if asked and not wanted:
    st.info("This is not the id of a run; an id has 12 hexadecimal digits.", icon=":material/info:")
elif missing := [run_id for run_id in wanted if run_id not in set(opened["run_id"])]:
    st.info(
        plain(f"{selection.part.name} has no run {', '.join(missing)}; choose another suite."),
        icon=":material/info:",
    )
if len(opened) == 1:
    one_run.details(opened.iloc[0], selection.look)
elif 2 <= len(opened) <= MOST_RUNS:
    st.subheader("In what do they differ?", anchor=False)
    st.dataframe(
        opened[["config_label", "seed", *_COMPARED]].assign(
            config_label=opened["config_label"].map(selection.look.configuration),
            **{n: opened[n] * axes()[n].factor for n in _COMPARED},
        ),
        hide_index=True,
        placeholder="–",
        key="runs-figures",
        column_config={
            "config_label": "configuration",
            **{n: st.column_config.NumberColumn(axes()[n].title, format="%.4g") for n in _COMPARED},
        },
        alt="Scores and costs of the runs.",
    )
    table = differing(opened)
    if table.empty:
        st.info("Their settings are equal; they differ in where and when they ran.", icon=":material/info:")
    else:
        heads: dict[str, Any] = {
            str(run.run_id): st.column_config.TextColumn(
                f"{selection.look.configuration(run.config_label)}, seed {run.seed}"
            )
            for run in opened.itertuples()
        }
        st.dataframe(table, hide_index=True, key="runs-difference", column_config=heads)
        show.download("runs-difference", table)
elif len(opened) > MOST_RUNS:
    st.info(
        f"{len(opened)} runs are too many to compare; choose at most {MOST_RUNS}.", icon=":material/info:"
    )

st.divider()
with show.forgiving():
    history = data.table(selection.part, "history")
    if opened.empty or len(opened) > MOST_RUNS:
        chosen = choose.configurations(selection, "runs_curves_of", selection.score)
        shown = selection.done[selection.done["config_id"].isin(chosen.ids)]
    else:
        shown = opened
    rows = history[history["run_id"].isin(shown["run_id"])]
    names = recorded(rows)
    if not names:
        none = (
            "These runs have recorded nothing" if shown is opened else "No configuration has a finished run"
        )
        st.info(f"{none} yet, so there is nothing to draw.", icon=":material/info:")
    else:
        left, right = st.columns([3, 1], vertical_alignment="bottom")
        with left:
            what = st.selectbox(
                "Curve", list(names), format_func=names.__getitem__, key="runs_curve", bind="query-params"
            )
        if shown is opened:
            note = ", ".join(opened["run_id"].astype(str))
            show.chart("curves", lambda look: run_curves(rows, opened, what, look), note)
        else:
            with right:
                single = st.toggle("Single seeds", key="runs_single", bind="query-params")
            show.chart(
                "curves",
                lambda look: seed_curves(rows, shown, what, look, single),
                selection.words,
            )
