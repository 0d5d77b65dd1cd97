"""What was found, at a glance: differences to the reference, and how much has been computed."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import BACKGROUND, SEEDS, Chart, Look, Missing, escaped, interval, signed
from bench.statistics.seeds import ALPHA, paired

#: Rows of a forest plot, at most: more are unreadable, and what is left out is said.
MOST_ROWS = 30
_ROW_PIXELS = 38
#: So many times as far as most others is off the picture.
_FAR = 5.0


def differences(
    runs: pd.DataFrame, references: Mapping[str, str], score: str, only: Container[str] | None = None
) -> pd.DataFrame:
    """What each configuration scores more than its reference, paired by seed, best first.

    only: the configurations to return; the correction is for all of ``runs`` whatever is returned.

    Columns: those of ``paired``, ``config_label``, ``method`` and ``reference_label``. References themselves
    are left out. Raises ``Missing`` where no configuration shares a seed with its reference.
    """
    others = {mine: theirs for mine, theirs in references.items() if mine != theirs}
    found = paired(runs, score, others)
    found["tests"] = int(found["p_holm"].notna().sum())
    if only is not None:
        found = found[[config_id in only for config_id in found["config_id"]]]
    if found.empty:
        raise Missing(
            f"No configuration here has {axes()[score].name} on a seed that its reference has too. "
            "The reference may be filtered out, or not be computed yet: see the page Runs."
        )
    known = runs.drop_duplicates("config_id").set_index("config_id")
    found["config_label"] = found["config_id"].map(known["config_label"].astype(str))
    found["method"] = found["config_id"].map(known["method"].astype(str))
    found["reference_label"] = found["config_id"].map(others).map(known["config_label"].astype(str))
    rising = axes()[score].better == "lower"
    return found.sort_values("difference", ascending=rising, kind="stable").reset_index(drop=True)


def forest(
    runs: pd.DataFrame,
    references: Mapping[str, str],
    score: str,
    look: Look,
    only: Container[str] | None = None,
) -> Chart:
    """Paired differences to the reference with their 95 % t-intervals, a row a configuration, best first.

    Filled marks: told apart from the reference after Holm's correction. Raises as ``differences``.
    """
    axis = axes()[score]
    found = differences(runs, references, score, only)
    shown = found.head(MOST_ROWS)
    figure = look.figure(height=90 + _ROW_PIXELS * len(shown), legend=False)
    for told, marks in shown.groupby(shown["p_holm"] < ALPHA):
        colours = [look.colour(method) for method in marks["method"]]
        figure.add_trace(
            go.Scatter(
                x=(marks["difference"] * axis.factor).tolist(),
                y=marks.index.tolist(),
                mode="markers",
                marker={
                    "symbol": [look.marker(m, hollow=not told) for m in marks["method"]],
                    "size": 11, "color": colours, "line": {"width": 2, "color": colours},
                },
                error_x={
                    "type": "data", "array": (marks["half_width"] * axis.factor).fillna(0).tolist(),
                    "color": look.soft, "thickness": 1.5, "width": 4,
                },
                customdata=[
                    [
                        escaped(row["config_label"]), escaped(row["reference_label"]), int(row["n"]),
                        signed(row["difference"], row["half_width"], axis.digits, axis.factor),
                        f"{row['p_holm']:.2g}",
                    ]
                    for row in marks.to_dict("records")
                ],
                hovertemplate=(
                    f"<b>%{{customdata[0]}}</b><br>less %{{customdata[1]}}<br>{axis.name} %{{customdata[3]}}"
                    "<br>n = %{customdata[2]} pairs, p (Holm) = %{customdata[4]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    _keep_in_view(figure, shown, axis.factor, look)
    figure.add_vline(x=0, line={"color": look.ink, "width": 1})
    # a row's name stands above its mark, so that a narrow screen has room for both
    for number, label in enumerate(shown["config_label"]):
        figure.add_annotation(
            x=0, xref="paper", y=number - 0.36, text=escaped(label), showarrow=False, xanchor="left",
            font={"size": 12, "color": look.ink},
        )  # fmt: skip
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, range=[len(shown) - 0.5, -0.8])
    names = found["reference_label"].unique()
    of = escaped(names[0]) if len(names) == 1 else "the reference"
    unit = "points" if axis.unit == "%" else axis.unit
    arrow = {"higher": " → better", "lower": " ← better"}.get(axis.better or "", "")
    figure.update_xaxes(title_text=f"{axis.name} less that of {of}{f' ({unit})' if unit else ''}{arrow}")
    apart, tests = int((found["p_holm"] < ALPHA).sum()), int(found["tests"].iloc[0])
    left_out = len(found) - len(shown)
    rest = f" The {left_out} behind these are in the data below, not in the picture." if left_out else ""
    return Chart(
        title=f"Which configurations differ from their reference in {axis.name}?",
        figure=figure,
        data=found,
        how=(
            "The mean over seeds of the difference between a configuration and its reference under the same "
            "seed, with the 95 % t-interval of that mean; what is far off is written at the edge. "
            "Filled marks: the paired t-test tells the two "
            f"apart at 5 % after Holm's correction for the {tests} comparisons; open ones: it does not. "
            "The correction is for all comparisons of the suite on this data set, whatever the filters show. "
            f"{SEEDS}{rest}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=f"{apart} of {len(found)} configurations can be told apart from their reference in {axis.name}.",
    )


def coverage(runs: pd.DataFrame, look: Look) -> Chart:
    """How much was computed of what was asked for: method by data set, runs done of those planned.

    runs: of one suite and scale, unfiltered. Raises ``Missing`` where there are none.
    """
    if runs.empty:
        raise Missing("This suite has no runs.")
    setting = runs["dataset"].astype(str) + " · " + runs["network"].astype(str)
    keys = [runs["method"].astype(str).rename("method"), setting.rename("setting")]
    status = runs["status"].astype(str)
    counted = pd.DataFrame(
        {
            "planned": status.groupby(keys).size(),
            "done": (status == "done").groupby(keys).sum(),
            "failed": (status == "failed").groupby(keys).sum(),
        }
    ).reset_index()
    methods = look.ordered(counted["method"])
    settings = list(dict.fromkeys(setting))
    text: list[list[str]] = []
    share: list[list[float | None]] = []
    for method in methods:
        mine = counted[counted["method"] == method]
        here = {str(row["setting"]): row for row in mine.to_dict("records")}
        text.append([_counts(here[place]) if place in here else "" for place in settings])
        share.append(
            [here[place]["done"] / here[place]["planned"] if place in here else None for place in settings]
        )
    low = "#F6E3C5" if look.mode == "light" else "#4A3A1E"
    full = "#CFE8DA" if look.mode == "light" else "#1F4A36"
    figure = look.figure(height=60 + 34 * len(methods), legend=False)
    figure.add_trace(
        go.Heatmap(
            z=share, x=[escaped(place) for place in settings], y=[look.label(m) for m in methods], text=text,
            texttemplate="%{text}", textfont={"size": 13, "color": look.ink}, zmin=0, zmax=1,
            colorscale=[[0, low], [1, full]], showscale=False, xgap=2, ygap=2,
            hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, showline=False, ticks="")
    figure.update_xaxes(side="top", showgrid=False, showline=False, ticks="")
    figure.update_layout(margin={"b": 10, "t": 40})
    done, planned = int(counted["done"].sum()), int(counted["planned"].sum())
    return Chart(
        title="How much of it has been computed?",
        figure=figure,
        data=counted,
        how=(
            "Runs done of the runs that the suite asked for, all seeds and settings of a method together; "
            "failed ones are among those that are not done."
        ),
        alt=f"{done} of {planned} runs are done, {int(counted['failed'].sum())} failed.",
    )


def best(summary: pd.DataFrame, score: str) -> str:
    """The best configuration of a summary by mean, in words: ``ssvi sparsity=0.9, n = 5: 97.50 ± 0.31``.

    One with an interval, where any has one: the best of single runs would be the luckiest.
    """
    axis = axes()[score]
    ranked = summary.dropna(subset=[f"{score}_mean"]).sort_values(
        f"{score}_mean", ascending=axis.better == "lower", kind="stable"
    )
    if ranked.empty:
        raise Missing(f"No finished run here has {axis.name}.")
    known = ranked.dropna(subset=[f"{score}_half_width"])
    row = (ranked if known.empty else known).iloc[0]
    value = interval(row[f"{score}_mean"], row[f"{score}_half_width"], axis.digits, axis.factor)
    return f"{row['config_label']}, n = {row[f'{score}_n']}: {value}"


def _keep_in_view(figure: go.Figure, shown: pd.DataFrame, factor: float, look: Look) -> None:
    """Let one configuration that is far off not squeeze all others: it is written at the edge instead."""
    widths = shown["half_width"].fillna(0.0)
    low, high = factor * (shown["difference"] - widths), factor * (shown["difference"] + widths)
    reach = pd.concat([-low, high], axis=1).max(axis=1)
    usual = float(reach.quantile(0.75))
    far = reach > _FAR * usual if usual > 0 else reach < 0
    if not far.any():
        return
    left, right = min(float(low[~far].min()), 0.0), max(float(high[~far].max()), 0.0)
    pad = 0.08 * (right - left)
    figure.update_xaxes(range=[left - pad, right + pad])
    for row in shown[far].itertuples():
        below = float(row.difference) < 0  # type: ignore[arg-type]
        text = signed(factor * float(row.difference), factor * float(row.half_width), 1)  # type: ignore[arg-type]
        figure.add_annotation(
            x=left - pad if below else right + pad, y=row.Index, text=f"◂ {text}" if below else f"{text} ▸",
            xanchor="left" if below else "right", showarrow=False,
            font={"size": 12, "color": look.ink}, bgcolor=BACKGROUND[look.mode],
        )  # fmt: skip


def _counts(row: Mapping[Any, Any]) -> str:
    more = f", {row['failed']} failed" if row["failed"] else ""
    return f"{row['done']} of {row['planned']}{more}"
