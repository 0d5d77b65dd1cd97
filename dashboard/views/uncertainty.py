"""Page Uncertainty: whether predictions are less certain if they are wrong, and on unusual data."""

from __future__ import annotations

import streamlit as st

from bench.figures import (
    DETECTION,
    GAINS,
    SHIFTED,
    UNCERTAINTIES,
    axes,
    by_split,
    detection,
    foreign_splits,
    posterior_gain,
    risk_coverage,
    separation,
    severity,
    shifts,
    tells_errors,
)
from dashboard import choose, data, show
from dashboard.filters import Selection

selection: Selection = st.session_state["selection"]
part, runs, look = selection.part, selection.runs, selection.look
st.title("Uncertainty", anchor=False)
with st.container(horizontal=True):
    predictor = show.axis(
        "Predictor", {"samples": "posterior samples", "mean": "mean network"}, "uncertainty-predictor"
    )
    split = show.axis("Split", {"test": "test", "val": "validation"}, "uncertainty-split")
    measure = show.axis(
        "Measure", {name: axis.name for name, axis in UNCERTAINTIES.items()}, "uncertainty-measure"
    )
singles = st.toggle("Single seeds", key="uncertainty-singles", bind="query-params")
words = f"{selection.words} · {predictor} · {split}"

with show.forgiving():
    metrics = data.table(part, "metrics")
    foreign, corruptions = foreign_splits(metrics), shifts(metrics)
    show.chart(
        "separation", lambda: separation(runs, metrics, measure, predictor, split, look, singles), words
    )
    told = tells_errors(metrics)
    if told:
        score = show.axis("Score", {name: axis.name for name, axis in DETECTION.items()}, "uncertainty-score")
        show.chart(
            "detection", lambda: detection(runs, metrics, score, predictor, split, look, singles), words
        )
    else:
        st.info(
            "These results do not separate right from wrong predictions: they were computed before this was "
            "measured. Computing them anew shows both separately, how well uncertainty finds errors, and "
            "risk-coverage curves.",
            icon=":material/info:",
        )
        choose.again(selection)

    if told:
        chosen = choose.configurations(selection, "uncertainty-configurations")
        show.chart(
            "risk-coverage",
            lambda: risk_coverage(
                runs, data.table(part, "selective"), chosen, predictor, split, look, singles
            ),
            words,
        )
    gain = show.axis("Gain in", {name: axes()[name].name for name in GAINS}, "uncertainty-gain")
    show.chart("gain", lambda: posterior_gain(runs, gain, look, singles), selection.words)
    if not foreign and not corruptions:
        st.caption("No data out of distribution and no shifted data have been evaluated in this suite.")
    if foreign:
        other = st.selectbox("Data set", foreign, key="uncertainty-foreign", bind="query-params")
        show.chart(
            "foreign", lambda: by_split(runs, metrics, measure, other, predictor, look), selection.words
        )
    if corruptions:
        if not told:
            chosen = choose.configurations(selection, "uncertainty-configurations")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            shift = st.selectbox(
                "Shift", corruptions, key="uncertainty-shift", bind="query-params", width=240
            )
            followed = show.axis(
                "Score",
                {name: axis.name for name, axis in SHIFTED.items()},
                "uncertainty-followed",
                wrap=True,
            )
        show.chart(
            "severity",
            lambda: severity(runs, metrics, followed, shift, chosen, predictor, look),
            f"{selection.words} · {predictor}",
        )
