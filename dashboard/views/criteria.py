"""Page Criteria: whether the removal criterion matters, and where criteria differ."""

from __future__ import annotations

import streamlit as st

from bench.figures import (
    BESIDE,
    MOMENTS,
    aliases,
    beside_criteria,
    coincidences,
    criteria,
    few_at_the_end,
    overlap_in_time,
    overlap_map,
    same_results,
    settings_map,
    verdicts,
)
from dashboard import choose, data, show
from dashboard.filters import Selection
from dashboard.plain import plain

_OWN = "the run's own criterion"

selection: Selection = st.session_state["selection"]
st.title("Criteria", anchor=False)
st.markdown(
    "SSVI removes the weights with the lowest scores, again and again. Does the criterion that scores them "
    "matter?"
)
references = data.references(selection.part)
left_out = aliases(data.plan(selection.part)["cells"])

score = selection.score
singles = st.toggle("Single seeds", key="criteria_singles", bind="query-params")
drawn = show.chart(
    "criteria",
    lambda look: criteria(
        selection.everything,
        score,
        references,
        look,
        {a.name: a.of for a in left_out},
        singles,
        set(selection.runs["config_id"]),
    ),
    selection.words,
)
if drawn is not None:
    found = drawn.data
    lines = [
        *verdicts(found, score, selection.look),
        *same_results(selection.runs, found, selection.look),
        *(a.words for a in left_out),
    ]
    st.markdown("\n".join(f"- {plain(line)}" for line in lines))

if beside := beside_criteria(selection.runs):
    setting = beside[0]
    if len(beside) > 1:
        setting = show.axis("Criterion and", {key: BESIDE[key] for key in beside}, "criteria_beside")
    show.chart(
        "criteria-map", lambda look: settings_map(selection.runs, score, setting, look), selection.words
    )

look = selection.look.criterion
present = {*selection.everything["criterion"].dropna().astype(str), *(a.name for a in left_out)}
if explained := [name for name in look.ordered(present) if name in look.styles]:
    with st.expander("What are the criteria?"):
        for name in explained:
            known = look.styles[name]
            st.markdown(
                f"**{plain(look.name(name))}** · {plain(known['formula'])}  \n{plain(known['doc'])} "
                f"Source: {plain(known['source'])}."
            )
            st.latex(known["latex"])

st.divider()
with show.forgiving():
    pairs = data.table(selection.part, "criteria_pairs")
    done = selection.done
    recorded = done[done["run_id"].isin(pairs["run_id"].unique())]
    labels = recorded.drop_duplicates("config_id").set_index("config_label")["config_id"]
    labels.index = labels.index.map(selection.look.configuration)
    if labels.empty:
        overlap_map(pairs.head(0), selection.look)  # raises Missing with a message for the reader
    left, right = st.columns(2)
    label = left.selectbox(
        "Runs of", list(labels.index)[: choose.MOST_OPTIONS], key="criteria_runs", bind="query-params",
        help="a run removes weights by its own criterion, and records what the others would have removed",
    )  # fmt: skip
    choose.say_if_more(len(labels))
    mine = pairs[pairs["run_id"].isin(recorded.loc[recorded["config_id"] == labels[label], "run_id"])]
    layers = data.table(selection.part, "layers")
    network = layers.loc[layers["run_id"] == mine["run_id"].iloc[0], "layer"]  # in the network's order
    layer = right.selectbox(
        "Layer", ["all layers", *dict.fromkeys(network.astype(str))], key="criteria_layer",
        bind="query-params",
    )  # fmt: skip
    one = None if layer == "all layers" else layer
    shown = mine if one is None else mine[mine["layer"].astype(str) == one]
    subtitle = f"{selection.part.name} · {selection.setting} · {label} · {layer}"
    moment = show.axis("At", MOMENTS, "criteria_at")
    show.chart("overlap", lambda look: overlap_map(mine, look, one, moment), subtitle)
    st.markdown("\n".join(f"- {plain(line)}" for line in coincidences(shown, selection.look)))
    used = str(mine["criterion_used"].iloc[0])
    names = list(dict.fromkeys([*mine["criterion_a"].astype(str), *mine["criterion_b"].astype(str)]))
    chosen = st.selectbox("Compared with", [_OWN, *names], key="criteria_against", bind="query-params")
    # a criterion that always removes the same weights as another is recorded under the other's name
    same_as = {alias.name: alias.of for alias in left_out}
    against = same_as.get(used, used) if chosen == _OWN else chosen
    show.chart(
        "overlap-time",
        lambda look: overlap_in_time(mine, against, look, one, singles),
        subtitle,
    )
    moved = layers[layers["run_id"].isin(mine["run_id"])]
    if said := few_at_the_end(moved if one is None else moved[moved["layer"].astype(str) == one]):
        st.markdown(plain(said))
