"""Draw how uncertain predictions are on inputs of no class, and how well that tells them from test inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis
from bench.figures.parts.chart import INK, Chart, Look, Missing, escaped, interval
from bench.figures.parts.configurations import ranked, short_names, whose
from bench.figures.parts.dots import MOST_ROWS, Marks, described, dot_plot, rest
from bench.figures.parts.last_stage import finished, scored
from bench.figures.uncertainty import NO_INFORMATION, UNCERTAINTIES
from bench.results.words import counted
from bench.statistics.seeds import summarise

#: What an input is judged by, in words.
DETECTORS = {
    "entropy": "predictive entropy",
    "max_probability": "maximum probability",
    "mutual_information": "mutual information",
    "expected_entropy": "expected entropy",
    "energy": "energy",
}
#: Parts of the run's own data set; all other splits are inputs of no class.
_OWN_SPLITS = ("val", "test")
_OF_ALL = "mean of sets"
#: Colours of chance and of 100 %, on which dark text is readable in both modes.
_SHADES = ("#F3F6FA", "#6FB1D6")
#: Heights in a row, in pixels: the row, and the gap above its cells, where its name stands.
_ROW, _GAP = 66, 26
#: Lifts the head of every second column by two lines, so that long heads have room on narrow screens.
_LIFT = "<br>\u00a0<br>\u00a0"


def foreign_splits(metrics: pd.DataFrame) -> list[str]:
    """Return the sorted names of the splits of ``metrics`` that are out of distribution."""
    return sorted({str(split) for split in metrics["split"].dropna().unique()} - set(_OWN_SPLITS))


def auroc_axis(detector: str) -> Axis:
    """Return the axis of the AUROC of a detector, a key of ``DETECTORS``."""
    return Axis(
        f"auroc_{detector}", f"AUROC of {DETECTORS[detector]}", 100, 1, unit="%", table="metrics.metric"
    )


def detection_by_set(
    runs: pd.DataFrame, metrics: pd.DataFrame, detector: str, predictor: str
) -> pd.DataFrame:
    """Add to the finished runs the AUROC of a detector on each set, by its name, and the mean over sets.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    detector
        A key of ``DETECTORS``.
    predictor
        The predictor.

    Returns
    -------
    pandas.DataFrame
        Columns of ``runs``, one named after each set that any run was evaluated on, and ``mean of sets``,
        which is NaN for runs that lack a set.
    """
    name = f"auroc_{detector}"
    mine = metrics[metrics["metric"] == name]
    done = finished(runs)
    found = {}
    for split in foreign_splits(mine):
        values = scored(runs, mine, [name], predictor, split)[name]
        if values.notna().any():
            found[split] = values
    table = pd.DataFrame(found, index=done.index)
    return pd.concat([done, table.assign(**{_OF_ALL: table.mean(axis=1, skipna=False)})], axis=1)


def matrix(
    runs: pd.DataFrame, metrics: pd.DataFrame, detector: str, predictor: str, look: Look | None = None
) -> Chart:
    """Draw the AUROC of a detector as a table of cells: a row per configuration, a column per set.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    detector
        A key of ``DETECTORS``.
    predictor
        The predictor.
    look
        Colours and the order of methods.

    Raises
    ------
    Missing
        No finished run has this AUROC.
    """
    look = look or Look.of(runs)
    axis = auroc_axis(detector)
    table = detection_by_set(runs, metrics, detector, predictor)
    sets = [name for name in table.columns if name not in runs.columns]
    found = summarise(table, metrics=sets)
    found = found[found[[f"{name}_mean" for name in sets]].notna().any(axis=1)]
    if found.empty:
        raise Missing(
            f"No finished run here has the {axis.name} of predictor {predictor}: mutual information and "
            "expected entropy need several samples. Choose another detector or predictor, or widen the "
            "filters."
        )
    first, last = [f"{name}_mean" for name in (_OF_ALL, sets[0])]
    found = found.sort_values([first, last], ascending=False, kind="stable").reset_index(drop=True)
    best = found.iloc[0]
    said = "" if math.isnan(best[first]) else (
        f"; the highest mean over sets is {100 * best[first]:.1f} % by "
        f"{look.configuration(best['config_label'])}"
    )  # fmt: skip
    return Chart(
        title="Does uncertainty tell unknown inputs from test inputs?",
        figure=_cells(found.head(MOST_ROWS), sets, axis, look),
        data=found[described(sets)],
        how=(
            f"{axis.name}, predictor `{predictor}`, last stage of each run: mean over seeds ± half width "
            "of the 95 % t-interval over seeds (none for a single seed), n in the tooltip. 50 % is chance; "
            "below it, unknown inputs look more certain than test inputs. Best mean over sets first. "
            f"The darker a cell, the nearer to 100 %; the lightest are at 50 % or less.{rest(found)}\n\n"
            f"**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"{axis.name} of {counted(len(found), 'configuration')} on {counted(len(sets) - 1, 'set')}{said}."
        ),
    )


def _cells(rows: pd.DataFrame, sets: list[str], axis: Axis, look: Look) -> go.Figure:
    """Draw the cells of a matrix, the name of each row above its cells, to fit narrow screens."""
    records = rows.to_dict("records")
    means = [[row[f"{name}_mean"] for name in sets] for row in records]
    texts = [[_told(row, name, axis) for name in sets] for row in records]
    hovers = [
        [
            f"<b>{escaped(look.configuration(row['config_label']))}</b><br>"
            f"{escaped(name)}: {_told(row, name, axis)} {axis.unit}<br>n = {int(row[f'{name}_n'])}"
            for name in sets
        ]
        for row in records
    ]
    lines = [[text.replace(" ± ", "<br>± ") for text in line] for line in texts]
    columns, places = list(range(len(sets))), list(range(len(rows)))
    figure = look.figure(height=_ROW * len(rows) + 112, legend=False)
    figure.add_trace(
        go.Heatmap(
            x=columns, y=places, z=means, text=lines, customdata=hovers,
            texttemplate="%{text}", textfont={"size": 12, "color": INK["light"]}, colorscale=_SHADES,
            zmin=0.5, zmax=1, xgap=2, ygap=_GAP, meta=whose(rows),
            hovertemplate="%{customdata}<extra></extra>", hoverongaps=False, showscale=False,
        )
    )  # fmt: skip
    names = short_names(rows, look)
    figure.update_layout(
        margin={"t": 82, "b": 10, "l": 12},
        annotations=[
            {
                "xref": "paper", "x": 0, "xanchor": "left", "y": place - 0.5, "yanchor": "middle",
                "showarrow": False, "text": names[config_id], "font": {"size": 13, "color": look.ink},
            }
            for place, config_id in enumerate(rows["config_id"].astype(str))
        ],
    )  # fmt: skip
    ticks = [escaped(name).replace("_", "_<br>") + _LIFT * (place % 2) for place, name in enumerate(sets)]
    bare = {"showgrid": False, "showline": False, "ticks": ""}
    figure.update_xaxes(tickvals=columns, ticktext=ticks, side="top", **bare)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.75], showticklabels=False, **bare)
    return figure


def _told(row: Mapping[Any, Any], name: str, axis: Axis) -> str:
    return interval(row[f"{name}_mean"], row[f"{name}_half_width"], axis.digits, axis.factor)


def by_split(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    measure: str,
    split: str,
    predictor: str,
    look: Look | None = None,
) -> Chart:
    """Draw the mean ``measure`` on the test part and on an out-of-distribution ``split``.

    There is one row per configuration, that with the largest rise first. The arguments are those of
    ``separation``, with a split from ``foreign_splits``.

    Raises
    ------
    Missing
        No finished run was evaluated on ``split``.
    """
    look = look or Look.of(runs)
    axis = UNCERTAINTIES[measure]
    if measure == "mutual_information" and predictor == "mean":
        raise Missing(NO_INFORMATION)
    own = scored(runs, metrics, [measure], predictor, "test")
    other = scored(runs, metrics, [measure], predictor, split)
    found = summarise(own.assign(test=own[measure], other=other[measure]), metrics=["test", "other"])
    found = found.dropna(subset="other_mean")
    found = ranked(found, found["other_mean"] - found["test_mean"])
    if found.empty:
        raise Missing(f"No finished run here has {axis.name} of predictor {predictor} on {split}.")
    shown = found.head(MOST_ROWS)
    marks = [Marks("test", "test", "filled", 0.14), Marks("other", escaped(split), "open", -0.14)]
    higher = int((found["other_mean"] > found["test_mean"]).sum())
    return Chart(
        title=f"Does {axis.name} rise on {split}?",
        figure=dot_plot(shown, marks, axis, short_names(shown, look), look),
        data=found[described(["test", "other"])],
        how=(
            f"Predictor `{predictor}`, last stage of each run. Means over examples, then over seeds, with "
            "the 95 % t-interval over seeds (none for a single seed), n in the tooltip. The networks were "
            f"not trained for such data.{rest(found)}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=f"Mean {axis.name} is higher on {split} than on test in {higher} of {len(found)}.",
    )
