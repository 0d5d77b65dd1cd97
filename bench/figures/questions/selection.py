"""Draw and tell whether networks find the features that decide the class, where these are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval, log_ticks
from bench.figures.parts.configurations import (
    MOST_CHOSEN,
    chosen_runs,
    dashes_of,
    one_a_method,
    short_names,
    whose,
)
from bench.figures.parts.curves import add_curves, along
from bench.figures.parts.verdicts import tally
from bench.results.words import counted
from bench.statistics.seeds import paired, summarise

_METRIC = "input_average_precision"
_SHARE = Axis("x", "share of the epochs", factor=100, digits=0, unit="%")
_PRECISION = Axis("mean", "average precision", digits=3)
_TRAIN, _FEATURES, _RELEVANT = (f"config.dataset.{key}" for key in ("train", "features", "relevant"))


def examples_needed(features: int, relevant: int) -> float:
    """Return k log(p/k), the scale of the number of examples from which k of p features can be named.

    There are about (p/k)^k sets of k features, and an example tells at most a constant number of nats
    (Wainwright 2009).
    """
    return relevant * math.log(features / relevant)


def found_features(runs: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs on planted problems, with their average precision in a column of its name.

    Raises
    ------
    Missing
        The relevant features are known in none.
    """
    rows = metrics[metrics["metric"].astype(str) == _METRIC].drop_duplicates("run_id", keep="last")
    values = pd.Series(rows["value"].to_numpy(float), rows["run_id"].astype(str))
    table = runs[runs["status"] == "done"].assign(**{_METRIC: lambda t: t["run_id"].astype(str).map(values)})
    needed = [_TRAIN, _FEATURES, _RELEVANT]
    if not set(needed) <= set(table) or table.dropna(subset=[_METRIC, *needed]).empty:
        raise Missing(
            "The features that decide the class are known in planted problems only: "
            "python -m bench.grid --suite high_dimensional"
        )
    return table.dropna(subset=[_METRIC, *needed])


def recovery(
    runs: pd.DataFrame, metrics: pd.DataFrame, references: Mapping[str, str], look: Look | None = None
) -> Chart:
    """Draw how well each method finds the relevant features, by the number of training examples.

    Parameters
    ----------
    runs, metrics
        The tables of these names, of one suite, scale, data set and network.
    references
        ``config_id`` of configurations that others are compared with; these are drawn rather than others.
    look
        Colours and markers.

    Raises
    ------
    Missing
        The relevant features are known in no finished run.
    """
    look, table = look or Look.of(runs), found_features(runs, metrics)
    features, relevant = int(table[_FEATURES].max()), int(table[_RELEVANT].max())
    table = table[(table[_FEATURES] == features) & (table[_RELEVANT] == relevant)]
    parts = []
    for _, part in table.groupby(_TRAIN):
        shown = one_a_method(part, look, references.values(), most=MOST_CHOSEN + 2)
        found = summarise(part[part["config_id"].isin(shown)], metrics=[_METRIC])
        parts.append(found.assign(examples=int(part[_TRAIN].iloc[0])))
    data = pd.concat(parts, ignore_index=True)
    figure = look.figure()
    for method in look.ordered(data["method"].astype(str)):
        mine = data[data["method"] == method].sort_values("examples")
        mean, half = mine[f"{_METRIC}_mean"], mine[f"{_METRIC}_half_width"]
        figure.add_trace(
            go.Scatter(
                x=mine["examples"].tolist(), y=mean.round(4).tolist(), mode="lines+markers",
                name=look.label(method), error_y={"type": "data", "array": half.fillna(0).round(4).tolist()},
                line={"color": look.colour(method), "dash": look.dash(method)},
                marker={"symbol": look.marker(method), "size": 9, "color": look.colour(method)},
                meta=whose(mine),
                customdata=mine["config_label"].map(look.configuration).map(escaped).tolist(),
                hovertemplate=(
                    "<b>%{customdata}</b><br>%{x} examples<br>average precision %{y:.3f}<extra></extra>"
                ),
            )
        )  # fmt: skip
    chance, scale = relevant / features, examples_needed(features, relevant)
    figure.add_hline(y=chance, line={"color": look.soft, "dash": "dot"})
    figure.add_vline(
        x=scale, line={"color": look.soft, "dash": "dot"}, annotation_text="k log(p/k)",
        annotation_font_color=look.ink,
    )  # fmt: skip
    ends = data["examples"].min(), max(data["examples"].max(), scale)
    figure.update_xaxes(
        type="log", title_text="training examples", **log_ticks(float(min(ends[0], scale)), float(ends[1]))
    )
    figure.update_yaxes(title_text="average precision of the features", range=[0, 1.03])
    return Chart(
        title="From how many examples are the relevant features found?",
        figure=figure,
        data=data,
        how=(
            f"{relevant} of {features:,} features decide the class. Features are ranked by the norm of their "
            "weights in the first layer; the average precision is the area under the precision-recall curve. "
            f"Mean and 95 % t-interval over seeds; dotted: an order by chance ({chance:.3g}), and k log(p/k) "
            f"= {scale:.0f} examples, the scale from which any method can name k of p features. Of each "
            "method one configuration is drawn, the one that others are compared with where there is one."
        ),
        alt=" ".join(recovered(runs, metrics, references, look)),
    )


def finding(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    history: pd.DataFrame,
    references: Mapping[str, str],
    look: Look | None = None,
) -> Chart:
    """Draw how well the relevant features are found while training goes on, from the most examples.

    Parameters
    ----------
    runs, metrics, history
        The tables of these names, of one suite, scale, data set and network.
    references
        ``config_id`` of configurations that others are compared with; these are drawn rather than others.
    look
        Colours and markers.

    Raises
    ------
    Missing
        The relevant features are known in no finished run, or were not looked for during training.
    """
    look, table = look or Look.of(runs), found_features(runs, metrics)
    for column in (_FEATURES, _RELEVANT, _TRAIN):
        table = table[table[column] == table[column].max()]
    shown = one_a_method(table, look, references.values(), most=MOST_CHOSEN + 2)
    mine = chosen_runs(table, shown)
    rows = history[(history["metric"].astype(str) == _METRIC) & history["run_id"].isin(mine["run_id"])]
    if rows.empty:
        raise Missing(
            "No run here looked for its relevant features during training; runs of this version do: "
            "python -m bench.grid --suite high_dimensional"
        )
    rows = rows.astype({"run_id": str})
    order = rows.groupby("run_id", sort=False)  # a run's rows are in the order of training
    share = (order.cumcount() + 1) / order["value"].transform("size")
    found = along(mine, rows.assign(share=share), "share", "value")
    figure = look.figure()
    add_curves(figure, found, _SHARE, _PRECISION, short_names(found, look), dashes_of(found, look), look)
    figure.update_xaxes(title_text="share of the epochs", range=[0, 102], ticksuffix=" %")
    figure.update_yaxes(title_text="average precision of the features", range=[0, 1.03])
    ends = found.drop_duplicates("config_id", keep="last")
    told = [f"{look.name(str(row.method))} {row.mean:.2f}" for row in ends.itertuples()]
    where = [int(table[column].iloc[0]) for column in (_RELEVANT, _FEATURES, _TRAIN)]
    return Chart(
        title="How soon are the relevant features found?",
        figure=figure,
        data=found,
        how=(
            f"{where[0]} of {where[1]:,} features decide the class, with {where[2]} training examples: the "
            "average precision of the features, ranked by the norm of their weights in the first layer, at "
            "the end of each epoch of all stages; mean and 95 % t-interval over seeds. Chance is "
            f"{where[0] / where[1]:.3g}."
        ),
        alt=f"Average precision at the end of training: {', '.join(told)}.",
    )


def recovered(
    runs: pd.DataFrame, metrics: pd.DataFrame, references: Mapping[str, str], look: Look
) -> list[str]:
    """Tell how well each method finds the relevant features, and how that compares with the reference.

    Raises
    ------
    Missing
        The relevant features are known in no finished run.
    """
    table, told = found_features(runs, metrics), []
    for _, part in table.groupby([_FEATURES, _RELEVANT, _TRAIN]):
        features, relevant, examples = (
            int(part[column].iloc[0]) for column in (_FEATURES, _RELEVANT, _TRAIN)
        )
        shown = one_a_method(part, look, references.values(), most=MOST_CHOSEN + 2)
        found = summarise(part, metrics=[_METRIC]).set_index("config_id").loc[shown]
        each = [
            f"{look.name(str(row['method']))} "
            f"{interval(row[f'{_METRIC}_mean'], row[f'{_METRIC}_half_width'], 2)}"
            for row in found.to_dict("records")
        ]
        n = int(found[f"{_METRIC}_n"].min())
        scale = examples_needed(features, relevant)
        told.append(
            f"Average precision with which the {relevant} relevant of {features:,} features are found from "
            f"{examples} examples (chance {relevant / features:.2g}; k log(p/k) = {scale:.0f} examples): "
            f"{', '.join(each)} (n = {n} seeds)."
        )
    compared = paired(table, _METRIC, references)
    compared = compared[(compared["verdict"] != "reference") & compared["difference"].notna()]
    if len(compared):
        told.append(
            f"Of {counted(len(compared), 'comparison')} of this average precision with the reference, "
            f"{tally(compared['verdict'])}, after Holm's correction (n = {int(compared['n'].min())} pairs)."
        )
    return told
