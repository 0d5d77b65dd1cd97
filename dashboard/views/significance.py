"""Page Significance: whether a difference is real, and whether it would hold on other data sets."""

from __future__ import annotations

import streamlit as st

from bench.figures import (
    axes,
    compare,
    compared,
    matrix_of_pairs,
    middle,
    one_a_method,
    ranks,
    seed_differences,
    verdict,
)
from bench.statistics.splits import scope
from dashboard import choose, data, show
from dashboard.filters import Selection
from dashboard.plain import plain

#: Greatest number of configurations whose pairs are readable.
_MOST = 12

selection: Selection = st.session_state["selection"]
runs, score, look = selection.runs, selection.score, selection.look
st.title("Significance", anchor=False)
axis = axes()[score]

with show.forgiving():
    board = compared(runs, score)
    ids = {look.configuration(row.config_label): str(row.config_id) for row in board.itertuples()}
    options = list(ids)[: choose.MOST_OPTIONS]
    choose.say_if_more(len(ids))
    best = board.iloc[0]
    # the best is compared with the next best of another method at its sparsity
    alike = board[(board["sparsity"] == best["sparsity"]) & (board["method"] != best["method"])]
    rival = (alike if len(alike) else board.iloc[1:]).head(1)
    second = list(ids.values()).index(str(rival["config_id"].iloc[0])) if len(rival) else 0
    left, right = st.columns(2)
    with left:
        one = st.selectbox("Configuration", options, key="significance_one", bind="query-params")
    with right:
        start = second if second < len(options) else 0
        other = st.selectbox("minus", options, index=start, key="significance_other", bind="query-params")
    first, theirs = ids[str(one)], ids[str(other)]
    with show.forgiving():
        st.markdown(f"##### {plain(verdict(runs, first, theirs, score, look))}")
        st.caption(
            f"{scope(runs)} p is that of this comparison alone; the matrix below corrects for all its pairs."
        )
        words = f"{selection.words} · {one} minus {other}"
        show.chart("seeds", lambda look: seed_differences(runs, first, theirs, score, look), words)
    with st.expander("Other tests of these two", key="significance-more", on_change="rerun") as opened:
        if opened.open:
            with show.forgiving():
                found = compare(runs, first, theirs, score)
                st.dataframe(
                    found.drop(columns="words"),
                    hide_index=True,
                    column_config={
                        "value": st.column_config.NumberColumn(
                            format="%.4g", help=f"differences in {axis.step or axis.name}"
                        ),
                        "low": st.column_config.NumberColumn("95 % from", format="%.4g"),
                        "high": st.column_config.NumberColumn("to", format="%.4g"),
                        "p": st.column_config.NumberColumn(format="%.2g", help="of this comparison alone"),
                    },
                    placeholder="–",
                    alt=f"{axis.name} of {one} minus that of {other}, in several ways.",
                )
                for row in found[found["words"] != ""].itertuples():
                    st.markdown(plain(f"{row.what}: {row.words}"))
                show.download("significance", found)

    references = data.references(selection.part).values()
    chosen = st.multiselect(
        "Pairs of", options, key="significance_pairs", max_selections=_MOST, bind="query-params",
        placeholder="one configuration of each method, at the sparsity that most have",
    )  # fmt: skip
    pairs = [ids[name] for name in chosen] or one_a_method(runs, look, references, _MOST)
    show.chart("pairs", lambda look: matrix_of_pairs(runs, pairs, score, look), selection.words)

with st.expander("Would it hold on other data sets?", key="significance-sets", on_change="rerun") as opened:
    if opened.open:
        everything = data.table(selection.part, "runs")
        show.chart(
            "ranks",
            lambda look: ranks(everything, score, look),
            f"{selection.part.name}, all test sets",
        )
        st.subheader(f"How large is {axis.name} in the middle of all runs?", anchor=False)
        with show.forgiving():
            table = middle(everything, score)
            named = table["configuration"].map(look.configuration)
            st.dataframe(table.assign(configuration=named), hide_index=True)
            st.caption(
                "Interquartile mean over the runs of all test sets, relative to the mean on the same test "
                "set, with a stratified bootstrap interval (95 %)."
            )
