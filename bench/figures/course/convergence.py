"""Draw and tell how fast training converges: steps and updates to a target NLL, and the rate behind them."""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.axes import Axis
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval
from bench.figures.parts.compared import compared
from bench.figures.parts.configurations import MOST_CHOSEN, short_names, whose
from bench.figures.parts.varied import varied
from bench.results.words import counted
from bench.statistics.seeds import summarise

#: The target: the worst of the configurations' mean best validation NLL times this, so that all can reach it.
_SLACK = 1.1
_STEPS, _UPDATES, _RATE = "steps_to_target", "updates_to_target", "rate"
_ROW, _REST = 30, 150


def converged(history: pd.DataFrame, runs: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Return when each finished run reaches a validation NLL that all configurations reach, and how fast.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.

    Returns
    -------
    tuple
        The runs with columns ``steps_to_target`` (NaN if a run never reaches it), ``updates_to_target`` (NaN
        for methods without updates) and ``rate``, and the target. The rate r is that of a fit by least
        squares, on logarithmic axes, of NLL - min = c steps^-r to the epochs before the smallest NLL of a
        run; NaN below three of them.

    Raises
    ------
    Missing
        No run has a validation NLL of three epochs or more.
    """
    done = runs[runs["status"] == "done"].drop_duplicates("run_id")
    rows = history[(history["metric"].astype(str) == "nll") & (history["split"].astype(str) == "val")]
    rows = rows.assign(run_id=rows["run_id"].astype(str)).sort_values(["run_id", "step"], kind="stable")
    curves = {run_id: part for run_id, part in rows.groupby("run_id") if len(part) >= 3}
    table = done[done["run_id"].astype(str).isin(curves)]
    if table.empty:
        raise Missing("No run here recorded a validation NLL of three epochs or more.")
    ids = table["run_id"].astype(str)
    best = pd.Series({run_id: float(part["value"].min()) for run_id, part in curves.items()})
    target = _SLACK * float(ids.map(best).groupby(table["config_id"].to_numpy()).mean().max())
    steps = {run_id: _first(part, target) for run_id, part in curves.items()}
    table = table.assign(
        **{_STEPS: ids.map(steps), _RATE: ids.map({run_id: _rate(part) for run_id, part in curves.items()})}
    )
    column = "config.method.replace_every"
    every = table[column].astype("float64") if column in table else np.nan
    return table.assign(**{_UPDATES: table[_STEPS] // every}), target


def convergence(history: pd.DataFrame, runs: pd.DataFrame, look: Look | None = None) -> Chart:
    """Draw the steps that each configuration needs to a validation NLL that all reach.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.
    look
        Colours and markers.

    Raises
    ------
    Missing
        No run recorded a validation NLL.
    """
    look = look or Look.of(runs)
    table, target = converged(history, runs)
    data = summarise(table, metrics=[_STEPS, _UPDATES, _RATE])
    missed = table[_STEPS].isna().groupby(table["config_id"].astype(str)).sum()
    data["missed"] = data["config_id"].astype(str).map(missed)
    data = data.dropna(subset=[f"{_STEPS}_mean"]).sort_values(f"{_STEPS}_mean", kind="stable")
    if data.empty:
        raise Missing(f"No run here reached a validation NLL of {target:.3f} nats.")
    names = short_names(data, look)
    figure = look.figure(height=_ROW * len(data) + _REST, legend=False)
    for row in data.to_dict("records"):
        method, half = str(row["method"]), row[f"{_STEPS}_half_width"]
        figure.add_trace(
            go.Scatter(
                x=[round(row[f"{_STEPS}_mean"], 2)], y=[names[row["config_id"]]], mode="markers",
                meta=whose(pd.DataFrame([row])),
                error_x={"type": "data", "array": [0 if half != half else round(half, 2)]},
                marker={"symbol": look.marker(method), "size": 9, "color": look.colour(method)},
                hovertemplate=(
                    f"<b>{escaped(look.configuration(row['config_label']))}</b><br>%{{x:.0f}} steps, rate "
                    f"{interval(row[f'{_RATE}_mean'], row[f'{_RATE}_half_width'], 2)}<extra></extra>"
                ),
            )
        )  # fmt: skip
    figure.update_xaxes(
        title_text=f"steps to a validation NLL of {target:.3f} nats",
        autorangeoptions={"include": 0, "minallowed": 0},
    )
    figure.update_yaxes(autorange="reversed")
    return Chart(
        title="How many steps does each configuration need?",
        figure=figure,
        data=data,
        how=(
            f"Steps at the end of the first epoch whose validation NLL is at most {target:.3f} nats: "
            f"{_SLACK:g} times the mean best NLL of the configuration for which that is worst, so that all "
            "can reach it. Mean over the runs that reach it, with the 95 % t-interval; the data have how "
            "many runs missed it, and the updates until then. The rate in the tooltip is r of a fit "
            "NLL - min = c steps^-r to the epochs before the smallest NLL of a run, on logarithmic axes. "
            "Validation NLL is that of the mean network."
        ),
        alt=(
            f"{names[data['config_id'].iloc[0]]} needs fewest steps to a validation NLL of {target:.3f} "
            f"nats, {data[f'{_STEPS}_mean'].iloc[0]:.0f}; {names[data['config_id'].iloc[-1]]} most, "
            f"{data[f'{_STEPS}_mean'].iloc[-1]:.0f}."
        ),
    )


def pace(history: pd.DataFrame, runs: pd.DataFrame, references: Mapping[str, str], look: Look) -> list[str]:
    """Tell how many steps references need to the target, and how that compares; for suites on updates only.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.
    references
        ``config_id`` to the ``config_id`` of its reference.
    look
        Names of methods.

    Raises
    ------
    Missing
        No run recorded a validation NLL.
    """
    if not any(line.setting.startswith("method.replace_") for line in varied(runs)):
        return []
    table, target = converged(history, runs)
    found = summarise(table, metrics=[_STEPS, _UPDATES, _RATE]).set_index("config_id")
    every = [mine for mine in dict.fromkeys(references.values()) if mine in found.index]
    names = short_names(found.loc[every].reset_index(), look)
    told = []
    for row in found.loc[every[:MOST_CHOSEN]].reset_index().to_dict("records"):
        config_id = row["config_id"]
        updates = row[f"{_UPDATES}_mean"]
        name = f"{html.unescape(names[config_id])} needs " if len(every) > 1 else ""
        told.append(
            f"{name}{interval(row[f'{_STEPS}_mean'], row[f'{_STEPS}_half_width'], 0)} steps"
            + (f" ({updates:.0f} updates)" if updates == updates else "")
            + f" at a rate of {interval(row[f'{_RATE}_mean'], row[f'{_RATE}_half_width'], 2)}"
        )
    if not told:
        return []
    head = (
        f"To a validation NLL of {target:.3f} nats, the reference needs "
        if len(every) == 1
        else (f"To a validation NLL of {target:.3f} nats: ")
    )
    missed = int(table[_STEPS].isna().sum())
    tail = f"; {counted(missed, 'run')} never reached it" if missed else ""
    axis = Axis(_STEPS, "these steps", digits=0, unit="steps")
    return [f"{head}{'; '.join(told)}{tail}.", *compared(table, references, axis, look, brief=True)]


def _first(curve: pd.DataFrame, target: float) -> float:
    reached = curve.loc[curve["value"] <= target, "step"]
    return float(reached.iloc[0]) if len(reached) else np.nan


def _rate(curve: pd.DataFrame) -> float:
    """Return the exponent of the fit; NaN with fewer than three epochs before the smallest value."""
    values, steps = curve["value"].to_numpy(float), curve["step"].to_numpy(float)
    best = int(np.nanargmin(values))
    above = values[:best] - values[best]
    if best < 3 or not (above > 0).all():
        return np.nan
    slope = np.polyfit(np.log(steps[:best]), np.log(above), 1)[0]
    return -float(slope)
