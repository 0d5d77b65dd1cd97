"""Draw scores against costs: FLOPs, time, bytes or density."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.figures.overview import differences
from bench.figures.parts.axes import COSTS, Axis, axes, ends
from bench.figures.parts.chart import (
    BACKGROUND,
    Chart,
    Look,
    Missing,
    escaped,
    interval,
    log_ticks,
    signed,
    translucent,
)
from bench.figures.parts.configurations import whose
from bench.figures.parts.labels import Area, Label, beside
from bench.results import names
from bench.results.tables.columns import SCORES
from bench.results.words import counted
from bench.statistics.front import front_shares
from bench.statistics.seeds import pareto_front, summarise

#: Claim of the SSVI paper's abstract: 10 to 20 times smaller than dense VI at a loss of less than 3 points.
_CLAIM_FROM, _CLAIM_TO, _CLAIM_POINTS = 10.0, 20.0, 0.03
#: The dense method that is shown by a horizontal line.
_DENSE = "dense_vi"
#: A score this many times as far behind the best as the upper quartile is written at the edge.
_FAR = 5.0
#: If a method has more lines than this, its points are drawn without lines.
_MOST_LINES = 6
#: Settings whose values have panels of their own, since they are other lengths and ways of training.
_FACETS = ("budget", "recipe")
#: Marks nearer to each other than this share of the axis are moved apart, a group at most this far in all.
_APART, _SPREAD = 0.01, 0.045
#: A configuration that is on the front less often than this has no ring.
_SELDOM = 0.05
#: Heights in pixels: a panel, its heading, what is between two, what is below the last, a note.
_PANEL, _HEADING, _BETWEEN, _BELOW, _NOTE = 410, 26, 44, 106, 16


def points(
    runs: pd.DataFrame,
    cost: str,
    score: str,
    references: Mapping[str, str] | None = None,
    only: Container[str] | None = None,
) -> pd.DataFrame:
    """Average ``cost`` and ``score`` of each configuration over its finished seeds; find the Pareto fronts.

    Parameters
    ----------
    runs
        The table ``runs``.
    cost, score
        Columns of ``runs``.
    references
        If given, the columns of ``score`` hold paired differences from these configurations, by
        ``config_id``; the references themselves are left out.
    only
        The configurations to return; None for all.

    Returns
    -------
    pandas.DataFrame
        One row per configuration: the columns of ``summarise``; ``facet`` (budget and recipe in words),
        ``criterion`` (empty if the label names none), ``variant`` (the other parts of the label besides
        method and sparsity). But for differences also ``front`` (whether it is on the Pareto front of the
        means of its facet) and ``front_share`` (how often over resampled seeds).

    Raises
    ------
    Missing
        No finished run has both, or no configuration shares a seed with its reference.
    """
    metrics = list(dict.fromkeys([cost, score, "ece_null", "accuracy", "compression_vs_dense_vi"]))
    found = summarise(runs, metrics=metrics)
    if only is not None:
        found = found[[config_id in only for config_id in found["config_id"]]]
    found = found.dropna(subset=[f"{cost}_mean", f"{score}_mean"])
    if found.empty:
        what = f"{axes()[score].name} and {axes()[cost].name}"
        raise Missing(f"No finished run here has both {what}. Widen the filters, or see the page Runs.")
    told = [names.settings(str(label)) for label in found["config_label"]]
    found["facet"] = [
        names.BETWEEN.join(names.parts({name: settings[name] for name in _FACETS if name in settings}, {}))
        for settings in told
    ]
    found["criterion"] = [settings.get("criterion", "") for settings in told]
    found["variant"] = [
        " ".join(f"{name}={value}" for name, value in settings.items() if name not in ("sparsity", *_FACETS))
        for settings in told
    ]
    if references is not None:
        return _as_differences(found, runs, references, score)
    x = found[f"{cost}_mean"].to_numpy(dtype=float) * (-1 if _is_saving(cost) else 1)
    y = found[f"{score}_mean"].to_numpy(dtype=float)
    better = axes()[score].better or "lower"
    found["front"], found["front_share"] = False, float("nan")
    for facet in found["facet"].unique():
        here = (found["facet"] == facet).to_numpy()
        found.loc[here, "front"] = pareto_front(x[here], y[here], better)
        mine = runs[runs["config_id"].isin(found.loc[here, "config_id"])]
        shares = front_shares(mine, cost, score, better, _is_saving(cost))
        found.loc[here, "front_share"] = found.loc[here, "config_id"].map(shares)
    return found.reset_index(drop=True)


def tradeoff(
    runs: pd.DataFrame,
    cost: str = COSTS[0],
    score: str = SCORES[0],
    look: Look | None = None,
    references: Mapping[str, str] | None = None,
    only: Container[str] | None = None,
) -> Chart:
    """Draw score against cost, one mark per configuration: mean over seeds with the 95 % t-interval.

    Each budget and recipe has a panel, since they are other lengths and ways of training. If a method has
    several criteria, its lines have their colours and markers.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    cost, score
        Columns that have an axis (see ``axes``).
    look
        Colours and markers.
    references
        If given, paired differences from these configurations are drawn, by ``config_id``.
    only
        The configurations to draw; None for all.

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
    found = points(runs, cost, score, references, only)
    x_axis, y_axis = axes()[cost], axes()[score]
    view = _view(found, x_axis, y_axis, references is not None)
    facets = sorted(found["facet"].unique(), key=str.casefold)
    figure = _panels(facets, x_axis, y_axis, view, references is not None, look)
    dense = found[found["method"] == _DENSE]
    for number, facet in enumerate(facets):
        panel = _Panel(figure, number, x_axis, y_axis, view, look)
        rows = found[found["facet"] == facet]
        rows = rows.assign(at=_dodged(rows, x_axis, view, look))
        labels = panel.lines(rows, found)
        if references is not None:
            panel.rule(0.0, look.ink)
        else:
            if score == "ece":
                panel.null(rows)
            panel.front(rows)
            # with several recipes or budgets there are several dense references, and no line stands for all
            if len(dense) == 1:
                height = float(dense[f"{score}_mean"].iloc[0]) * y_axis.factor
                panel.rule(height, look.colour(_DENSE), "dot")
                if dense.index[0] not in rows.index:
                    labels.append(Label(look.label(_DENSE), view.left, height, look.colour(_DENSE)))
            if (cost, score) == ("compression_vs_dense_vi", "accuracy") and len(dense) == 1:
                labels += panel.claim(100 * float(dense["accuracy_mean"].iloc[0]))
        panel.name(labels, rows)
        panel.far(rows)
    return Chart(
        title=(
            f"What {y_axis.name} does each {x_axis.name} buy?"
            if references is None
            else f"How far from its reference is {y_axis.name} at each {x_axis.name}?"
        ),
        figure=figure,
        data=found,
        how=_how(x_axis, y_axis, references is not None, len(facets) > 1),
        alt=_alt(found, x_axis, y_axis, references is not None, look),
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


def _as_differences(
    found: pd.DataFrame, runs: pd.DataFrame, references: Mapping[str, str], score: str
) -> pd.DataFrame:
    """Put the paired differences from the references in place of the scores."""
    pairs = differences(runs, references, score, set(found["config_id"]))
    known = found[found["config_id"].isin(pairs["config_id"])].reset_index(drop=True)
    pairs = pairs.set_index("config_id").loc[known["config_id"]]
    columns = {"mean": "difference", "half_width": "half_width", "n": "n"}
    told = {f"{score}_{ours}": pairs[theirs].to_numpy() for ours, theirs in columns.items()}
    return known.assign(**told, reference_label=pairs["reference_label"].to_numpy())


def _is_saving(cost: str) -> bool:
    """Tell whether more of the column ``cost`` is better, so that its negative is the cost."""
    return cost in ("compression_vs_dense_vi", "sparsity")


@dataclass(frozen=True)
class _View:
    """The ranges that all panels show, in shown values (of a logarithmic axis, their logarithm)."""

    left: float
    right: float
    bottom: float
    top: float


def _view(found: pd.DataFrame, x_axis: Axis, y_axis: Axis, differ: bool) -> _View:
    """Choose ranges in which configurations far behind the others do not squeeze these."""
    x = _placed(found[f"{x_axis.column}_mean"] * x_axis.factor, x_axis)
    across = max(float(x.max() - x.min()), 0.16 if x_axis.log else 1e-9) or 1.0
    y = found[f"{y_axis.column}_mean"] * y_axis.factor
    behind = (y - (y.max() if y_axis.better == "higher" else y.min())).abs()
    far = behind > _FAR * float(behind.quantile(0.75))
    near = found[~far]
    low, high = _ends(near, y_axis, differ)
    bottom, top = float(low.min()), float(high.max())
    if differ:
        bottom, top = min(bottom, 0.0), max(top, 0.0)
    pad = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    # the names of what is far behind stand at the lower edge, or at the upper one
    more = far.any() * pad
    falling = y_axis.better == "higher"
    return _View(
        float(x.min()) - 0.06 * across, float(x.max()) + 0.06 * across,
        bottom - pad - more * falling, top + pad + more * (not falling),
    )  # fmt: skip


def _placed(values: pd.Series, axis: Axis) -> pd.Series:
    """Return where values are on their axis."""
    return np.log10(values.where(values > 0)) if axis.log else values


def _ends(rows: pd.DataFrame, axis: Axis, differ: bool) -> tuple[pd.Series, pd.Series]:
    """Return the lower and upper ends of whiskers, which end where values do."""
    # a difference may be negative
    bounded = replace(axis, signed=axis.signed or differ)
    return ends(rows[f"{axis.column}_mean"], rows[f"{axis.column}_half_width"], bounded)


def _dodged(rows: pd.DataFrame, axis: Axis, view: _View, look: Look) -> list[float]:
    """Move marks apart that stand at nearly the same place of the axis, in the order of methods."""
    places = _placed(rows[f"{axis.column}_mean"] * axis.factor, axis).to_numpy(dtype=float)
    methods = {method: place for place, method in enumerate(look.ordered(rows["method"]))}
    ranks = rows["method"].map(methods).to_numpy()
    width = view.right - view.left
    order = np.argsort(places, kind="stable")
    # a group is broken where the next mark is far enough away
    breaks = np.flatnonzero(np.diff(places[order]) > _APART * width) + 1
    groups = np.split(order, breaks)
    middles = np.array([places[group].mean() for group in groups])
    room = np.diff(middles, prepend=-np.inf, append=np.inf)
    found = places.copy()
    for group, left, right in zip(groups, room[:-1], room[1:], strict=True):
        if len(group) > 1:
            # groups do not reach into each other
            step = min(_APART * width, _SPREAD * width / len(group), 0.8 * min(left, right) / len(group))
            members = sorted(group, key=lambda one: (ranks[one], one))
            found[members] = places[group].mean() + step * (np.arange(len(group)) - (len(group) - 1) / 2)
    shown = (rows[f"{axis.column}_mean"] * axis.factor).to_numpy(dtype=float)
    return [
        float(value if place == before else 10**place if axis.log else place)
        for value, before, place in zip(shown, places, found, strict=True)
    ]


def _panels(
    facets: list[str], x_axis: Axis, y_axis: Axis, view: _View, differ: bool, look: Look
) -> go.Figure:
    """Make the empty panels, one below the other, all with the same axes."""
    inside = len(facets) * _PANEL + (len(facets) - 1) * (_BETWEEN + _HEADING)
    above = _HEADING if len(facets) > 1 else 0
    figure = look.figure(height=20 + above + inside + _BELOW)
    figure.update_layout(margin={"t": 20 + above, "b": _BELOW, "l": 60, "r": 20})
    style = figure.layout.xaxis.to_plotly_json()
    font = style["title"]["font"]
    title = f"{y_axis.name} less that of the reference{f' ({y_axis.step})' if y_axis.step else ''}"
    arrow = {"higher": " ↑ better", "lower": " ↓ better"}.get(y_axis.better or "", "")
    across: dict[str, Any] = {"range": [view.left, view.right]}
    if x_axis.log:
        across |= {"type": "log", **log_ticks(10**view.left, 10**view.right)}
    for number, facet in enumerate(facets):
        top = inside - number * (_PANEL + _BETWEEN + _HEADING)
        name = str(number + 1) if number else ""
        last = number == len(facets) - 1
        figure.update_layout(
            {
                f"xaxis{name}": style | across | {
                    "anchor": f"y{name}", "title": {"text": x_axis.title if last else "", "font": font},
                },
                f"yaxis{name}": style | {
                    "anchor": f"x{name}", "domain": [(top - _PANEL) / inside, top / inside],
                    "range": [view.bottom, view.top],
                    "title": {"text": title + arrow if differ else y_axis.title, "font": font},
                },
            }
        )  # fmt: skip
        if len(facets) > 1:
            figure.add_annotation(
                xref="paper", x=0, xanchor="left", yref=f"y{name} domain", y=1, yanchor="bottom",
                text=f"<b>{escaped(facet or 'others')}</b>",
                showarrow=False, font={"size": 14, "color": look.ink},
            )  # fmt: skip
    return figure


@dataclass(frozen=True)
class _Panel:
    """Draw the configurations of one budget."""

    figure: go.Figure
    number: int
    x_axis: Axis
    y_axis: Axis
    view: _View
    look: Look

    @property
    def _axes(self) -> dict[str, str]:
        name = str(self.number + 1) if self.number else ""
        return {"xaxis": f"x{name}", "yaxis": f"y{name}"}

    @property
    def _refs(self) -> dict[str, str]:
        return {"xref": self._axes["xaxis"], "yref": self._axes["yaxis"]}

    def lines(self, rows: pd.DataFrame, every: pd.DataFrame) -> list[Label]:
        """Draw the marks of each method, joined along each of its variants; return the names of the lines."""
        labels = []
        for method in self.look.ordered(rows["method"]):
            mine = rows[rows["method"] == method].sort_values("at", kind="stable")
            variants = list(dict.fromkeys(mine["variant"]))
            shared = _shared(every[every["method"] == method])
            several = "criterion" not in shared and mine["criterion"].any()
            lined = len(variants) <= _MOST_LINES
            # each line needs a trace, while marks without lines share one
            for part in [mine[mine["variant"] == one] for one in variants] if lined else [mine]:
                look = self.look.criterion if several and lined else self.look
                key = str(part["criterion"].iloc[0]) if several and lined else method
                self.figure.add_trace(self._marks(part, method, look, key, lined and len(part) > 1))
                own = names.settings(str(part["config_label"].iloc[0])) if lined else {}
                told = names.parts(
                    {k: v for k, v in own.items() if k not in {*shared, "sparsity", *_FACETS}},
                    self.look.criteria,
                )
                last = part.iloc[-1]
                labels.append(
                    Label(
                        escaped(names.BETWEEN.join([self.look.name(method), *told])),
                        float(np.log10(last["at"]) if self.x_axis.log else last["at"]),
                        float(last[f"{self.y_axis.column}_mean"]) * self.y_axis.factor, look.colour(key),
                    )
                )  # fmt: skip
        return labels

    def _marks(self, rows: pd.DataFrame, method: str, look: Look, key: str, lined: bool) -> go.Scatter:
        x_axis, y_axis, differ = self.x_axis, self.y_axis, "reference_label" in rows
        mean, half_width = rows[f"{y_axis.column}_mean"], rows[f"{y_axis.column}_half_width"]
        low, high = _ends(rows, y_axis, differ)
        write = signed if differ else interval
        colour = look.colour(key)
        if differ:
            more = [f"less {name}" for name in map(self.look.configuration, rows["reference_label"])]
        else:
            shares = rows["front_share"]
            more = ["" if s != s else f"on the front in {100 * s:.0f} % of resamples" for s in shares]
        return go.Scatter(
            x=rows["at"].tolist(),
            y=(mean * y_axis.factor).tolist(),
            mode="lines+markers" if lined else "markers",
            name=self.look.label(method),
            legendgroup=method,
            meta=whose(rows),
            showlegend=False,
            marker={
                "symbol": look.marker(key), "size": 10, "color": colour,
                "line": {"width": 1, "color": colour},
            },
            line={
                "color": translucent(colour, 0.55), "dash": look.dash(key),
                "width": 3 if method == "ssvi" else 1.5,
            },
            error_y={
                "type": "data", "array": (high - mean * y_axis.factor).tolist(),
                "arrayminus": (mean * y_axis.factor - low).tolist(),
                "color": colour, "thickness": 1.3, "width": 4,
            },
            customdata=[
                [
                    escaped(self.look.configuration(label)),
                    write(value, half, y_axis.digits, y_axis.factor), int(n), f"{x:.4g}",
                    f"<br>{escaped(told)}" if told else "",
                ]
                for label, value, half, n, x, told in zip(
                    rows["config_label"], mean, half_width, rows[f"{y_axis.column}_n"],
                    rows[f"{x_axis.column}_mean"] * x_axis.factor, more, strict=True,
                )
            ],
            hovertemplate=(
                f"<b>%{{customdata[0]}}</b><br>{y_axis.name} %{{customdata[1]}} "
                f"{y_axis.step if differ else y_axis.unit}<br>{x_axis.name} %{{customdata[3]}} {x_axis.unit}"
                "<br>n = %{customdata[2]}%{customdata[4]}<extra></extra>"
            ),
            **self._axes,
        )  # fmt: skip

    def null(self, rows: pd.DataFrame) -> None:
        """Mark the ECE to expect of a calibrated model with the same confidences."""
        self.figure.add_trace(
            go.Scatter(
                x=rows["at"].tolist(), y=(rows["ece_null_mean"] * self.y_axis.factor).tolist(),
                mode="markers", name="if it were calibrated", meta=whose(rows), showlegend=self.number == 0,
                marker={"symbol": "line-ew", "size": 14, "line": {"width": 2, "color": self.look.soft}},
                hovertemplate="%{y:.2f} %: ECE to expect of a calibrated model<extra></extra>", **self._axes,
            )
        )  # fmt: skip

    def front(self, rows: pd.DataFrame) -> None:
        """Draw the front of the means, and a ring around what is on it over resampled seeds."""
        front = rows[rows["front"]].sort_values("at")
        if len(front) < 2:
            return
        ringed = rows[rows["front_share"] >= _SELDOM]
        column = f"{self.y_axis.column}_mean"
        self.figure.add_traces(
            [
                go.Scatter(
                    x=front["at"].tolist(), y=(front[column] * self.y_axis.factor).tolist(), mode="lines",
                    # between two points the front has the score of the cheaper one
                    line={
                        "color": self.look.soft, "width": 1,
                        "shape": "vh" if _is_saving(self.x_axis.column) else "hv",
                    },
                    name="Pareto front", hoverinfo="skip", showlegend=self.number == 0, **self._axes,
                ),
                go.Scatter(
                    x=ringed["at"].tolist(), y=(ringed[column] * self.y_axis.factor).tolist(),
                    mode="markers", name="on it over resampled seeds (strong: often)",
                    marker={
                        "symbol": "circle-open", "size": 19,
                        "line": {"width": 2},
                        "color": [translucent(self.look.ink, share) for share in ringed["front_share"]],
                    },
                    hoverinfo="skip", showlegend=self.number == 0, **self._axes,
                ),
            ]
        )  # fmt: skip

    def rule(self, height: float, colour: str, dash: str = "solid") -> None:
        """Draw a horizontal line."""
        self.figure.add_shape(
            type="line", xref=f"{self._axes['xaxis']} domain", x0=0, x1=1, yref=self._axes["yaxis"],
            y0=height, y1=height, line={"color": colour, "width": 1, "dash": dash},
        )  # fmt: skip

    def claim(self, top: float) -> list[Label]:
        """Draw the region that the paper's abstract claims, below the accuracy of dense VI in these runs."""
        bottom = top - 100 * _CLAIM_POINTS
        self.figure.add_shape(
            type="rect", x0=_CLAIM_FROM, x1=_CLAIM_TO, y0=bottom, y1=top,
            fillcolor=translucent(self.look.accent, 0.12), layer="below",
            line={"color": self.look.accent, "width": 1, "dash": "dot"}, **self._refs,
        )  # fmt: skip
        text = "claimed: 10–20× smaller, < 3 points"
        return [Label(text, float(np.log10(_CLAIM_FROM)), max(bottom, self.view.bottom), self.look.accent)]

    def name(self, labels: list[Label], rows: pd.DataFrame) -> None:
        """Write the names of lines where they cover no mark."""
        view = self.view
        low, high = _ends(rows, self.y_axis, "reference_label" in rows)
        x = _placed(rows["at"], self.x_axis)
        taken = list(zip(x.tolist(), low.tolist(), high.tolist(), strict=True))
        inside = [label for label in labels if view.bottom <= label.y <= view.top]
        # the names of what is far behind stand at one edge
        edge = _NOTE * len(self._off(rows))
        share, falling = edge / _PANEL * (view.top - view.bottom), self.y_axis.better == "higher"
        ends = (view.bottom + share, view.top) if falling else (view.bottom, view.top - share)
        area = Area(view.left, view.right, *ends, _PANEL - edge)
        for note in beside(inside, taken, area, self.look):
            self.figure.add_annotation(**note, **self._refs)

    def _off(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the configurations that are outside the panel."""
        y = self.y_axis.factor * rows[f"{self.y_axis.column}_mean"]
        return rows[(y < self.view.bottom) | (y > self.view.top)]

    def far(self, rows: pd.DataFrame) -> None:
        """Write configurations far behind the others at the edge, with their values."""
        axis, view, falling = self.y_axis, self.view, self.y_axis.better == "higher"
        column = f"{axis.column}_mean"
        off = self._off(rows)
        middle = (view.left + view.right) / 2
        for number, row in enumerate(off.to_dict("records")):
            x = float(np.log10(row["at"]) if self.x_axis.log else row["at"])
            write = signed if "reference_label" in rows else interval
            value = write(row[column], row[f"{axis.column}_half_width"], 1 if falling else 2, axis.factor)
            name = escaped(self.look.configuration(row["config_label"]))
            self.figure.add_annotation(
                x=x, y=view.bottom if falling else view.top, text=f"{name} {value} {'▾' if falling else '▴'}",
                showarrow=False, xanchor="right" if x >= middle else "left",
                yanchor="bottom" if falling else "top", bgcolor=BACKGROUND[self.look.mode],
                yshift=(_NOTE if falling else -_NOTE) * number, font={"size": 12, "color": self.look.ink},
                **self._refs,
            )  # fmt: skip


def _shared(rows: pd.DataFrame) -> set[str]:
    """Return the settings that have one value in all labels of a method."""
    told = [names.settings(str(label)) for label in rows["config_label"]]
    return {name for name in told[0] if len({each.get(name) for each in told}) == 1}


def _how(x_axis: Axis, y_axis: Axis, differ: bool, several: bool) -> str:
    panels = " Each budget and recipe has a panel; all have the same axes." if several else ""
    moved = " Marks at nearly the same place are moved apart."
    if differ:
        first = (
            f"A mark is a configuration: the mean over seeds of the difference in {y_axis.name} from its "
            "reference under the same seed; whiskers are the 95 % t-interval of that mean. The line at 0 is "
            "each mark's own reference."
        )
    else:
        first = (
            "A mark is a configuration: the mean of its finished seeds; whiskers are the 95 % t-interval of "
            f"{y_axis.name} over seeds (none for a single seed), n in the tooltip. They end where possible "
            "values do. The grey steps are the Pareto front of the means: no other configuration is at least "
            "as good in both and better in one. Rings: how often a configuration is on the front if seeds "
            "are drawn with replacement, the same for all; one with a strong ring nearly always is. The "
            "dotted line is dense VI. Configurations far behind the others are at the edge, with their value."
        )
    first += moved + panels
    return f"{first}\n\n**{y_axis.name}**: {y_axis.definition}\n\n**{x_axis.name}**: {x_axis.definition}"


def _alt(found: pd.DataFrame, x_axis: Axis, y_axis: Axis, differ: bool, look: Look) -> str:
    means = found[f"{y_axis.column}_mean"].to_numpy(dtype=float)
    best = found.iloc[int(means.argmin() if y_axis.better == "lower" else means.argmax())]
    half = best[f"{y_axis.column}_half_width"]
    value = (signed if differ else interval)(
        best[f"{y_axis.column}_mean"], half, y_axis.digits, y_axis.factor
    )
    what = f"Difference in {y_axis.name} from the reference" if differ else y_axis.name
    return (
        f"{what} against {x_axis.name} of {counted(len(found), 'configuration')} of "
        f"{counted(found['method'].nunique(), 'method')}; the best is {value} by "
        f"{look.configuration(best['config_label'])}."
    )
