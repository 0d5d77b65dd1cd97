"""Page Subspace: how the set of active weights moves during training."""

from __future__ import annotations

import streamlit as st

from bench.figures import (
    MOST_CONFIGURATIONS,
    MOVES,
    MOVES_EXPLAINED,
    NO_FINAL,
    default_choice,
    layer_map,
    moves,
    settling,
    subspace,
    weight_scores,
    worth,
)
from dashboard import choose, data, show
from dashboard.filters import Selection
from dashboard.plain import plain

selection: Selection = st.session_state["selection"]
st.title("Subspace", anchor=False)
st.markdown(
    "A sparse method that moves its subspace removes some active weights at every update and adds as many "
    "others. How much of the subspace is replaced, where in the network, and which weights go and come?"
)

with show.forgiving():
    layers = data.table(selection.part, "layers")
    done = selection.done
    recorded = done[done["run_id"].isin(layers["run_id"].unique())]
    configurations = recorded.drop_duplicates("config_id")
    if configurations.empty:
        moves(layers.head(0))  # raises Missing with a message for the reader
    configuration = selection.look.configuration
    ids = {configuration(row.config_label): row.config_id for row in configurations.itertuples()}
    move = show.axis("Show", MOVES, "subspace_show")
    chosen = st.multiselect(
        "Configurations", list(ids)[: choose.MOST_OPTIONS],
        default=[configuration(label) for label in default_choice(configurations.head(choose.MOST_OPTIONS))],
        key="subspace_configurations",
        max_selections=MOST_CONFIGURATIONS, bind="query-params", placeholder="choose some",
    )  # fmt: skip
    choose.say_if_more(len(ids))
    runs = recorded[recorded["config_id"].isin([ids[name] for name in chosen])]
    rows = layers[layers["run_id"].isin(runs["run_id"])]
    everything = data.table(selection.part, "runs")
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    layer = left.selectbox(
        "Layer",
        ["all layers", *dict.fromkeys(rows["layer"].astype(str))],
        key="subspace_layer",
        bind="query-params",
    )
    singles = right.toggle("Single seeds", key="subspace_singles", bind="query-params")
    one = None if layer == "all layers" else layer
    where = f"{selection.part.name} · {selection.setting}"
    if chosen:
        show.chart(
            "subspace",
            lambda look: subspace(rows, runs, move, look, one, everything, singles),
            f"{where} · {layer}",
        )
        st.markdown(MOVES_EXPLAINED[move] + (f" {NO_FINAL}" if move.startswith("iou") else ""))
        st.divider()
        history = data.table(selection.part, "history")
        if show.chart("settling", lambda look: settling(history, runs, look), where) is not None:
            drawn = show.chart(
                "settled-score", lambda look: worth(history, recorded, selection.score, look), where
            )
            if drawn is not None:
                st.markdown(plain(drawn.alt))
        st.divider()
        label = st.selectbox("Layers of", chosen, key="subspace_of", bind="query-params")
        its = runs[runs["config_id"] == ids[label]]
        own = rows[rows["run_id"].isin(its["run_id"])]
        show.chart("layer-map", lambda look: layer_map(own, move, look), f"{where} · {label}")
        names = list(dict.fromkeys(own["layer"].astype(str)))
        name = (
            one
            if one in names
            else st.selectbox("Scores in layer", names, key="subspace_scores", bind="query-params")
        )
        criterion = its["criterion"].iloc[0]
        show.chart(
            "weight-scores",
            lambda look: weight_scores(own, name, look, criterion if isinstance(criterion, str) else None),
            f"{where} · {label} · {name}",
        )
        st.markdown(
            "The weights with the lowest scores are removed. Where the bands of kept and removed weights "
            "meet, the choice is close. Added weights with a score of 0 are the next to be removed, unless "
            "training raises their score before the next update."
        )
    else:
        st.info("Choose a configuration to see how its subspace moves.", icon=":material/info:")
