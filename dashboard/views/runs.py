"""Page Runs: what exactly was run, how training went, and how runs differ."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import streamlit as st

from bench.figures import AGAINST, MOST_RUNS, SCORES, Look, axes, differing, recorded, run_curves, seed_curves
from bench.results.words import counted
from dashboard import address, choose, data, live, one_run, show
from dashboard.filters import Selection
from dashboard.plain import plain

#: Number of rows on a page of the table, since ids and labels are most of what is sent to the browser.
_ROWS = 250
#: Greatest number of rows that are seen without scrolling the table.
_VISIBLE = 14
_SCORES = ("accuracy", "nll", "ece")
_COMPARED = (*SCORES, "compression_vs_dense_vi", "train_flops_ratio", "wall_seconds")
_ID = re.compile(r"[0-9a-f]{12}")


#: Orders of the table by name: column, and whether the largest is first; none where failed runs are.
_ORDERS: dict[str, tuple[str, bool]] = {
    "failed first": ("", False),
    "highest accuracy": ("accuracy", True),
    "lowest NLL": ("nll", False),
    "lowest ECE": ("ece", False),
    "longest": ("wall_seconds", True),
    "latest": ("started_at", True),
}


def _ordered(runs: pd.DataFrame, order: str) -> pd.DataFrame:
    """Sort runs in one of ``_ORDERS``; equal ones by status, failed ones first, configuration and seed."""
    rank = runs["status"].map({"failed": 0, "cancelled": 1, "done": 3}).astype(float).fillna(2)
    keys = pd.DataFrame({"rank": rank, "label": runs["config_label"].astype(str), "seed": runs["seed"]})
    keys = keys.sort_values(["rank", "label", "seed"], kind="stable")
    column, is_falling = _ORDERS[order]
    if column:
        values = runs[column] if column == "started_at" else runs[column].astype("float64")
        keys = keys.assign(value=values).sort_values("value", ascending=not is_falling, kind="stable")
    return runs.loc[keys.index]


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


def _choose(table: str, ids: list[str]) -> None:
    """Open the rows that were just chosen; this runs before the page is drawn again."""
    rows = st.session_state[table]["selection"]["rows"]
    st.session_state["run"] = " ".join(ids[row] for row in rows if row < len(ids))


def _table(found: pd.DataFrame, page: int, pages: int) -> None:
    """Show a page of the table of runs, whose chosen rows are opened."""
    part = found.iloc[(page - 1) * _ROWS : page * _ROWS]
    ids = part["run_id"].astype(str).tolist()
    # chosen rows are kept by position, so that another table needs another widget
    table = f"runs-table-{hash(tuple(ids)) & 0xFFFFFFFF:x}"
    st.dataframe(
        _shown(part, selection.look),
        hide_index=True,
        placeholder="–",
        key=table,
        on_select=lambda: _choose(table, ids),
        selection_mode="multi-row",
        height=show.height(len(part), _VISIBLE),
        column_config=_columns(),
        alt="Runs; a chosen one is opened beside the table.",
    )
    every = counted(len(found), "run")
    some = f"Rows {(page - 1) * _ROWS + 1:,} to {(page - 1) * _ROWS + len(part):,} of {len(found):,}. "
    st.caption(
        f"{some if pages > 1 else f'{every}. '}Choose one to open it, "
        f"or two to {MOST_RUNS} to compare them. A column's head sorts. Downloads have all columns."
    )
    show.download("runs", found)


def _compared(opened: pd.DataFrame) -> None:
    """Show scores, costs and settings of a few runs beside each other."""
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
        return
    heads: dict[str, Any] = {
        str(run.run_id): st.column_config.TextColumn(
            f"{selection.look.configuration(run.config_label)}, seed {run.seed}"
        )
        for run in opened.itertuples()
    }
    st.dataframe(table, hide_index=True, key="runs-difference", column_config=heads)
    show.download("runs-difference", table)


def _first(names: list[str]) -> int:
    """Return the place of the curve to begin with: the score, or else the first, on validation data."""
    validated = [name for name in names if name.endswith(" val")]
    wanted = [f"{selection.score} val", "nll val", *validated, *names]
    return names.index(next(name for name in wanted if name in names))


selection: Selection = st.session_state["selection"]
st.title("Runs", anchor=False)
live.panel(selection.part)

st.subheader("What exactly was run?", anchor=False)
st.caption(plain(selection.words))
bar = st.container(horizontal=True, vertical_alignment="bottom")
with bar:
    words = st.text_input(
        "Find", key="runs_find", bind="query-params", icon=":material/search:",
        placeholder="parts of a configuration, id, status, reason or commit",
    )  # fmt: skip
    statuses = sorted(selection.runs["status"].astype(str).unique())
    chosen_statuses = address.some_of("Status", statuses, "runs_status")
    order = st.selectbox("Order", list(_ORDERS), key="runs_order", bind="query-params", width=180)
    asked = st.text_input(
        "Opened", key="run", bind="query-params", placeholder="ids of runs; choosing rows fills this",
        help=f"one run, or up to {MOST_RUNS} to compare; part of the address, to share the view",
    )  # fmt: skip
found = _matching(selection.runs, words or "", selection.look)
if chosen_statuses:
    found = found[found["status"].isin(chosen_statuses)]
found = _ordered(found, order)
pages, page = -(-len(found) // _ROWS), 1
if pages > 1:
    with bar:
        page = int(st.number_input("Page", 1, pages, 1, key="runs_page", width=120))
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
elif len(opened) > MOST_RUNS:
    st.info(
        f"{len(opened)} runs are too many to compare; choose at most {MOST_RUNS}.", icon=":material/info:"
    )
is_open = 1 <= len(opened) <= MOST_RUNS
left, right = st.columns([3, 2], gap="medium") if is_open else (st.container(), None)
with left:
    if found.empty:
        st.info("No run matches; search for fewer words, or widen the filters.", icon=":material/info:")
    else:
        _table(found, page, pages)
if right is not None:
    with right:
        if len(opened) == 1:
            one_run.details(opened.iloc[0], selection.look)
        else:
            _compared(opened)

st.divider()
with show.forgiving():
    history = data.table(selection.part, "history")
    if not is_open:
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
        # how long a run that has not ended would have been is not always known
        ended = (shown["status"] == "done").all()
        options = {key: AGAINST[key] for key in (AGAINST if ended else reversed(AGAINST))}
        with st.container(horizontal=True, vertical_alignment="bottom"):
            what = st.selectbox(
                "Curve", list(names), _first(list(names)), format_func=names.__getitem__, key="runs_curve",
                bind="query-params", width=300,
            )  # fmt: skip
            against = show.axis("Against", options, "runs_against")
            single = not is_open and st.toggle("Single seeds", key="runs_single", bind="query-params")
        if is_open:
            note = ", ".join(opened["run_id"].astype(str))
            show.chart("curves", lambda look: run_curves(rows, opened, what, look, against), note)
        else:
            show.chart(
                "curves",
                lambda look: seed_curves(rows, shown, what, look, single, against),
                f"{selection.words} · {chosen.words}",
            )
