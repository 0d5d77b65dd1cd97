"""Page Calibration: how well probabilities are calibrated, before and after temperature scaling."""

from __future__ import annotations

from functools import partial

import streamlit as st

from bench.figures import BINS, SCALED, reliability, scaling
from dashboard import choose, data, show
from dashboard.filters import Selection

selection: Selection = st.session_state["selection"]
part = selection.part
st.title("Calibration", anchor=False)
with st.container(horizontal=True):
    predictor = show.axis(
        "Predictor", {"samples": "posterior samples", "mean": "mean network"}, "calibration-predictor"
    )
    split = show.axis("Split", {"test": "test", "val": "validation"}, "calibration-split")
    scaled = show.axis(
        "Temperature scaling", {"before": "before", "after": "after"}, "calibration-temperature"
    )
    number = show.axis("Bins", {str(count): str(count) for count in BINS}, "calibration-bins")
chosen = choose.configurations(selection, "calibration-configurations", "ece")
words = f"{selection.words} · {chosen.words}"
shown = predictor + (SCALED if scaled == "after" else "")

with show.forgiving():
    metrics = data.table(part, "metrics")
    show.chart(
        "reliability",
        lambda look: reliability(
            selection.runs,
            data.table(part, "calibration"),
            metrics,
            chosen.ids,
            shown,
            split,
            look,
            int(number),
        ),
        f"{words} · {shown} · {split}",
    )
    singles = st.toggle("Single seeds", key="calibration-singles", bind="query-params")
    for score in ("ece", "nll"):
        found = show.chart(
            f"scaling-{score}",
            partial(scaling, chosen.runs, metrics, score, predictor, split, singles=singles),
            f"{words} · {predictor} · {split}",
        )
        if found is None:
            choose.again(selection)
            break
