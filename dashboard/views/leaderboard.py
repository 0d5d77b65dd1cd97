"""Page Leaderboard: which configuration is best, which are equivalent to it, and which are worse."""

from __future__ import annotations

import streamlit as st

from bench.figures import MOST_COMPARED, SCORES, axes, grouped, latex, leaderboard, numbers
from bench.statistics.splits import scope
from dashboard import for_paper, show
from dashboard.filters import Selection
from dashboard.plain import plain

#: Greatest number of rows that are sent to the browser.
_MOST_ROWS = 250

selection: Selection = st.session_state["selection"]
st.title("Leaderboard", anchor=False)
score = selection.score
axis = axes()[score]

with show.forgiving():
    board = leaderboard(selection.runs, score)
    table, told = numbers(board.head(_MOST_ROWS), selection.look)
    st.subheader(f"Which configuration has the best {axis.name}?", anchor=False)
    st.caption(plain(selection.words))
    event = st.dataframe(
        table,
        hide_index=True,
        # chosen rows are kept by position, so that another table needs another widget
        key=f"leaderboard-table-{hash(tuple(board['config_id'])) & 0xFFFFFFFF:x}",
        on_select="rerun",
        selection_mode="single-row",
        height=show.height(len(table)),
        column_config={
            "rank": st.column_config.NumberColumn(help="1 + the number that are significantly better"),
            "to": st.column_config.NumberColumn(help="the number that are not significantly worse"),
            "verdict": st.column_config.TextColumn(
                help="● the best, or equivalent to it; ○ undecided; ▽ some configuration is better"
            ),
            **{
                head: st.column_config.NumberColumn(format=f"%.{digits}f", help=definition)
                for head, (digits, definition) in told.items()
            },
        },
        alt=f"Configurations by {axis.name}, best first.",
    )
    if len(board) > _MOST_ROWS:
        st.caption(f"The best {_MOST_ROWS} of {len(board):,}; the CSV has all.")
    if len(board) > MOST_COMPARED:
        st.info(f"No ranks: {len(board):,} are too many to compare in pairs. Narrow the filters first.")
    else:
        st.markdown(
            f"{grouped(board, score)} Pairs are those that the filters leave. ± is the half width of the "
            f"95 % t-interval over seeds. {scope(selection.runs)}"
        )
    caption = f"Configurations by {axis.name}: {selection.words}"
    for_paper.table("leaderboard", board, lambda: latex(board, selection.look, caption), selection)
    rows = event["selection"]["rows"]
    if not rows:
        st.caption("Choose a row to see the runs behind it.")
    else:
        chosen = board.iloc[rows[0]]
        st.subheader(plain(f"Runs of {selection.look.configuration(chosen['config_label'])}"), anchor=False)
        mine = selection.runs[selection.runs["config_id"] == chosen["config_id"]].sort_values("seed")
        st.dataframe(mine[["seed", "status", *SCORES, "wall_seconds", "run_id"]], hide_index=True)
        for run in mine.itertuples():
            st.page_link(
                "views/runs.py", label=f"seed {run.seed}: {run.run_id}", query_params={"run": str(run.run_id)}
            )
