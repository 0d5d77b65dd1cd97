"""Draw a score by removal criterion and another setting, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis, axes
from bench.figures.parts.chart import INK, Chart, Look, Missing, escaped, interval
from bench.results import names
from bench.statistics.seeds import summarise

#: Settings beside which criteria can be shown, by their key in labels.
BESIDE = {"sparsity": "sparsity", "lam": "λ"}
#: Colours of the worst and the best of a column, and of its mean; dark text is readable on all of them.
_SHADES = [[0, "#EDB27C"], [0.5, "#F3F6FA"], [1, "#6FB1D6"]]


def beside_criteria(runs: pd.DataFrame) -> list[str]:
    """Return the keys of ``BESIDE`` that vary together with the criterion in finished runs."""
    return [setting for setting in BESIDE if len(_cells(runs, setting))]


def settings_map(
    runs: pd.DataFrame, score: str, setting: str = "sparsity", look: Look | None = None
) -> Chart:
    """Draw the mean score of each criterion at each value of a setting, where all other settings are equal.

    Of several groups with equal other settings the one with most cells is drawn.

    Parameters
    ----------
    runs
        The table ``runs``.
    score
        Column of ``runs``.
    setting
        A key of ``BESIDE``.
    look
        Names of criteria.

    Raises
    ------
    Missing
        No criterion has finished runs at two values of the setting.
    """
    look, axis = look or Look.of(runs), axes()[score]
    cells = _cells(runs, setting)
    if cells.empty:
        raise Missing(f"No criterion here has finished runs at two values of {BESIDE[setting]}.")
    summary = summarise(runs[runs["config_id"].isin(cells["config_id"])], metrics=[score])
    stems = [f"{score}_mean", f"{score}_half_width", f"{score}_n"]
    found = cells.merge(summary[["config_id", *stems]], on="config_id").dropna(subset=stems[0])
    if found.empty:
        raise Missing(f"No finished run here has {axis.name}.")
    order = look.criterion.ordered(found["criterion"])
    values = sorted(found["value"].unique())
    best = found.sort_values(stems[0], ascending=axis.better == "lower", kind="stable").iloc[0]
    label = str(best["config_label"])
    others = {key: text for key, text in names.settings(label).items() if key not in ("criterion", setting)}
    rest = names.BETWEEN.join([look.name(label.split(" ")[0]), *names.parts(others, look.criteria)])
    return Chart(
        title=f"Does the best criterion depend on {BESIDE[setting]}?",
        figure=_figure(found, score, axis, order, values, setting, look),
        data=found.reset_index(drop=True),
        how=(
            f"Mean {axis.name} over seeds, of {rest}; the 95 % t-interval and n in the tooltip. Blue is "
            "better and orange worse than the mean of the column; the strongest colours are at the "
            "largest such difference of all columns. A criterion without a value in a column has no cell: "
            f"λ is a setting of the exponential ones alone.\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"Mean {axis.name} of {len(order)} criteria at {len(values)} values of {BESIDE[setting]}; the "
            f"best is {look.criterion.name(str(best['criterion']))} at {_head(best['value'], setting)}, "
            f"{interval(best[stems[0]], best[stems[1]], axis.digits, axis.factor)} {axis.unit}."
        ),
    )


def _cells(runs: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Return ``config_id``, ``config_label``, ``criterion`` and ``value`` of the cells of the map."""
    done = runs[(runs["status"] == "done") & runs["criterion"].notna()].drop_duplicates("config_id")
    rows = []
    for row in done.itertuples():
        label = str(row.config_label)
        parts = names.settings(label)
        text, criterion = parts.pop(setting, None), parts.pop("criterion", None)
        value = _number(text)
        if value is not None and criterion is not None:
            rest = (label.split(" ")[0], names.remainder(label), *parts.items())
            rows.append((str(row.config_id), label, str(row.criterion), value, str(rest)))
    table = pd.DataFrame(rows, columns=["config_id", "config_label", "criterion", "value", "rest"])
    values = table.groupby(["rest", "criterion"])["value"].nunique().groupby("rest").max()
    criteria = table.groupby("rest")["criterion"].nunique()
    sizes = table["rest"].value_counts().reindex(values.index[(values > 1) & (criteria > 1)])
    if sizes.empty:
        return table.head(0)
    return table[table["rest"] == sizes.idxmax()].drop(columns="rest")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _head(value: float, setting: str) -> str:
    return names.sparsity(value) if setting == "sparsity" else f"{BESIDE[setting]} {value:g}"


def _figure(
    found: pd.DataFrame,
    score: str,
    axis: Axis,
    order: Sequence[str],
    values: Sequence[float],
    setting: str,
    look: Look,
) -> go.Figure:
    """Draw the cells, coloured by their difference to the mean of the column."""
    mean, half, n = (f"{score}_{part}" for part in ("mean", "half_width", "n"))
    sign = -1 if axis.better == "lower" else 1
    away = sign * (found[mean] - found.groupby("value")[mean].transform("mean"))
    known = {
        (row["criterion"], row["value"]): (row, difference)
        for row, difference in zip(found.to_dict("records"), away, strict=True)
    }
    texts, shades, hovers = [], [], []
    for criterion in order:
        line = [known.get((criterion, value)) for value in values]
        texts.append([f"{cell[0][mean] * axis.factor:.{axis.digits}f}" if cell else "" for cell in line])
        shades.append([cell[1] if cell else math.nan for cell in line])
        hovers.append(
            [
                f"<b>{escaped(look.configuration(cell[0]['config_label']))}</b><br>{axis.name} "
                f"{interval(cell[0][mean], cell[0][half], axis.digits, axis.factor)} {axis.unit}"
                f"<br>n = {int(cell[0][n])}"
                if cell
                else ""
                for cell in line
            ]
        )
    most = float(away.abs().max()) or 1.0
    columns, places = list(range(len(values))), list(range(len(order)))
    figure = look.figure(height=110 + 46 * len(order), legend=False)
    figure.add_trace(
        go.Heatmap(
            x=columns, y=places, z=shades, text=texts, customdata=hovers, colorscale=_SHADES, zmin=-most,
            zmax=most, texttemplate="%{text}", textfont={"size": 13, "color": INK["light"]}, xgap=2, ygap=2,
            hovertemplate="%{customdata}<extra></extra>", hoverongaps=False, showscale=False,
        )
    )  # fmt: skip
    bare = {"showgrid": False, "showline": False, "ticks": ""}
    heads = [_head(value, setting) for value in values]
    figure.update_xaxes(tickvals=columns, ticktext=heads, side="top", **bare)
    labels = [look.criterion.label(name) for name in order]
    figure.update_yaxes(tickvals=places, ticktext=labels, autorange="reversed", **bare)
    figure.update_layout(margin={"t": 45, "b": 10})
    return figure
