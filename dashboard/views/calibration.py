"""Page Calibration: how well probabilities are calibrated, before and after temperature scaling."""

from __future__ import annotations

from functools import partial

import streamlit as st

from bench.figures import SCALED, reliability, scaling
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
chosen = choose.configurations(selection, "calibration-configurations")
shown = predictor + (SCALED if scaled == "after" else "")

with show.forgiving():
    metrics = data.table(part, "metrics")
    show.chart(
        "reliability",
        lambda look: reliability(
            selection.runs, data.table(part, "calibration"), metrics, chosen, shown, split, look
        ),
        f"{selection.words} · {shown} · {split}",
    )
    singles = st.toggle("Single seeds", key="calibration-singles", bind="query-params")
    for score in ("ece", "nll"):
        found = show.chart(
            f"scaling-{score}",
            partial(scaling, selection.runs, metrics, score, predictor, split, singles=singles),
            f"{selection.words} · {predictor} · {split}",
        )
        if found is None:
            choose.again(selection)
            break
