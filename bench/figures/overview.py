"""Draw the overview of a suite: differences to the reference, and how much has been computed."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import BACKGROUND, Chart, Look, Missing, escaped, signed
from bench.figures.parts.configurations import short_names, whose
from bench.figures.parts.verdicts import said, tally, within
from bench.results.tables.columns import SCORES
from bench.statistics.seeds import margin_of, paired, references_of
from bench.statistics.splits import scope

#: Greatest number of readable rows of a forest plot; readers are told how many are left out.
MOST_ROWS = 30
_ROW_PIXELS = 38
#: A difference this many times as large as the upper quartile is written at the edge instead of drawn.
_FAR = 5.0


def differences(
    runs: pd.DataFrame,
    references: Mapping[str, str] | str | None,
    score: str,
    only: Container[str] | None = None,
) -> pd.DataFrame:
    """Compute the difference of each configuration from its reference, paired by seed, best first.

    Parameters
    ----------
    runs
        The table ``runs``.
    references
        As in ``bench.statistics.paired``.
    score
        Column of ``runs``.
    only
        The configurations to return; None for all. Holm's correction always covers all of ``runs``.

    Returns
    -------
    pandas.DataFrame
        The columns of ``paired``, ``config_label``, ``method``, ``reference_label`` and ``tests`` (number of
        comparisons); without the references themselves.

    Raises
    ------
    Missing
        No configuration shares a seed with its reference.
    """
    others = {mine: theirs for mine, theirs in references_of(runs, references).items() if mine != theirs}
    found = paired(runs, score, others)
    found["tests"] = int(found["p_holm"].notna().sum())
    if only is not None:
        found = found[[config_id in only for config_id in found["config_id"]]]
    if found.empty:
        raise Missing(
            f"No configuration here has {axes()[score].name} for a seed that its reference also has. "
            "The reference may be filtered out, or may not be computed yet: see the page Runs."
        )
    known = runs.drop_duplicates("config_id").set_index("config_id")
    found["config_label"] = found["config_id"].map(known["config_label"].astype(str))
    found["method"] = found["config_id"].map(known["method"].astype(str))
    found["reference_label"] = found["config_id"].map(others).map(known["config_label"].astype(str))
    rising = axes()[score].better == "lower"
    return found.sort_values("difference", ascending=rising, kind="stable").reset_index(drop=True)


def forest(
    runs: pd.DataFrame,
    references: Mapping[str, str] | str | None = None,
    score: str = SCORES[0],
    look: Look | None = None,
    only: Container[str] | None = None,
) -> Chart:
    """Draw the paired differences from the reference with 95 % t-intervals, best first.

    Marks are filled if the configuration differs or is equivalent within the margin, which is shaded; they
    are open if the seeds show neither. The arguments, and the error ``Missing``, are those of
    ``differences``.

    Examples
    --------
    >>> import bench
    >>> runs = bench.tables("sparsity_sweep", "results/reference", scale="demo")["runs"]
    >>> bench.figures.forest(runs, score="nll").alt
    'Compared with their reference in NLL: 5 differ, 0 are equivalent and 66 are undecided.'
    """
    look = look or Look.of(runs)
    axis = axes()[score]
    found = differences(runs, references, score, only)
    shown = found.head(MOST_ROWS)
    figure = look.figure(height=90 + _ROW_PIXELS * len(shown), legend=False)
    margin = margin_of(score) * axis.factor
    if margin == margin:
        figure.add_vrect(x0=-margin, x1=margin, fillcolor=look.soft, opacity=0.12, line={"width": 0})
    for told, marks in shown.groupby(shown["verdict"] != "undecided"):
        colours = [look.colour(method) for method in marks["method"]]
        figure.add_trace(
            go.Scatter(
                x=(marks["difference"] * axis.factor).tolist(),
                y=marks.index.tolist(),
                mode="markers",
                meta=whose(marks),
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
                        escaped(look.configuration(row["config_label"])),
                        escaped(look.configuration(row["reference_label"])), int(row["n"]),
                        signed(row["difference"], row["half_width"], axis.digits, axis.factor),
                        said(row, axis),
                    ]
                    for row in marks.to_dict("records")
                ],
                hovertemplate=(
                    f"<b>%{{customdata[0]}}</b><br>less %{{customdata[1]}}<br>{axis.name} %{{customdata[3]}}"
                    "<br>n = %{customdata[2]} pairs; %{customdata[4]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    _keep_in_view(figure, shown, axis.factor, look)
    figure.add_vline(x=0, line={"color": look.ink, "width": 1})
    # the name of a row stands above its mark, so that narrow screens have room for both
    labels = runs["config_label"].astype(str)
    compared = runs[runs["config_id"].isin(found["config_id"]) | labels.isin(found["reference_label"])]
    short = short_names(compared, look)
    for number, config_id in enumerate(shown["config_id"].astype(str)):
        figure.add_annotation(
            x=0, xref="paper", y=number - 0.36, text=short[config_id], showarrow=False, xanchor="left",
            font={"size": 12, "color": look.ink},
        )  # fmt: skip
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, range=[len(shown) - 0.5, -0.8])
    named, unit = "their reference", axis.step
    if len(found["reference_label"].unique()) == 1:
        one = runs[labels.isin(found["reference_label"])].iloc[0]
        named = look.configuration(one["config_label"])
    arrow = {"higher": " → better", "lower": " ← better"}.get(axis.better or "", "")
    of = f"{axis.name} less that of {escaped(named)}"
    figure.update_xaxes(title_text=f"{of}{f' ({unit})' if unit else ''}{arrow}")
    tests = int(found["tests"].iloc[0])
    left_out = len(found) - len(shown)
    rest = f" The {left_out} behind these are in the data below, not in the picture." if left_out else ""
    return Chart(
        title=f"Which configurations differ from {named} in {axis.name}?",
        figure=figure,
        data=found,
        how=(
            "The mean over seeds of the difference between a configuration and its reference under the same "
            "seed, with the 95 % t-interval of that mean; values far off are written at the edge. "
            f"Filled marks: the configuration differs (paired t-test), or is equivalent{within(score)} (two "
            "one-sided t-tests), at 5 % after Holm's correction. Open marks: undecided, which does not show "
            f"that they are equal. The correction covers the {tests} comparisons of the suite on this data "
            "set, whatever the filters show. "
            f"{scope(runs)}{rest}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=f"Compared with their reference in {axis.name}: {tally(found['verdict'])}.",
    )


def coverage(runs: pd.DataFrame, look: Look | None = None) -> Chart:
    """Draw how many of the planned runs are done, by method and data set.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite and scale, unfiltered.
    look
        Colours and names.

    Raises
    ------
    Missing
        There are no runs.
    """
    look = look or Look.of(runs)
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
            "Number of runs done out of those that the suite asks for, all seeds and settings of a method "
            "together; failed runs are among those that are not done."
        ),
        alt=f"{done} of {planned} runs are done, {int(counted['failed'].sum())} failed.",
    )


def _keep_in_view(figure: go.Figure, shown: pd.DataFrame, factor: float, look: Look) -> None:
    """Write configurations that are far off at the edge, so that the others keep room on the axis."""
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
