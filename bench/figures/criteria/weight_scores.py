"""Show scores of the weights that are kept, removed and added at updates of the subspace."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.bands import MOST_POINTS, in_bins, over_seeds
from bench.figures.parts.chart import Chart, Look, Missing, escaped, translucent

#: What happens to weights, with colours by mode, dash and marker; methods and criteria have other looks.
_FATES = {
    "kept": ({"light": "#0B7285", "dark": "#4FD1E0"}, "solid", "circle"),
    "removed": ({"light": "#B3261E", "dark": "#FF8A80"}, "dash", "x"),
    "added": ({"light": "#6A5300", "dark": "#E3C567"}, "dot", "triangle-up"),
}
_QUANTILES = ("q10", "q50", "q90")
#: The axis is logarithmic if medians differ by at least this factor.
_LOG_FROM = 10.0


def weight_scores(
    layers: pd.DataFrame, layer: str, look: Look | None = None, criterion: str | None = None
) -> Chart:
    """Draw the scores of the weights of a layer that are kept, removed and added, over training.

    Parameters
    ----------
    layers
        Rows of the table ``layers`` of one configuration.
    layer
        Name of the layer.
    look
        Light or dark mode and style; None for those that the table carries.
    criterion
        Criterion that computes the scores, for the label of the axis; None if the method has no such option.

    Raises
    ------
    Missing
        If no scores were recorded.
    """
    look = look or Look.of(layers)
    rows = layers[layers["layer"].astype(str) == layer]
    columns = [f"{fate}_{quantile}" for fate in _FATES for quantile in _QUANTILES]
    rows = rows.dropna(subset=columns, how="all")
    if rows.empty:
        raise Missing(f"No scores were recorded of layer {layer}. Finished runs of ssvi and rigl have them.")
    rows = rows.astype({"step": "int64", "epoch": "float64"})
    binned = in_bins(rows, [], MOST_POINTS, columns)
    found = over_seeds(binned, ["time"], columns)
    times = binned.groupby("time")[["step", "epoch"]].mean().reset_index()
    found = found.merge(times, on="time").sort_values("time").drop(columns="time").reset_index(drop=True)
    sign = _sign(found)
    figure = look.figure(height=440)
    unseen = []
    for fate, (colours, dash, marker) in _FATES.items():
        colour = colours[look.mode]
        medians = found[f"{fate}_q50_mean"]
        if medians.isna().all():
            continue
        if sign and (medians.dropna() * sign <= 0).all():
            unseen.append(fate)
            continue
        figure.add_trace(_band(found, fate, colour, sign))
        figure.add_trace(_line(found, fate, colour, dash, marker, sign))
    name = f"score ({escaped(criterion)})" if criterion else "score"
    figure.update_xaxes(title_text="training step", tickformat=",", rangemode="tozero")
    figure.update_yaxes(title_text=f"{name} ↑ kept", tickformat="~g")
    if sign:
        figure.update_yaxes(
            type="log", tickformat="~g", dtick=1, minor={"ticks": ""},
            tickprefix="−" if sign < 0 else "", autorange="reversed" if sign < 0 else True,
        )  # fmt: skip
    for fate in unseen:
        colours, dash, marker = _FATES[fate]
        # shown in the legend only, because a logarithmic axis has no 0
        figure.add_trace(
            go.Scatter(
                x=[None], y=[None], mode="lines+markers",
                name=f"{fate}: 0, {'below' if sign > 0 else 'above'} the axis",
                line={"color": colours[look.mode], "dash": dash}, marker={"symbol": marker, "size": 7},
            )
        )  # fmt: skip
    zero = f" Scores of 0 ({', '.join(unseen)}) have no place on a logarithmic axis." if unseen else ""
    first, last = found.iloc[0], found.dropna(subset=["removed_q50_mean"]).iloc[-1:]
    return Chart(
        title="What do the weights score that are kept, removed and added?",
        figure=figure,
        data=found,
        how=(
            "Lines are medians over the weights of the layer, bands the "
            "10th to 90th percentile of its weights (not an interval over seeds), each averaged over seeds; "
            "n in the data. Scores are those before an update; of added weights, as they are initialised, so "
            "they say what a newcomer starts from. Late updates move few weights, and their percentiles are "
            f"those of a handful.{' The axis is logarithmic.' if sign else ''}"
            f"{' Scores are negative here: it is in their size, and turned.' if sign < 0 else ''}{zero}"
        ),
        alt=(
            f"Scores in layer {layer}: at the first update the median of kept weights is "
            f"{first['kept_q50_mean']:.3g}, of removed ones {first['removed_q50_mean']:.3g}; at the last one "
            f"that removed any {_at(last, 'kept')} and {_at(last, 'removed')}."
        ),
    )


def _at(last: pd.DataFrame, fate: str) -> str:
    return f"{last[f'{fate}_q50_mean'].iloc[0]:.3g}" if len(last) else "–"


def _sign(found: pd.DataFrame) -> int:
    """Return the common sign of the medians of kept and removed weights if a log axis suits them, else 0."""
    medians = pd.concat([found["kept_q50_mean"], found["removed_q50_mean"]]).dropna()
    sizes = medians.abs()
    if sizes.empty or sizes.min() == 0 or sizes.max() < _LOG_FROM * sizes.min():
        return 0
    return 1 if (medians > 0).all() else -1 if (medians < 0).all() else 0


def _scaled(values: pd.Series, sign: int) -> list[float | None]:
    """Round values for the axis; a value that a logarithmic axis can't show becomes None."""
    shown = values * (sign or 1)
    return [None if math.isnan(v) or (sign and v <= 0) else float(f"{v:.5g}") for v in shown]


def _line(found: pd.DataFrame, fate: str, colour: str, dash: str, marker: str, sign: int) -> go.Scatter:
    quantiles = [f"{fate}_{quantile}_mean" for quantile in _QUANTILES]
    return go.Scatter(
        x=found["step"].tolist(), y=_scaled(found[f"{fate}_q50_mean"], sign), mode="lines+markers", name=fate,
        legendgroup=fate, line={"color": colour, "dash": dash, "width": 2},
        marker={"symbol": marker, "size": 7, "color": colour, "maxdisplayed": 25},
        customdata=[
            [*(f"{value:.3g}" for value in values), f"{epoch:.0f}", int(n)]
            for *values, epoch, n in found[[*quantiles, "epoch", f"{fate}_q50_n"]].itertuples(index=False)
        ],
        hovertemplate=(
            f"<b>{fate}</b><br>median %{{customdata[1]}}, 10–90 %: %{{customdata[0]}} to "
            f"%{{customdata[2]}}<br>"
            "step %{x:,} (epoch %{customdata[3]}), n = %{customdata[4]}<extra></extra>"
        ),
    )  # fmt: skip


def _band(found: pd.DataFrame, fate: str, colour: str, sign: int) -> go.Scatter:
    rows = found.dropna(subset=[f"{fate}_q10_mean", f"{fate}_q90_mean"])
    low, high = (_scaled(rows[f"{fate}_{q}_mean"], sign) for q in ("q10", "q90"))
    # an end of the band that a logarithmic axis can't show is replaced by the median
    middle = _scaled(rows[f"{fate}_q50_mean"], sign)
    low = [m if value is None else value for value, m in zip(low, middle, strict=True)]
    high = [m if value is None else value for value, m in zip(high, middle, strict=True)]
    x = rows["step"].tolist()
    return go.Scatter(
        x=[*x, *x[::-1]], y=[*high, *low[::-1]], mode="lines", line={"width": 0}, fill="toself",
        fillcolor=translucent(colour), legendgroup=fate, showlegend=False, hoverinfo="skip",
    )  # fmt: skip
