"""Page Significance: whether a difference is real, and whether it would hold on other data sets."""

from __future__ import annotations

import streamlit as st

from bench.figures import axes, compare, middle, ranks
from bench.statistics.seeds import summarise
from bench.statistics.splits import scope
from dashboard import choose, data, show
from dashboard.filters import Selection
from dashboard.plain import plain

selection: Selection = st.session_state["selection"]
st.title("Significance", anchor=False)
score = selection.score
axis = axes()[score]

st.subheader("Is the difference between two configurations real?", anchor=False)
st.caption(plain(selection.words))
# by default the best configuration is compared with the second best
ranked = summarise(selection.runs, metrics=[score]).dropna(subset=[f"{score}_mean"])
known = ranked.sort_values(f"{score}_mean", ascending=axis.better == "lower", kind="stable")
labels = {selection.look.configuration(row.config_label): str(row.config_id) for row in known.itertuples()}
options = list(labels)[: choose.MOST_OPTIONS]
choose.say_if_more(len(labels))
left, right = st.columns(2)
with left:
    one = st.selectbox("Configuration", options, key="significance_one", bind="query-params")
with right:
    second = min(1, max(len(labels) - 1, 0))
    other = st.selectbox("minus", options, index=second, key="significance_other", bind="query-params")
with show.forgiving():
    found = compare(selection.runs, labels.get(one or "", ""), labels.get(other or "", ""), score)
    better = {"higher": "above 0: the first is better", "lower": "below 0: the first is better"}
    unit = axis.step
    st.dataframe(
        found.drop(columns="words"),
        hide_index=True,
        column_config={
            "value": st.column_config.NumberColumn(format="%.4g", help=f"differences in {unit or axis.name}"),
            "low": st.column_config.NumberColumn("95 % from", format="%.4g"),
            "high": st.column_config.NumberColumn("to", format="%.4g"),
            "p": st.column_config.NumberColumn(format="%.2g", help="for this one comparison, not corrected"),
        },
        placeholder="–",
        alt=f"{axis.name} of {one} minus that of {other}, in several ways.",
    )
    for row in found[found["words"] != ""].itertuples():
        st.markdown(plain(f"{row.what}: {row.words}"))
    st.caption(
        f"Differences of {axis.name}: {better.get(axis.better or '', '')}. {scope(selection.runs)} p values "
        "are not corrected for several comparisons, some of which would be small by chance; the tests of the "
        "Leaderboard are corrected."
    )
    show.download("significance", found)

everything = data.table(selection.part, "runs")
show.chart("ranks", lambda look: ranks(everything, score, look), f"{selection.part.name}, all test sets")
st.subheader(f"How large is {axis.name} in the middle of all runs?", anchor=False)
with show.forgiving():
    found = middle(everything, score)
    named = found["configuration"].map(selection.look.configuration)
    st.dataframe(found.assign(configuration=named), hide_index=True)
    st.caption(
        "Interquartile mean over the runs of all test sets, relative to the mean on the same test set, with "
        "a stratified bootstrap interval (95 %)."
    )
