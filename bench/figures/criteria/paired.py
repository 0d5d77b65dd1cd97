"""Compare removal criteria: paired differences to the reference criterion, by recipe and sparsity."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bench.figures.criteria.words import signed, verdicts
from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval, translucent
from bench.figures.parts.configurations import whose
from bench.figures.parts.verdicts import said, tally, within
from bench.results import names
from bench.results.tables.columns import SCORES
from bench.statistics.seeds import by_seed, margin_of, paired, references_of, summarise
from bench.statistics.splits import scope

#: Most panels (pairs of a recipe and a sparsity) in one figure; the others are in its data only.
_MOST_PANELS = 8
_ROW_PIXELS, _PANEL_PIXELS, _FRAME_PIXELS = 26, 58, 80


def differences(
    runs: pd.DataFrame,
    score: str,
    references: Mapping[str, str],
    only: Container[str] | None = None,
) -> pd.DataFrame:
    """Compute the difference of each criterion to the reference criterion, all else equal, paired by seed.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale and test set.
    score
        Column of the score.
    references
        ``config_id`` to the ``config_id`` that it is compared with.
    only
        Configurations to return; None for all.

    Returns
    -------
    DataFrame
        One row per configuration, with or without results:

        - ``config_id``, ``config_label``, ``method``, ``recipe``, ``sparsity``, ``reference`` (a
          ``config_id``), ``reference_criterion``;
        - ``group``: recipe and sparsity in words, with the reference's label if several share them;
        - ``kind``: ``criterion`` (the reference's method with another criterion) or ``control`` (another
          method of the same sparsity, with or without a criterion);
        - ``name``: name of the criterion, or of the control's method;
        - ``criterion``: that of the configuration; null without one;
        - ``difference``, ``half_width``, ``n``, ``p``, ``p_holm``, ``smallest``, ``p_equivalent``,
          ``verdict`` (``undecided`` where there is no result yet): see ``bench.statistics.paired``. The
          family of Holm's correction is all configurations, also those that are not in ``only``;
        - ``tests``: number of tests in this family.

    Raises
    ------
    Missing
        If no criterion is compared, or none has a seed in common with its reference.
    """
    compared = _compared(runs, references)
    others = dict(zip(compared["config_id"], compared["reference"], strict=True))
    involved = runs["config_id"].isin([*others, *others.values()])
    found = paired(runs[involved], score, others)
    columns = ["config_id", "difference", "half_width", "n", "p", "p_holm"]
    columns += ["smallest", "p_equivalent", "verdict"]
    table = compared.merge(found[columns], on="config_id", how="left")
    if table.loc[table["kind"] == "criterion", "difference"].isna().all():
        raise Missing(
            f"No criterion has {axes()[score].name} on a seed that its reference has too. Runs may be "
            "unfinished: see the page Runs."
        )
    table["tests"] = int(table["p_holm"].notna().sum())
    if only is not None:
        table = table[[config_id in only for config_id in table["config_id"]]]
        if (table["kind"] != "criterion").all():
            raise Missing("The filters leave no criterion to compare. Widen them.")
    table["n"] = table["n"].fillna(0).astype(int)
    table["verdict"] = table["verdict"].fillna("undecided")
    return table


def criteria(
    runs: pd.DataFrame,
    score: str = SCORES[0],
    references: Mapping[str, str] | None = None,
    look: Look | None = None,
    aliases: Mapping[str, str] | None = None,
    single_seeds: bool = False,
    only: Container[str] | None = None,
) -> Chart:
    """Draw differences to the reference criterion with 95 % t-intervals, a panel per recipe and sparsity.

    Parameters
    ----------
    runs, score, only
        As for ``differences``.
    references
        As for ``bench.statistics.references_of``; None for those that the table carries.
    look
        Colours and markers; None for those that the table carries.
    aliases
        Criterion that is not run, because it ranks as another one, to that other criterion.
    single_seeds
        Whether to show the difference under each seed too.

    Raises
    ------
    Missing
        As ``differences``.
    """
    look = look or Look.of(runs)
    axis = axes()[score]
    found = differences(runs, score, references_of(runs, references), only)
    groups = list(dict.fromkeys(found["group"]))
    shown = groups[:_MOST_PANELS]
    panels = [_rows(found[found["group"] == group], look) for group in shown]
    low, high = _range(found, axis)
    figure = _figure(panels, look)
    means = _reference_means(runs, score)
    singles = _single_differences(runs, score, found) if single_seeds else None
    for number, panel in enumerate(panels, start=1):
        _draw(figure, number, panel, axis, look, (low, high), singles)
        labels = [_label(row, look, aliases or {}) for row in panel]
        figure.update_yaxes(
            tickvals=list(range(len(panel))), ticktext=labels, range=[len(panel) - 0.4, -0.6],
            showgrid=False, row=number,
        )  # fmt: skip
        # a reference without finished runs has no mean yet
        reference = means.get(panel[0]["reference"], "–")
        reference_name = look.criterion.label(panel[0]["reference_criterion"])
        title = f"<b>{escaped(shown[number - 1])}</b><br>0 is {reference_name}"
        figure.layout.annotations[number - 1].update(
            text=f"{title}: {reference} {axis.unit}".rstrip(),
            x=0, xref="paper", xanchor="left", align="left", yanchor="bottom",
            font={"size": 13, "color": look.ink},
        )  # fmt: skip
    unit = f" ({axis.step})" if axis.step else ""
    arrow = {"higher": " → better", "lower": " ← better"}.get(axis.better or "", "")
    figure.update_xaxes(range=[low, high], title_text="", tickformat="~g")
    figure.update_xaxes(title_text=f"difference in {axis.name}{unit}{arrow}", row=len(panels))
    rivals = found[found["kind"] == "criterion"]
    cut = len(groups) - len(shown)
    rest = f" {cut} more recipes and sparsities are in the data below, not in the picture." if cut else ""
    return Chart(
        title=f"Which removal criterion changes {axis.name}, and where?",
        figure=figure,
        data=found,
        how=(
            "A mark is the mean over seeds of the difference to the reference criterion under the same seed, "
            "all other settings equal; the bar is the 95 % t-interval of that mean, n pairs in the tooltip. "
            f"**Filled** marks: the two differ (paired t-test) or are equivalent{within(score)} (two "
            "one-sided t-tests; the shaded region), at 5 % after Holm's correction for the "
            f"{int(found['tests'].iloc[0])} comparisons of the suite on this data set, whatever is shown; "
            "**open** ones: undecided, which does not show that they are equal. Below the thin rule stand "
            "other methods of the same sparsity. The range is that of the criteria; "
            "one of these methods beyond it is written at the edge. All panels share it. "
            f"{scope(runs)}{rest}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"Criteria in {len(groups)} recipes and sparsities, compared with their reference criterion in "
            f"{axis.name}: {tally(rivals['verdict'])}. {' '.join(verdicts(found, score, look))}"
        ),
    )


def _compared(runs: pd.DataFrame, references: Mapping[str, str]) -> pd.DataFrame:
    """Return the configurations to compare, each with its reference; columns as in ``differences``."""
    columns = ["config_id", "config_label", "method", "recipe", "sparsity", "criterion"]
    known = runs.drop_duplicates("config_id")[columns].set_index("config_id", drop=False)
    table = known.assign(reference=known["config_id"].map(dict(references)))
    table = table[table["reference"].isin(known.index) & (table["reference"] != table["config_id"])]
    theirs = known.loc[table["reference"].to_numpy()].set_index(table.index)
    table["reference_criterion"] = theirs["criterion"]
    same = theirs["criterion"].notna() & (table["sparsity"] == theirs["sparsity"])
    same &= table["recipe"] == theirs["recipe"]
    is_rival = table["criterion"].notna() & (table["method"] == theirs["method"])
    is_rival &= table["criterion"] != theirs["criterion"]
    is_control = table["method"] != theirs["method"]
    table["kind"] = is_rival.map({True: "criterion", False: "control"})
    table["name"] = table["criterion"].where(is_rival, table["method"])
    table = table[same & (is_rival | is_control)]
    # a control without any criterion beside it says nothing about criteria
    groups = table.loc[table["kind"] == "criterion", "reference"].unique()
    table = table[table["reference"].isin(groups)]
    if table.empty:
        raise Missing(
            "Nothing here differs from its reference in the criterion alone. Widen the filters, or choose a "
            "suite that compares criteria, such as criteria_ablation, on the left; where it is not there, "
            "this computes it: python -m bench.grid --suite criteria_ablation"
        )
    labels = known["config_label"]
    table["group"] = table["reference"].map(_group_names(table, labels))
    table = table.reset_index(drop=True)
    return table.astype({"sparsity": "float64"})


def _group_names(table: pd.DataFrame, labels: pd.Series) -> dict[str, str]:
    """Return the name of each reference's panel: recipe and sparsity, and what else tells it from others."""
    first = table.drop_duplicates("reference")
    short = {
        reference: f"{recipe} · sparsity {sparsity:g}"
        for reference, recipe, sparsity in zip(
            first["reference"], first["recipe"], first["sparsity"], strict=True
        )
    }
    shared = pd.Series(short).duplicated(keep=False)
    return {
        reference: names.BETWEEN.join([name, *(_others(labels[reference]) if shared[reference] else [])])
        for reference, name in short.items()
    }


def _others(label: str) -> list[str]:
    """Return the settings in a reference's label besides those that each panel names, in words."""
    settings = names.settings(label)
    return names.parts({name: settings[name] for name in settings if name not in ("sparsity", "recipe")}, {})


def _rows(group: pd.DataFrame, look: Look) -> list[dict[Any, Any]]:
    """Return the rows of a panel from top to bottom: criteria in their order, then controls."""
    order = look.criterion.ordered(group.loc[group["kind"] == "criterion", "name"].astype(str))
    place = {name: number for number, name in enumerate(order)}
    rows = group.to_dict("records")
    return sorted(rows, key=lambda row: (row["kind"] == "control", place.get(row["name"], 0), row["name"]))


def _figure(panels: Sequence[Sequence[Any]], look: Look) -> go.Figure:
    heights = [_ROW_PIXELS * len(panel) for panel in panels]
    inside = sum(heights) + _PANEL_PIXELS * (len(panels) - 1)
    base = look.figure(height=inside + _FRAME_PIXELS + _PANEL_PIXELS, legend=False)
    figure = make_subplots(
        rows=len(panels), cols=1, shared_xaxes=True, row_heights=heights,
        vertical_spacing=_PANEL_PIXELS / inside if len(panels) > 1 else 0,
        subplot_titles=[" "] * len(panels), figure=go.Figure(layout=base.layout),
    )  # fmt: skip
    figure.update_xaxes(base.layout.xaxis)
    figure.update_yaxes(base.layout.yaxis)
    figure.update_layout(margin={"t": _PANEL_PIXELS, "b": _FRAME_PIXELS - 20, "r": 20, "l": 10})
    return figure


def _range(found: pd.DataFrame, axis: Axis) -> tuple[float, float]:
    """Return the range that criteria need, 0 included; controls are often far outside it."""
    rivals = found[found["kind"] == "criterion"]
    half_width = rivals["half_width"].fillna(0)
    low = min(0.0, float((rivals["difference"] - half_width).min()))
    high = max(0.0, float((rivals["difference"] + half_width).max()))
    pad = 0.08 * (high - low) or 10.0**-axis.digits / axis.factor
    return (low - pad) * axis.factor, (high + pad) * axis.factor


def _draw(
    figure: go.Figure,
    number: int,
    panel: Sequence[Mapping[Any, Any]],
    axis: Axis,
    look: Look,
    limits: tuple[float, float],
    singles: pd.DataFrame | None,
) -> None:
    for place, row in enumerate(panel):
        colour, symbol = _looks(row, look)
        value = row["difference"] * axis.factor
        if singles is not None:
            marks = singles[singles["config_id"] == row["config_id"]]
            dots = _seeds(marks, place, colour, axis).update(meta=whose(pd.DataFrame([row])))
            figure.add_trace(dots, row=number, col=1)
        if math.isnan(value):
            _write(figure, number, place, "no finished pair of runs", 0.0, "left", look.soft)
        elif not limits[0] <= value <= limits[1]:
            text = signed(row, axis)
            if value < limits[0]:
                _write(figure, number, place, f"◀ {text}", limits[0], "left", look.ink)
            else:
                _write(figure, number, place, f"{text} ▶", limits[1], "right", look.ink)
        else:
            figure.add_trace(_mark(row, place, colour, symbol, axis, look), row=number, col=1)
    figure.add_vline(x=0, line={"color": look.ink, "width": 1.5}, row=number, col=1)
    margin = margin_of(axis.column) * axis.factor
    if not math.isnan(margin):
        band = [max(-margin, limits[0]), min(margin, limits[1])]
        figure.add_vrect(
            x0=band[0], x1=band[1], fillcolor=look.soft, opacity=0.12, line={"width": 0}, row=number, col=1
        )
    rivals = sum(row["kind"] == "criterion" for row in panel)
    if rivals < len(panel):
        figure.add_hline(y=rivals - 0.5, line={"color": look.soft, "width": 1}, row=number, col=1)


def _mark(row: Mapping[Any, Any], place: int, colour: str, symbol: str, axis: Axis, look: Look) -> go.Scatter:
    half_width = row["half_width"] * axis.factor
    known = look.criteria if row["kind"] == "criterion" else {}
    reference = look.criterion.label(row["reference_criterion"])
    words = str(known.get(row["name"], {}).get("formula", ""))
    return go.Scatter(
        x=[row["difference"] * axis.factor],
        y=[place],
        mode="markers",
        name=escaped(row["name"]),
        meta=whose(pd.DataFrame([row])),
        showlegend=False,
        marker={
            "symbol": f"{symbol}-open" if row["verdict"] == "undecided" else symbol,
            "size": 11, "color": colour, "line": {"width": 2, "color": colour},
        },
        error_x={
            "type": "data", "array": [0 if math.isnan(half_width) else half_width],
            "color": colour, "thickness": 1.6, "width": 5,
        },
        hovertemplate=(
            f"<b>{escaped(look.configuration(row['config_label']))}</b>"
            f"{f'<br>{escaped(words)}' if words else ''}<br>less {reference}: {signed(row, axis)}"
            f"<br>n = {row['n']} pairs; {said(row, axis)}<extra></extra>"
        ),
    )  # fmt: skip


def _seeds(marks: pd.DataFrame, place: int, colour: str, axis: Axis) -> go.Scatter:
    return go.Scatter(
        x=(marks["difference"] * axis.factor).tolist(),
        y=[place] * len(marks),
        mode="markers",
        showlegend=False,
        marker={"symbol": "line-ns", "size": 12, "line": {"width": 2, "color": translucent(colour, 0.5)}},
        customdata=marks[["seed"]].astype(int).to_numpy().tolist(),
        hovertemplate="seed %{customdata[0]}: %{x:+.4g}<extra></extra>",
    )


def _write(figure: go.Figure, number: int, place: int, text: str, x: float, anchor: str, colour: str) -> None:
    figure.add_annotation(
        x=x, y=place, text=text, showarrow=False, xanchor=anchor, font={"size": 13, "color": colour},
        row=number, col=1,
    )  # fmt: skip


def _looks(row: Mapping[Any, Any], look: Look) -> tuple[str, str]:
    """Return colour and filled marker of a row."""
    known = look if row["kind"] == "control" else look.criterion
    return known.colour(row["name"]), known.marker(row["name"])


def _label(row: Mapping[Any, Any], look: Look, known: Mapping[str, str]) -> str:
    if row["kind"] == "control":
        has_one = isinstance(row["criterion"], str)
        return " · ".join([look.label(row["name"]), *([look.criterion.label(row["criterion"])] * has_one)])
    same = [name for name, of in known.items() if of == row["name"]]
    return " = ".join(map(look.criterion.label, [row["name"], *same]))


def _reference_means(runs: pd.DataFrame, score: str) -> dict[str, str]:
    axis = axes()[score]
    table = summarise(runs, metrics=[score])
    return {
        str(row["config_id"]): interval(
            row[f"{score}_mean"], row[f"{score}_half_width"], axis.digits, axis.factor
        )
        for row in table.to_dict("records")
    }


def _single_differences(runs: pd.DataFrame, score: str, found: pd.DataFrame) -> pd.DataFrame:
    """Return the difference of each configuration under each seed as a long table."""
    table = by_seed(runs, score)
    parts = [
        (table[mine] - table[theirs]).dropna().rename("difference").reset_index().assign(config_id=mine)
        for mine, theirs in zip(found["config_id"], found["reference"], strict=True)
        if mine in table and theirs in table
    ]
    return pd.concat(parts, ignore_index=True)
