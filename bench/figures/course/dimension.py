"""Draw and tell which dimension an adaptive subspace comes to, beside a sweep of fixed dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis
from bench.figures.parts.bands import over_seeds
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval, log_ticks
from bench.figures.parts.configurations import dashes, whose
from bench.figures.parts.varied import setting_name, varied_columns
from bench.figures.parts.verdicts import by_how_much, said
from bench.results.words import counted
from bench.statistics.seeds import paired, summarise

_KIND, _SPARSITY = "config.method.dimension", "config.method.sparsity"
_FREE_ENERGY, _SLOTS = "free_energy", "slots"
_MEAN = f"{_FREE_ENERGY}_mean"
#: Settings in which a fixed and an adaptive dimension may differ, and still belong to one sweep.
_OF_DIMENSION = {_SPARSITY, _KIND, *(f"config.method.{name}" for name in ("density_min", "density_max"))}
#: Panels: slots over training, and the free energy by slots.
_DOMAINS = ((0.0, 0.45), (0.58, 1.0))


@dataclass(frozen=True)
class Sweep:
    """Configurations that differ in their dimension only.

    Parameters
    ----------
    name
        Settings in which sweeps differ, with their values, for readers; empty if there is one sweep.
    values
        These values alone.
    adaptive
        ``config_id`` of the adaptive dimension.
    fixed
        ``config_id`` of the fixed ones, the most slots first.
    """

    name: str
    values: str
    adaptive: str
    fixed: list[str]


def sweeps(runs: pd.DataFrame) -> list[Sweep]:
    """Return each adaptive configuration of ``runs`` with the fixed ones that differ from it in nothing else.

    Raises
    ------
    Missing
        No finished run has an adaptive dimension.
    """
    table = runs[runs["status"] == "done"].drop_duplicates("config_id")
    if _KIND not in table or not (table[_KIND] == "adaptive").any():
        raise Missing(
            "No finished run here chooses its dimension; those of this suite do: "
            "python -m bench.grid --suite adaptive"
        )
    settings = [column for column in varied_columns(table) if column not in _OF_DIMENSION]
    found = []
    for row in table[table[_KIND] == "adaptive"].to_dict("records"):
        same = table[(table[_KIND] == "fixed") & (table["method"] == row["method"])]
        for column in settings:
            # a price has no meaning where the dimension is fixed
            if column != "config.method.slot_price":
                same = same[same[column].astype(str) == str(row[column])]
        values = [f"{v:g}" if isinstance(v := row[column], int | float) else str(v) for column in settings]
        told = [setting_name(column.removeprefix("config.")) for column in settings]
        name = ", ".join(f"{setting} {value}" for setting, value in zip(told, values, strict=True))
        fixed = same.sort_values("density", ascending=False)["config_id"].astype(str).tolist()
        found.append(Sweep(name, ", ".join(values), str(row["config_id"]), fixed))
    return found


def slots_over_training(layers: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the active weights of each run after each update that was recorded.

    Returns
    -------
    pandas.DataFrame
        Columns ``run_id``, ``config_id``, ``step``, ``share`` (of the last update's step) and ``slots``, over
        all sparse layers together.
    """
    ids = runs.drop_duplicates("run_id").set_index("run_id")["config_id"].astype(str)
    mine = layers[layers["run_id"].isin(ids.index)]
    found = mine.groupby(["run_id", "step"], observed=True, sort=False)[_SLOTS].sum().reset_index()
    share = found["step"] / found.groupby("run_id", observed=True)["step"].transform("max")
    return found.assign(config_id=found["run_id"].map(ids).astype(str), share=share)


def at_the_end(moves: pd.DataFrame, history: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return finished runs with their active weights after the last of ``moves`` and their last free energy.

    ``moves`` is from ``slots_over_training``. The free energy is the mean training loss of the last epoch, in
    nats per example.
    """
    done = runs[runs["status"] == "done"]
    slots = moves.sort_values("step").drop_duplicates("run_id", keep="last")
    losses = history[(history["metric"].astype(str) == "loss") & (history["split"].astype(str) == "train")]
    losses = losses.sort_values("step").drop_duplicates("run_id", keep="last")
    ends = {_SLOTS: dict(zip(slots["run_id"], slots[_SLOTS], strict=True))}
    ends[_FREE_ENERGY] = dict(zip(losses["run_id"], losses["value"], strict=True))
    return done.assign(**{name: done["run_id"].map(of).astype("float64") for name, of in ends.items()})


def dimension(
    layers: pd.DataFrame, history: pd.DataFrame, runs: pd.DataFrame, look: Look | None = None
) -> Chart:
    """Draw the active weights of adaptive subspaces over training, and the free energy by active weights.

    Parameters
    ----------
    layers, history, runs
        The tables of these names, of one data set and network.
    look
        Colours and markers.

    Raises
    ------
    Missing
        No finished run has an adaptive dimension, or its updates were not recorded.
    """
    look, groups = look or Look.of(runs), sweeps(runs)
    moves = slots_over_training(layers, runs)
    ends = at_the_end(moves, history, runs)
    found = summarise(ends, metrics=[_SLOTS, _FREE_ENERGY]).set_index("config_id")
    found = found.dropna(subset=[f"{_SLOTS}_mean", _MEAN])
    groups = [group for group in groups if group.adaptive in found.index]
    if not groups:
        raise Missing("No update of an adaptive dimension was recorded here.")
    methods = [str(found.loc[group.adaptive, "method"]) for group in groups]
    lines = dashes([group.adaptive for group in groups], methods, look)
    figure, parts = look.figure(), []
    for group, method in zip(groups, methods, strict=True):
        name, colour, dash = group.name or "adaptive", look.colour(method), lines[group.adaptive]
        path = over_seeds(moves[moves["config_id"] == group.adaptive], ["share"], [_SLOTS])
        path = path.sort_values("share")
        figure.add_trace(
            go.Scatter(
                x=path["share"].tolist(), y=path[f"{_SLOTS}_mean"].round(2).tolist(), mode="lines",
                name=escaped(name), legendgroup=name, meta=whose(found.loc[[group.adaptive]].reset_index()),
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate=(
                    f"<b>{escaped(name)}</b><br>%{{y:.0f}} active weights at %{{x:.0%}} of the updates"
                    "<extra></extra>"
                ),
            )
        )  # fmt: skip
        for ids, kind in ((group.fixed, "fixed"), ([group.adaptive], "adaptive")):
            mine = found.loc[[config_id for config_id in ids if config_id in found.index]]
            halves = mine[f"{_FREE_ENERGY}_half_width"].fillna(0)
            figure.add_trace(
                go.Scatter(
                    x=mine[f"{_SLOTS}_mean"].tolist(), y=mine[_MEAN].round(5).tolist(),
                    mode="lines+markers" if kind == "fixed" else "markers+text",
                    text=[escaped(group.values)] * len(mine), textposition="middle left",
                    cliponaxis=False,
                    name=f"{kind}, {escaped(name)}", legendgroup=name, showlegend=False,
                    line={"color": colour, "dash": dash, "width": 1},
                    marker={"symbol": "star" if kind == "adaptive" else look.marker(method), "color": colour,
                            "size": 14 if kind == "adaptive" else 8},
                    error_y={"type": "data", "array": halves.round(5).tolist(), "thickness": 1, "width": 3},
                    xaxis="x2", yaxis="y2", meta=whose(mine.reset_index()),
                    hovertemplate=(
                        f"<b>{kind}, {escaped(name)}</b><br>%{{x:.0f}} active weights<br>free energy "
                        "%{y:.3f} nats<extra></extra>"
                    ),
                )
            )  # fmt: skip
            parts.append(mine.assign(dimension=kind, sweep=group.name).reset_index())
    data = pd.concat(parts, ignore_index=True)
    _axes(figure, data[f"{_SLOTS}_mean"], moves[moves["config_id"].isin([g.adaptive for g in groups])])
    return Chart(
        title="Which dimension does training choose, and is it the best one?",
        figure=figure,
        data=data,
        how=(
            "Left: active weights of all sparse layers together, from the first update to the last, mean "
            "over seeds; fixed dimensions would be horizontal lines. Right: the free energy per example by "
            "the active weights after the last update. It is the training loss with its KL term, averaged "
            "over the last epoch. A star is the adaptive dimension, the line beside it the fixed ones; with "
            "95 % t-intervals over seeds. What has lines of one dash differs in the dimension only."
        ),
        alt=" ".join(_told(ends, groups)),
    )


def chosen(layers: pd.DataFrame, history: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """Tell the dimension that training chose, and its free energy beside that of the best fixed dimension.

    Parameters
    ----------
    layers, history, runs
        The tables of these names, of one data set and network.

    Raises
    ------
    Missing
        No finished run has an adaptive dimension.
    """
    groups = sweeps(runs)
    return list(_told(at_the_end(slots_over_training(layers, runs), history, runs), groups))


def _told(ends: pd.DataFrame, groups: list[Sweep]) -> Iterator[str]:
    table = summarise(ends, metrics=[_SLOTS, _FREE_ENERGY]).dropna(subset=[_MEAN])
    found = {str(row["config_id"]): row for row in table.to_dict("records")}
    groups = [group for group in groups if group.adaptive in found]
    best = {}  # it is chosen by the values that it is compared by, which favours it
    for group in groups:
        if fixed := [config_id for config_id in group.fixed if config_id in found]:
            best[group.adaptive] = min(fixed, key=lambda config_id: float(found[config_id][_MEAN]))
    compared = paired(ends, _FREE_ENERGY, best).to_dict("records") if best else []
    pairs = {str(row["config_id"]): row for row in compared}
    axis = Axis(_FREE_ENERGY, "free energy", digits=3, unit="nats")
    for group in groups:
        mine, where = found[group.adaptive], f"{group.name}: " if group.name else ""
        told = (
            f"{where}{interval(mine[f'{_SLOTS}_mean'], mine[f'{_SLOTS}_half_width'], 0)} weights are active "
            f"at the end where the dimension is adaptive (n = {mine[f'{_SLOTS}_n']} seeds)"
        )
        if (pair := pairs.get(group.adaptive)) is None:
            yield f"{told}."
            continue
        weights, count = found[best[group.adaptive]][f"{_SLOTS}_mean"], len(group.fixed)
        yield (
            f"{told}. Its free energy less that of the best of {counted(count, 'fixed dimension')}, "
            f"{weights:.0f} weights, is {by_how_much(pair, axis)} (n = {pair['n']} pairs): "
            f"{said(pair, axis)}."
        )


def _axes(figure: go.Figure, slots: pd.Series, moves: pd.DataFrame) -> None:
    """Arrange the panels."""
    style = figure.layout.xaxis.to_plotly_json()
    font = style["title"]["font"]
    both = pd.concat([slots, moves[_SLOTS].astype("float64")])
    low, high = 0.7 * float(both.min()), 1.3 * float(both.max())
    active = {"type": "log", "range": [math.log10(low), math.log10(high)], **log_ticks(low, high)}
    titles = ("share of the updates", "active weights", "active weights", "free energy at the end (nats)")
    shape = [
        {"domain": list(_DOMAINS[0]), "tickformat": ".0%"},
        active,
        {**active, "domain": list(_DOMAINS[1])},
        {"anchor": "x2"},
    ]
    for name, title, own in zip(("xaxis", "yaxis", "xaxis2", "yaxis2"), titles, shape, strict=True):
        figure.update_layout({name: style | own | {"title": {"text": title, "font": font}}})
