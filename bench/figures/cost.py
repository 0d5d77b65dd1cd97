"""Compare counted with measured costs: FLOPs with seconds and memory, weights with bytes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval, log_ticks
from bench.figures.parts.configurations import whose
from bench.results import names, words
from bench.statistics.seeds import summarise

#: Columns of counted and of measured costs, each a ratio to dense VI.
COUNTED = ("train_flops_ratio", "inference_flops_ratio")
MEASURED = ("step_time_ratio", "peak_memory_ratio")
#: Columns in which runs must agree for their times to be comparable.
CIRCUMSTANCES = ("device", "threads", "concurrency", "execution")
_TIMED = (
    "No finished run here has a {name}. It needs runs that had the machine to themselves, and a run of dense "
    "VI in the same suite. The suite cost has both: python -m bench.grid --suite cost --threads 2"
)
#: Texts above and below the line of equal ratios.
_BESIDE = {
    "step_time_ratio": ("slower than counted", "faster than counted"),
    "peak_memory_ratio": ("more memory than counted", "less memory than counted"),
}
#: Side of the plot in pixels. It is a square, so that the line of equal ratios is at 45 degrees.
_SQUARE_PIXELS = 560

_LONGER = "Left out, as they took more or fewer steps than dense VI"


def speed(runs: pd.DataFrame, counted: str, measured: str, look: Look | None = None) -> Chart:
    """Draw measured against counted ratios to dense VI, one mark per configuration.

    Runs that took more or fewer steps than dense VI are left out, since the measured ratio is about one step.

    Parameters
    ----------
    runs
        The table ``runs``.
    counted
        One of ``COUNTED``.
    measured
        One of ``MEASURED``.
    look
        Colours and markers.

    Raises
    ------
    Missing
        No finished run has both ratios, or all took more or fewer steps than dense VI.
    """
    look = look or Look.of(runs)
    x_axis, y_axis = axes()[counted], axes()[measured]
    timed = runs[(runs["status"] == "done") & (runs[measured] > 0) & (runs[counted] > 0)]
    found = timed[_has_as_many_steps(timed)]
    if found.empty:
        if len(timed):
            raise Missing(f"Every run here with a {y_axis.name} took more or fewer steps than dense VI.")
        raise Missing(_TIMED.format(name=y_axis.name))
    table = summarise(found, metrics=[counted, measured])
    table["variant"] = [names.variant(str(label)) for label in table["config_label"]]
    table["measured_over_counted"] = table[f"{measured}_mean"] / table[f"{counted}_mean"]
    figure = look.figure(height=_SQUARE_PIXELS)
    low, high = _span(table, counted, measured)
    _add_equal(figure, low, high, _BESIDE[measured], look)
    for method in look.ordered(table["method"]):
        figure.add_trace(_marks(table[table["method"] == method], x_axis, y_axis, look, method, low))
    _set_square(figure, low, high)
    figure.update_xaxes(title_text=f"counted {x_axis.title.replace('↓', '←')}")
    figure.update_yaxes(title_text=y_axis.title)
    left = len(timed) - len(found)
    return Chart(
        title="Is sparsity real speed?" if measured == "step_time_ratio" else "Is sparsity less memory?",
        figure=figure,
        data=table,
        how=(
            "A mark is a configuration: means over its finished seeds of ratios to dense VI; whiskers are 95 "
            "% t-intervals over seeds (none for a single seed; those of counts are mostly smaller than a "
            "mark), n in the tooltip. An interval that reaches below the axis ends at it. Both axes are "
            "logarithmic and have the same scale. On the dashed line the measured ratio equals the counted "
            "one."
            + (f" {_LONGER}: {words.counted(left, 'run')}." if left else "")
            + f"\n\n**{y_axis.name}**: {y_axis.definition}\n\n**{x_axis.name}**: {x_axis.definition}"
        ),
        alt=_in_words(table, x_axis, y_axis, look),
    )


def stored(runs: pd.DataFrame, look: Look | None = None) -> Chart:
    """Draw how many times smaller the stored model is, against the share of active weights.

    On the line bytes are in proportion to weights.

    Raises
    ------
    Missing
        No finished run has density and bytes.
    """
    look = look or Look.of(runs)
    x_axis, y_axis = axes()["density"], axes()["compression_vs_dense_vi"]
    metrics = ["density", "compression_vs_dense_vi", "checkpoint_bytes"]
    table = summarise(runs, metrics=metrics).dropna(subset=[f"{name}_mean" for name in metrics])
    positive = (table["density_mean"] > 0) & (table["compression_vs_dense_vi_mean"] > 0)
    table = table[positive].reset_index(drop=True)
    if table.empty:
        raise Missing("No finished run here has density and bytes. Widen the filters, or see the page Runs.")
    table["variant"] = [names.variant(str(label)) for label in table["config_label"]]
    table["share_of_proportion"] = table["compression_vs_dense_vi_mean"] * table["density_mean"]
    figure = look.figure(height=460)
    x = table["density_mean"] * x_axis.factor
    ends = np.array([x.min() / 1.3, 130.0])
    figure.add_trace(
        go.Scatter(
            x=ends.tolist(), y=(100 / ends).tolist(), mode="lines", name="bytes in proportion to weights",
            line={"color": look.soft, "width": 1.5, "dash": "dash"}, hoverinfo="skip",
        )
    )  # fmt: skip
    table["size"] = _sizes(table, look)
    for method in look.ordered(table["method"]):
        figure.add_trace(_stored_marks(table[table["method"] == method], x_axis, y_axis, look, method))
    table = table.drop(columns="size")
    y = table["compression_vs_dense_vi_mean"]
    figure.update_xaxes(
        type="log", range=np.log10(ends).tolist(), title_text=x_axis.title, **log_ticks(ends[0], ends[1])
    )
    bottom, top = min(float(y.min()), 1.0) / 1.3, max(float(y.max()), 100 / ends[0]) * 1.1
    figure.update_yaxes(
        type="log", range=[np.log10(bottom), np.log10(top)], title_text=y_axis.title, **log_ticks(bottom, top)
    )
    smallest = table.iloc[int(table["compression_vs_dense_vi_mean"].to_numpy().argmax())]
    return Chart(
        title="Is a tenth of the weights a tenth of the bytes?",
        figure=figure,
        data=table,
        how=(
            "A mark is a configuration: means over its finished seeds, n in the tooltip; bytes hardly differ "
            "between seeds. On the dashed line bytes are in proportion to active weights. A model below it "
            "stores more than these: positions of active weights, biases, normalisation. Above it are "
            "methods that store fewer numbers per weight than dense VI, which stores two.\n\n"
            f"**{y_axis.name}**: {y_axis.definition}\n\n**{x_axis.name}**: {x_axis.definition}"
        ),
        alt=(
            f"The smallest stored model of {words.counted(len(table), 'configuration')} is that of "
            f"{look.configuration(smallest['config_label'])}, "
            f"{smallest['compression_vs_dense_vi_mean']:.3g} times smaller than dense VI with "
            f"{smallest['density_mean']:.2%} of the weights."
        ),
    )


def costs(runs: pd.DataFrame, look: Look | None = None) -> pd.DataFrame:
    """Set what was measured beside what is counted, as ratios to dense VI, cheapest training first.

    Parameters
    ----------
    runs
        The table ``runs``.
    look
        Names of configurations.

    Returns
    -------
    pandas.DataFrame
        One row per configuration with finished runs: ``configuration``, ``n``, and the mean of each of
        ``COUNTED`` and ``MEASURED`` and of the compression; NaN where nothing was counted or measured.

    Raises
    ------
    Missing
        No run is finished.
    """
    look = look or Look.of(runs)
    columns = [*COUNTED, *MEASURED, "compression_vs_dense_vi"]
    found = summarise(runs, metrics=columns)
    if found.empty:
        raise Missing("No run here is finished, so nothing was counted or measured. See the page Runs.")
    found = found.sort_values(f"{COUNTED[0]}_mean", kind="stable")
    seeds = runs[runs["status"] == "done"].groupby("config_id", observed=True)["run_id"].nunique()
    table = {name: found[f"{name}_mean"].astype("float64").array for name in columns}
    return pd.DataFrame(
        {
            "configuration": [look.configuration(label) for label in found["config_label"]],
            "n": found["config_id"].map(seeds).array, **table,
        }
    )  # fmt: skip


def not_comparable(runs: pd.DataFrame) -> list[str]:
    """Explain, one line per reason, why times of these finished runs cannot be compared with each other.

    Ratios to dense VI do not depend on this, except for ``execution``.
    """
    done = runs[runs["status"] == "done"]
    lines = []
    for name in CIRCUMSTANCES:
        # dense methods have no sparse layers, so that they do not differ in how these are executed
        values = done.loc[done["sparsity"] > 0, name] if name == "execution" else done[name]
        counts = values.dropna().value_counts()
        if len(counts) > 1:
            of = sorted(counts.items())
            shown = ", ".join(f"{_number(value)} ({words.counted(count, 'run')})" for value, count in of)
            lines.append(f"{name}: {shown}")
    return lines


def _has_as_many_steps(runs: pd.DataFrame) -> pd.Series:
    """Tell for each run whether it took as many steps as the dense VI run of its FLOP ratios."""
    limited = pd.Series(False, index=runs.index)
    if (key := "config.training.max_steps") in runs:
        limited = runs[key].notna()
    factor = runs["epochs_factor"].fillna(1.0).astype(float)
    return (limited | (runs["epochs_total"] == runs["epochs"])) & (factor == 1)


def _marks(rows: pd.DataFrame, x_axis: Axis, y_axis: Axis, look: Look, method: str, low: float) -> go.Scatter:
    x, y = rows[f"{x_axis.column}_mean"], rows[f"{y_axis.column}_mean"]
    x_half, y_half = rows[f"{x_axis.column}_half_width"], rows[f"{y_axis.column}_half_width"]
    colour = look.colour(method)
    return go.Scatter(
        x=x.tolist(),
        y=y.tolist(),
        mode="markers",
        name=look.label(method),
        meta=whose(rows),
        marker={
            "symbol": look.marker(method), "size": 11, "color": colour, "line": {"width": 1, "color": colour},
        },
        error_x=_whiskers(x, x_half, low, colour),
        error_y=_whiskers(y, y_half, low, colour),
        customdata=[
            [escaped(look.configuration(label)), interval(a, b, 3), interval(c, d, 3), ratio, int(n)]
            for label, a, b, c, d, ratio, n in zip(
                rows["config_label"], x, x_half, y, y_half, rows["measured_over_counted"],
                rows[f"{y_axis.column}_n"], strict=True,
            )
        ],
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>counted {x_axis.name} %{{customdata[1]}}<br>{y_axis.name} "
            "%{customdata[2]}<br>%{customdata[3]:.2f} times what was counted<br>n = "
            "%{customdata[4]}<extra></extra>"
        ),
    )  # fmt: skip


def _whiskers(mean: pd.Series, half: pd.Series, low: float, colour: str) -> dict[str, object]:
    """Make whiskers for a logarithmic axis; those that reach below its lower end ``low`` end there."""
    known = half.fillna(0)
    down = np.minimum(known, np.maximum(mean - low, 0))
    return {
        "type": "data", "array": known.tolist(), "arrayminus": down.tolist(),
        "color": colour, "thickness": 1.3, "width": 4,
    }  # fmt: skip


def _stored_marks(rows: pd.DataFrame, x_axis: Axis, y_axis: Axis, look: Look, method: str) -> go.Scatter:
    colour = look.colour(method)
    return go.Scatter(
        x=(rows["density_mean"] * x_axis.factor).tolist(),
        y=rows["compression_vs_dense_vi_mean"].tolist(),
        mode="markers",
        name=look.label(method),
        meta=whose(rows),
        marker={
            "symbol": look.marker(method, hollow=True), "size": rows["size"].tolist(),
            "color": colour, "line": {"width": 2, "color": colour},
        },
        customdata=[
            [escaped(look.configuration(label)), f"{round(size):,}", share, int(n)]
            for label, size, share, n in zip(
                rows["config_label"], rows["checkpoint_bytes_mean"], rows["share_of_proportion"],
                rows["compression_vs_dense_vi_n"], strict=True,
            )
        ],
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>{y_axis.name} %{{y:.3g}} {y_axis.unit}<br>%{{customdata[1]}} bytes"
            "<br>density %{x:.3g} %<br>%{customdata[2]:.2f} of what is in proportion<br>n = %{customdata[3]}"
            "<extra></extra>"
        ),
    )  # fmt: skip


def _sizes(table: pd.DataFrame, look: Look) -> list[int]:
    """Return the size of each mark in pixels; marks at the same place differ in size, so that all show."""
    places = zip(
        np.log10(table["density_mean"]).round(2),
        np.log10(table["compression_vs_dense_vi_mean"]).round(2),
        strict=True,
    )
    keys = list(places)
    here: dict[tuple[float, float], list[str]] = {}
    for key, method in zip(keys, table["method"], strict=True):
        here.setdefault(key, []).append(str(method))
    ranks = {key: look.ordered(methods) for key, methods in here.items()}
    return [9 + 6 * ranks[key].index(str(m)) for key, m in zip(keys, table["method"], strict=True)]


def _add_equal(figure: go.Figure, low: float, high: float, words: tuple[str, str], look: Look) -> None:
    figure.add_trace(
        go.Scatter(
            x=[low, high], y=[low, high], mode="lines", name="measured = counted", hoverinfo="skip",
            line={"color": look.soft, "width": 1.5, "dash": "dash"},
        )
    )  # fmt: skip
    # the texts stand in the corners far from the line, where they hide no marks
    corners = (
        (0.02, 0.98, "left", "top", words[0]),
        (0.98, 0.02, "right", "bottom", words[1]),
    )
    for x, y, xanchor, yanchor, text in corners:
        figure.add_annotation(
            xref="x domain", yref="y domain", x=x, y=y, xanchor=xanchor, yanchor=yanchor, text=text,
            showarrow=False, font={"size": 13, "color": look.soft},
        )  # fmt: skip


def _span(table: pd.DataFrame, *columns: str) -> tuple[float, float]:
    """Return the range of both axes: all means and the upper ends of whiskers, with a margin."""
    low = min(float(table[f"{column}_mean"].min()) for column in columns)
    high = max(
        float((table[f"{column}_mean"] + table[f"{column}_half_width"].fillna(0)).max()) for column in columns
    )
    return low / 2, max(high, 1.0) * 2


def _set_square(figure: go.Figure, low: float, high: float) -> None:
    span = {"type": "log", "range": [np.log10(low), np.log10(high)], "constrain": "domain"}
    figure.update_xaxes(**span, **log_ticks(low, high))
    figure.update_yaxes(**span, **log_ticks(low, high), scaleanchor="x", scaleratio=1)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _in_words(table: pd.DataFrame, x_axis: Axis, y_axis: Axis, look: Look) -> str:
    """Say what is measured for the configuration with the fewest counted FLOPs."""
    least = table.iloc[int(table[f"{x_axis.column}_mean"].to_numpy().argmin())]
    mean, half = least[f"{y_axis.column}_mean"], least[f"{y_axis.column}_half_width"]
    what = f"{y_axis.name} {interval(mean, half, 3)} of dense VI"
    return (
        f"With the fewest counted {x_axis.name} of {words.counted(len(table), 'configuration')}, "
        f"{least[f'{x_axis.column}_mean']:.3g} of dense VI, "
        f"{look.configuration(least['config_label'])} has {what}."
    )
