"""Page Uncertainty: whether predictions are less certain if they are wrong, and on unusual data."""

from __future__ import annotations

import streamlit as st

from bench.figures import (
    DETECTION,
    DETECTORS,
    EVERY_SHIFT,
    GAINS,
    SHIFTED,
    UNCERTAINTIES,
    axes,
    by_split,
    corruption_error,
    detection,
    foreign_splits,
    matrix,
    posterior_gain,
    risk_coverage,
    scaled_under_shift,
    separation,
    severity,
    shifts,
    tells_errors,
)
from dashboard import choose, data, show
from dashboard.filters import Selection

selection: Selection = st.session_state["selection"]
part = selection.part
st.title("Uncertainty", anchor=False)
with st.container(horizontal=True):
    predictor = show.axis(
        "Predictor", {"samples": "posterior samples", "mean": "mean network"}, "uncertainty-predictor"
    )
    split = show.axis("Split", {"test": "test", "val": "validation"}, "uncertainty-split")
    measure = show.axis(
        "Measure", {name: axis.name for name, axis in UNCERTAINTIES.items()}, "uncertainty-measure"
    )
chosen = choose.configurations(selection, "uncertainty-configurations", selection.score)
runs, ids = chosen.runs, chosen.ids
singles = st.toggle("Single seeds", key="uncertainty-singles", bind="query-params")
which = f"{selection.words} · {chosen.words}"
words = f"{which} · {predictor} · {split}"

with show.forgiving():
    metrics = data.table(part, "metrics")
    foreign, corruptions = foreign_splits(metrics), shifts(metrics)
    show.chart(
        "separation", lambda look: separation(runs, metrics, measure, predictor, split, look, singles), words
    )
    told = tells_errors(metrics)
    if told:
        score = show.axis("Score", {name: axis.name for name, axis in DETECTION.items()}, "uncertainty-score")
        show.chart(
            "detection", lambda look: detection(runs, metrics, score, predictor, split, look, singles), words
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
        show.chart(
            "risk-coverage",
            lambda look: risk_coverage(
                selection.runs, data.table(part, "selective"), ids, predictor, split, look, singles
            ),
            words,
        )
    gain = show.axis("Gain in", {name: axes()[name].name for name in GAINS}, "uncertainty-gain")
    show.chart("gain", lambda look: posterior_gain(runs, gain, look, singles), which)
    if not foreign and not corruptions:
        st.caption("No unknown inputs and no shifted test inputs have been evaluated in this suite.")
    beside = f"{which} · {predictor}"
    if foreign:
        st.subheader("Unknown inputs", anchor=False)
        detector = show.axis("Judged by", DETECTORS, "uncertainty-detector", wrap=True)
        show.chart("matrix", lambda look: matrix(runs, metrics, detector, predictor, look), beside)
        other = st.selectbox("Set", foreign, key="uncertainty-foreign", bind="query-params", width=240)
        show.chart("foreign", lambda look: by_split(runs, metrics, measure, other, predictor, look), beside)
        show.chart(
            "rejection",
            lambda look: risk_coverage(
                selection.runs, data.table(part, "selective"), ids, predictor, other, look, singles
            ),
            beside,
        )
    if corruptions:
        st.subheader("Shifted test inputs", anchor=False)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            shift = st.selectbox(
                "Shift",
                [EVERY_SHIFT, *corruptions],
                key="uncertainty-shift",
                bind="query-params",
                width=240,
            )
            followed = show.axis(
                "Score",
                {name: axis.name for name, axis in SHIFTED.items()},
                "uncertainty-followed",
                wrap=True,
            )
        show.chart(
            "severity",
            lambda look: severity(selection.runs, metrics, followed, shift, ids, predictor, look),
            beside,
        )
        show.chart(
            "corruption-error",
            lambda look: corruption_error(
                selection.runs, metrics, predictor, look, singles, set(runs["config_id"])
            ),
            beside,
        )
        show.chart(
            "scaled-shift", lambda look: scaled_under_shift(runs, metrics, predictor, look, singles), beside
        )
