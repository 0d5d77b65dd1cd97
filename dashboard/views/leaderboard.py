"""Page Leaderboard: which method is best, and which others differ from it, are equivalent, or undecided."""

from __future__ import annotations

import streamlit as st

from bench.figures import MOST_COMPARED, axes, compared, latex, standings
from bench.figures.standings import INTERVAL, in_words
from bench.statistics.splits import scope
from dashboard import address, configuration, data, for_paper, show
from dashboard.filters import Selection
from dashboard.plain import plain

#: Greatest number of rows that are sent to the browser.
_MOST_ROWS = 250
_CHOSEN = (
    "A method's row is its best configuration of those with its most seeds, chosen by the scores that are "
    "shown. "
)
_ROWS = {"methods": "one row a method", "all": "every configuration"}

selection: Selection = st.session_state["selection"]
st.title("Leaderboard", anchor=False)
score, look = selection.score, selection.look
axis = axes()[score]

with show.forgiving():
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shown = show.axis("Rows", _ROWS, "leaderboard_rows")
        sparse = st.toggle(
            "Sparse only", key="leaderboard_sparse", bind="query-params",
            help="of a measured density at or below that of configurations that were asked for a sparsity; "
            "where none was, all that have lost weights",
        )  # fmt: skip
    board = compared(selection.runs, score, sparse)
    several = board["method"].value_counts()
    unfolded: list[str] | None = None
    if shown == "methods":
        options = look.ordered(several[several > 1].index.astype(str))
        unfolded = address.some_of(
            "Unfold", options, "leaderboard_unfold", look.name, empty="methods whose configurations to show"
        )
    references = set(data.references(selection.part).values())
    found = standings(board.head(_MOST_ROWS), score, look, unfolded, references)
    what = "method" if shown == "methods" else "configuration"
    st.subheader(f"Which {what} has the best {axis.name}?", anchor=False)
    st.caption(plain(selection.words))
    ids = found.board["config_id"].astype(str).tolist()
    # chosen rows are kept by position, so that another table needs another widget
    table = f"leaderboard-table-{hash(tuple(ids)) & 0xFFFFFFFF:x}"
    st.dataframe(
        found.table,
        hide_index=True,
        key=table,
        on_select=lambda: configuration.choose_row(table, ids),
        selection_mode="single-row",
        height=show.height(len(found.table)),
        column_config={
            "method": st.column_config.TextColumn(width=160),
            "sparsity %": st.column_config.NumberColumn(
                format="%.4g", help="share of weights that were removed, as measured"
            ),
            INTERVAL: st.column_config.ImageColumn(
                width=120, help="mean and 95 % t-interval over seeds, on one scale; dotted: the best mean"
            ),
            "verdict": st.column_config.TextColumn(help="about the best with as many seeds"),
            **{
                head: st.column_config.NumberColumn(format=f"%.{digits}f", help=definition)
                for head, (digits, definition) in found.told.items()
            },
        },
        placeholder="–",
        alt=f"{what.capitalize()}s by {axis.name}, best first.",
    )
    if len(board) > _MOST_ROWS:
        st.caption(f"The best {_MOST_ROWS} of {len(board):,}; the CSV has all.")
    if len(board) > MOST_COMPARED:
        st.info(f"No verdicts: {len(board):,} are too many to compare in pairs. Narrow the filters first.")
    else:
        st.markdown(
            f"{_CHOSEN if shown == 'methods' else ''}{in_words(board, score)} {scope(selection.runs)}"
        )
    caption = f"{what.capitalize()}s by {axis.name}: {selection.words}"
    printed = found.board.drop(columns=["density_mean", "density_half_width"])
    for_paper.table("leaderboard", board, lambda: latex(printed, look, caption), selection)
    st.caption("Choose a row to open its configuration: runs, settings and command.")
