"""Draw scores against costs: FLOPs, time, bytes or sparsity."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import COSTS, Axis, axes
from bench.figures.parts.chart import (
    BACKGROUND,
    Chart,
    Look,
    Missing,
    escaped,
    interval,
    log_ticks,
    translucent,
)
from bench.figures.parts.configurations import whose
from bench.results import names
from bench.results.tables.columns import SCORES
from bench.results.words import counted
from bench.statistics.seeds import pareto_front, summarise

#: Claim of the SSVI paper's abstract: 10 to 20 times smaller than dense VI at a loss of less than 3 points.
_CLAIM_FROM, _CLAIM_TO, _CLAIM_POINTS = 10.0, 20.0, 0.03
#: Dense methods that are shown by a horizontal line.
_DENSE = ("dense_vi",)
#: A score this many times as far behind the best as the upper quartile is written at the edge.
_FAR = 5.0
#: If a method has more lines than this, its points are drawn without lines.
_MOST_LINES = 3


def points(runs: pd.DataFrame, cost: str, score: str) -> pd.DataFrame:
    """Average ``cost`` and ``score`` of each configuration over its finished seeds; find the Pareto front.

    Parameters
    ----------
    runs
        The table ``runs``.
    cost, score
        Columns of ``runs``.

    Returns
    -------
    pandas.DataFrame
        One row per configuration: the columns of ``summarise``, ``variant`` (the parts of the label besides
        method and sparsity) and ``front`` (whether it is on the Pareto front of the means).

    Raises
    ------
    Missing
        No finished run has both.
    """
    metrics = list(dict.fromkeys([cost, score, "ece_null", "accuracy", "compression_vs_dense_vi"]))
    found = summarise(runs, metrics=metrics)
    found = found.dropna(subset=[f"{cost}_mean", f"{score}_mean"])
    if found.empty:
        what = f"{axes()[score].name} and {axes()[cost].name}"
        raise Missing(f"No finished run here has both {what}. Widen the filters, or see the page Runs.")
    found["variant"] = [names.variant(str(label)) for label in found["config_label"]]
    x = found[f"{cost}_mean"].to_numpy(dtype=float)
    y = found[f"{score}_mean"].to_numpy(dtype=float)
    # for compression and sparsity more is better, so that their negative is the cost
    found["front"] = pareto_front(-x if _is_saving(cost) else x, y, axes()[score].better or "lower")
    return found.reset_index(drop=True)


def tradeoff(
    runs: pd.DataFrame, cost: str = COSTS[0], score: str = SCORES[0], look: Look | None = None
) -> Chart:
    """Draw score against cost, one mark per configuration: mean over seeds with the 95 % t-interval.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    cost, score
        Columns that have an axis (see ``axes``).
    look
        Colours and markers.

    Raises
    ------
    Missing
        No finished run has both.

    Examples
    --------
    >>> import bench
    >>> runs = bench.tables("sparsity_sweep", "results/reference", scale="demo")["runs"]
    >>> bench.figures.tradeoff(runs, score="nll").title
    'What NLL does each compression buy?'
    """
    look = look or Look.of(runs)
    found = points(runs, cost, score)
    x_axis, y_axis = axes()[cost], axes()[score]
    figure = look.figure(height=520)
    for method in look.ordered(found["method"]):
        mine = found[found["method"] == method]
        mine = mine.sort_values(f"{cost}_mean", kind="stable")
        variants = list(dict.fromkeys(mine["variant"]))
        lined = len(variants) <= _MOST_LINES and len(variants) < len(mine)
        # each line needs a trace, while marks without lines share one
        groups = [mine[mine["variant"] == name] for name in variants] if lined else [mine]
        for number, rows in enumerate(groups):
            figure.add_trace(_marks(rows, x_axis, y_axis, look, method, lined and len(rows) > 1, number == 0))
    if score == "ece":
        figure.add_trace(_null(found, x_axis, y_axis, look))
    _add_front(figure, found, x_axis, y_axis, look)
    _add_dense(figure, found, y_axis, look)
    if cost == "compression_vs_dense_vi" and score == "accuracy":
        _add_claim(figure, found, look)
    figure.update_yaxes(title_text=y_axis.title)
    figure.update_xaxes(title_text=x_axis.title)
    _keep_in_view(figure, found, x_axis, y_axis, look)
    if x_axis.log:
        _set_log(figure, found[f"{cost}_mean"] * x_axis.factor)
    means = found[f"{score}_mean"].to_numpy(dtype=float)
    best = found.iloc[int(means.argmin() if y_axis.better == "lower" else means.argmax())]
    value = interval(best[f"{score}_mean"], best[f"{score}_half_width"], y_axis.digits, y_axis.factor)
    return Chart(
        title=f"What {y_axis.name} does each {x_axis.name} buy?",
        figure=figure,
        data=found,
        how=(
            f"A mark is a configuration: the mean of its finished seeds; whiskers are the 95 % t-interval of "
            f"{y_axis.name} over seeds (none for a single seed), n in the tooltip. The grey steps are the "
            "Pareto front of the means: no other configuration is at least as good in both and better in "
            "one; differences within the whiskers may reorder it. The dotted line is dense VI. "
            "Configurations far behind the others are written at the edge, with their value.\n\n"
            f"**{y_axis.name}**: {y_axis.definition}\n\n**{x_axis.name}**: {x_axis.definition}"
        ),
        alt=(
            f"{y_axis.name} against {x_axis.name} of {counted(len(found), 'configuration')} of "
            f"{found['method'].nunique()} methods; the best {y_axis.name} is {value} "
            f"by {look.configuration(best['config_label'])}."
        ),
    )


def at_compression(runs: pd.DataFrame, score: str, times: float = 10.0) -> pd.DataFrame:
    """Find for every method the configuration with the best mean ``score`` that is small enough.

    The choice uses the same means that are shown, so that the best of several looks a little better than it
    would in a repetition.

    Parameters
    ----------
    runs
        The table ``runs``.
    score
        Column of ``runs``.
    times
        Least compression compared with dense VI.

    Returns
    -------
    pandas.DataFrame
        One row per method that has such a configuration, best first: ``method``, ``config_label``,
        ``compression``, ``mean``, ``half_width``, ``n``.

    Raises
    ------
    Missing
        No finished run has a compression and ``score``.
    """
    found = points(runs, "compression_vs_dense_vi", score)
    column = f"{score}_mean"
    small = found[found["compression_vs_dense_vi_mean"] >= times]
    rising = axes()[score].better == "lower"
    best = small.sort_values(column, ascending=rising, kind="stable").drop_duplicates("method")
    return pd.DataFrame(
        {
            "method": best["method"],
            "config_label": best["config_label"],
            "compression": best["compression_vs_dense_vi_mean"],
            "mean": best[column],
            "half_width": best[f"{score}_half_width"],
            "n": best[f"{score}_n"],
        }
    ).reset_index(drop=True)


def _is_saving(cost: str) -> bool:
    """Tell whether more of the column ``cost`` is better."""
    return cost in ("compression_vs_dense_vi", "sparsity")


def _marks(
    rows: pd.DataFrame, x_axis: Axis, y_axis: Axis, look: Look, method: str, lined: bool, first: bool
) -> go.Scatter:
    x, y = rows[f"{x_axis.column}_mean"], rows[f"{y_axis.column}_mean"]
    half_width = rows[f"{y_axis.column}_half_width"]
    texts = [
        interval(mean, half, y_axis.digits, y_axis.factor) for mean, half in zip(y, half_width, strict=True)
    ]
    colour = look.colour(method)
    return go.Scatter(
        x=(x * x_axis.factor).tolist(),
        y=(y * y_axis.factor).tolist(),
        mode="lines+markers" if lined else "markers",
        name=look.label(method),
        legendgroup=method,
        meta=whose(rows),
        showlegend=first,
        marker={
            "symbol": look.marker(method), "size": 10, "color": colour, "line": {"width": 1, "color": colour},
        },
        line={
            "color": translucent(colour, 0.55), "dash": look.dash(method),
            "width": 3 if method == "ssvi" else 1.5,
        },
        error_y={
            "type": "data", "array": (half_width * y_axis.factor).fillna(0).tolist(),
            "color": colour, "thickness": 1.3, "width": 4,
        },
        customdata=[
            [escaped(look.configuration(label)), text, int(n)]
            for label, text, n in zip(
                rows["config_label"], texts, rows[f"{y_axis.column}_n"], strict=True
            )
        ],
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>{y_axis.name} %{{customdata[1]}} {y_axis.unit}<br>"
            f"{x_axis.name} %{{x:.4~g}} {x_axis.unit}<br>n = %{{customdata[2]}}<extra></extra>"
        ),
    )  # fmt: skip


def _null(found: pd.DataFrame, x_axis: Axis, y_axis: Axis, look: Look) -> go.Scatter:
    """Mark the ECE to expect of a calibrated model with the same confidences."""
    return go.Scatter(
        x=(found[f"{x_axis.column}_mean"] * x_axis.factor).tolist(),
        y=(found["ece_null_mean"] * y_axis.factor).tolist(),
        mode="markers",
        name="if it were calibrated",
        meta=whose(found),
        marker={"symbol": "line-ew", "size": 14, "line": {"width": 2, "color": look.soft}},
        hovertemplate="%{y:.2f} %: ECE to expect of a calibrated model<extra></extra>",
    )


def _add_front(figure: go.Figure, found: pd.DataFrame, x_axis: Axis, y_axis: Axis, look: Look) -> None:
    front = found[found["front"]].sort_values(f"{x_axis.column}_mean")
    if len(front) < 2:
        return
    figure.add_trace(
        go.Scatter(
            x=(front[f"{x_axis.column}_mean"] * x_axis.factor).tolist(),
            y=(front[f"{y_axis.column}_mean"] * y_axis.factor).tolist(),
            mode="lines",
            # between two points the front has the score of the cheaper one
            line={"color": look.soft, "width": 1, "shape": "vh" if _is_saving(x_axis.column) else "hv"},
            name="Pareto front",
            hoverinfo="skip",
        )
    )


def _add_dense(figure: go.Figure, found: pd.DataFrame, y_axis: Axis, look: Look) -> None:
    for method in _DENSE:
        mine = found[found["method"] == method]
        # with several recipes or budgets there are several dense references, and no line stands for all
        if len(mine) == 1:
            height = float(mine[f"{y_axis.column}_mean"].iloc[0]) * y_axis.factor
            figure.add_hline(y=height, line={"color": look.colour(method), "width": 1, "dash": "dot"})


def _add_claim(figure: go.Figure, found: pd.DataFrame, look: Look) -> None:
    """Draw the region that the paper's abstract claims, below the accuracy of dense VI in these runs."""
    dense = found[found["method"] == "dense_vi"]
    if len(dense) != 1:
        return
    top = float(dense["accuracy_mean"].iloc[0]) * 100
    figure.add_shape(
        type="rect", x0=_CLAIM_FROM, x1=_CLAIM_TO, y0=top - 100 * _CLAIM_POINTS, y1=top,
        fillcolor=translucent(look.accent, 0.12), line={"color": look.accent, "width": 1, "dash": "dot"},
        layer="below",
    )  # fmt: skip
    figure.add_annotation(
        x=np.log10(_CLAIM_FROM), y=top - 100 * _CLAIM_POINTS, text="claimed: 10–20× smaller, < 3 points",
        showarrow=False, xanchor="left", yanchor="top", font={"size": 12, "color": look.accent},
        bgcolor=BACKGROUND[look.mode],
    )  # fmt: skip


def _keep_in_view(figure: go.Figure, found: pd.DataFrame, x_axis: Axis, y_axis: Axis, look: Look) -> None:
    """Write configurations far behind the others at the edge, so that the others keep room on the axis."""
    column = f"{y_axis.column}_mean"
    widths = found[f"{y_axis.column}_half_width"].fillna(0.0)
    best = found[column].max() if y_axis.better == "higher" else found[column].min()
    behind = (found[column] - best).abs()
    far = behind > _FAR * float(behind.quantile(0.75))
    if not far.any():
        return
    near = found[~far]
    low = y_axis.factor * float((near[column] - widths[~far]).min())
    high = y_axis.factor * float((near[column] + widths[~far]).max())
    pad = 0.06 * (high - low)
    figure.update_yaxes(range=[low - 2 * pad, high + pad])
    falling = y_axis.better == "higher"
    values = y_axis.factor * found[column]
    off = found[(values < low - pad) if falling else (values > high + pad / 2)]
    middle = found[f"{x_axis.column}_mean"].median()
    for number, row in enumerate(off.to_dict("records")):
        x = float(row[f"{x_axis.column}_mean"]) * x_axis.factor
        value = interval(row[column], row[f"{y_axis.column}_half_width"], 1 if falling else 2, y_axis.factor)
        figure.add_annotation(
            x=np.log10(x) if x_axis.log else x, y=low - 2 * pad if falling else high + pad,
            text=f"{look.label(str(row['method']))} {value} {'▾' if falling else '▴'}",
            showarrow=False, xanchor="right" if row[f"{x_axis.column}_mean"] >= middle else "left",
            yanchor="bottom" if falling else "top", bgcolor=BACKGROUND[look.mode],
            yshift=(16 if falling else -16) * number,
            font={"size": 12, "color": look.ink},
        )  # fmt: skip


def _set_log(figure: go.Figure, shown: pd.Series) -> None:
    positive = shown[shown > 0]
    if positive.empty:
        return
    low, high = float(positive.min()), float(positive.max())
    pad = max(0.06 * np.log10(high / low), 0.08)
    ends = float(low * 10**-pad), float(high * 10**pad)
    figure.update_xaxes(type="log", range=[np.log10(end) for end in ends], **log_ticks(*ends))
