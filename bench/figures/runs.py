"""Draw training curves of single runs or of seeds together, and list the settings of runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.bands import FEWEST, over_seeds
from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval, log_ticks, translucent
from bench.figures.parts.configurations import dashes, short_names, whose
from bench.results.tables.columns import definitions
from bench.results.words import counted
from bench.statistics.splits import overlap

#: Greatest number of lines that readers can tell apart.
MOST_RUNS = 5
#: The axis is logarithmic if the largest value is more than this many times the smallest.
_LOG_FROM = 50.0
#: What curves are drawn against; the shares of runs of different lengths can be compared.
AGAINST = {"share": "share of training", "epoch": "epochs"}
_AT = {"share": "%{x:.0%} of training", "epoch": "epoch %{x}"}
_COUNTED = {
    "share": "Shares are those of the epochs of all stages. ",
    "epoch": "Epochs are counted through all stages. ",
}
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def recorded(history: pd.DataFrame) -> dict[str, str]:
    """Return the recorded curves, ``metric split``, with names for readers, in the order of definitions."""
    pairs = history[["metric", "split"]].astype(str).drop_duplicates()
    known = list(definitions()["history.metric"])
    found = sorted(
        zip(pairs["metric"], pairs["split"], strict=True),
        key=lambda pair: (known.index(pair[0]) if pair[0] in known else len(known), pair),
    )
    return {f"{metric} {split}": f"{metric} ({split})" for metric, split in found}


def run_curves(
    history: pd.DataFrame, runs: pd.DataFrame, what: str, look: Look | None = None, against: str = "epoch"
) -> Chart:
    """Draw one line per run, also for runs that failed or are not finished.

    Parameters
    ----------
    history, runs
        Rows of these tables for at most ``MOST_RUNS`` runs.
    what
        A key of ``recorded``.
    look
        Colours and markers.
    against
        A key of ``AGAINST``.

    Raises
    ------
    Missing
        There are too many runs, or none has recorded this curve.
    """
    look = look or Look.of(runs)
    if len(runs) > MOST_RUNS:
        raise Missing(f"Curves of {len(runs)} runs can't be told apart; choose at most {MOST_RUNS}.")
    rows = _rows(history, runs, what, against)
    figure = _figure(rows["value"], what, look, against)
    for number, run in enumerate(runs.itertuples(index=False)):
        mine = rows[rows["run_id"] == run.run_id]
        if mine.empty:
            continue
        colour, method = look.colour(str(run.method)), str(run.method)
        name = f"{look.configuration(run.config_label)}, seed {run.seed}"
        figure.add_trace(
            go.Scatter(
                x=mine["at"].tolist(), y=mine["value"].tolist(), mode="lines+markers", name=escaped(name),
                line={"color": colour, "dash": _DASHES[number], "width": 2},
                marker={"symbol": look.marker(method), "size": 7, "color": colour, "maxdisplayed": 8},
                meta=whose(mine), customdata=[[escaped(stage)] for stage in mine["stage"]],
                hovertemplate=(
                    f"<b>{escaped(name)}</b><br>{_name(what)} %{{y:.5~g}}<br>{_AT[against]}, stage "
                    f"%{{customdata[0]}}<br>run {run.run_id}<extra></extra>"
                ),
            )
        )  # fmt: skip
    last = rows.groupby("run_id", sort=False)["value"].last()
    ends = ", ".join(f"{value:.4g}" for value in last)
    return Chart(
        title=f"How did {_name(what)} go?",
        figure=figure,
        data=rows[["run_id", "config_label", "seed", "stage", "epoch", "at", "value"]],
        how=(
            "A line is a run: what it recorded at the end of each epoch, without averages or smoothing. "
            f"{_COUNTED[against]}{_defined(what)}"
        ),
        alt=f"{_name(what)} by {AGAINST[against]} of {counted(len(last), 'run')}; at the end {ends}.",
    )


def seed_curves(
    history: pd.DataFrame,
    runs: pd.DataFrame,
    what: str,
    look: Look | None = None,
    single_seeds: bool = False,
    against: str = "epoch",
) -> Chart:
    """Draw means over the finished seeds of each configuration, with bands.

    Parameters
    ----------
    history, runs
        Rows of these tables for few configurations.
    what
        A key of ``recorded``.
    look
        Colours and markers.
    single_seeds
        Whether to draw a thin line for each run.
    against
        A key of ``AGAINST``.

    Raises
    ------
    Missing
        No finished run has recorded this curve.
    """
    look = look or Look.of(runs)
    done = runs[runs["status"] == "done"]
    rows = _rows(history, done, what, against)
    table = over_seeds(rows, ["config_id", "at"], ["value"]).sort_values(["config_id", "at"], kind="stable")
    known = done.drop_duplicates("config_id")
    known = known[known["config_id"].isin(rows["config_id"])]
    ids = known["config_id"].astype(str).tolist()
    methods = known["method"].astype(str).tolist()
    names, styles = short_names(known, look), dashes(ids, methods, look)
    figure = _figure(rows["value"], what, look, against)
    for config_id, method in zip(ids, methods, strict=True):
        mine, colour = table[table["config_id"] == config_id], look.colour(method)
        if single_seeds:
            _add_seeds(figure, rows[rows["config_id"] == config_id], colour)
        owner = whose(known[known["config_id"] == config_id])
        _add_band(figure, mine[mine["value_n"] >= FEWEST], colour, owner)
        texts = [
            interval(mean, half, 4)
            for mean, half in zip(mine["value_mean"], mine["value_half_width"], strict=True)
        ]
        figure.add_trace(
            go.Scatter(
                x=mine["at"].tolist(), y=mine["value_mean"].tolist(), mode="lines+markers",
                name=names[config_id], legendgroup=config_id,
                line={"color": colour, "dash": styles[config_id], "width": 3 if method == "ssvi" else 2},
                marker={"symbol": look.marker(method), "size": 7, "color": colour, "maxdisplayed": 8},
                meta=owner,
                customdata=[[text, int(n)] for text, n in zip(texts, mine["value_n"], strict=True)],
                hovertemplate=(
                    f"<b>{names[config_id]}</b><br>{_name(what)} %{{customdata[0]}}<br>{_AT[against]}"
                    "<br>n = %{customdata[1]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    table = table.merge(known[["config_id", "config_label", "method"]], on="config_id", how="left")
    return Chart(
        title=f"How did {_name(what)} go?",
        figure=figure,
        data=table.rename(columns={"at": against}),
        how=(
            "A line is a configuration: the mean over its finished seeds at each epoch; the band is the 95 % "
            f"t-interval over seeds, drawn from {FEWEST} seeds on; n in the tooltip. {_COUNTED[against]}"
            f"{_uncorrected(done)}{_defined(what)}"
        ),
        alt=f"{_name(what)} by {AGAINST[against]}: means over seeds of {counted(len(ids), 'configuration')}.",
    )


def _uncorrected(runs: pd.DataFrame) -> str:
    """Say that bands are too narrow for statements about new examples, where seeds draw their own parts."""
    if not overlap(runs).any():
        return ""
    return (
        "Each seed draws its own parts of the data, and these overlap; the band is not corrected for it, "
        "since it describes how training went. "
    )


def _rows(history: pd.DataFrame, runs: pd.DataFrame, what: str, against: str) -> pd.DataFrame:
    """Return the rows of ``what`` with columns of their runs and ``at``, where they are drawn.

    That is the epoch counted over stages, or its share of all epochs of the run.
    """
    metric, _, split = what.partition(" ")
    mine = history[history["run_id"].isin(runs["run_id"])].astype({"run_id": str, "stage": str})
    found = mine.assign(at=mine["epoch"].astype(float) + _before(mine))
    found = found[(found["metric"] == metric) & (found["split"] == split)].dropna(subset="value")
    if found.empty:
        raise Missing(
            f"None of these runs has recorded {_name(what)}. Choose others, or another curve; python -m "
            "bench.collect reads unfinished runs again."
        )
    known = runs.drop_duplicates("run_id")[["run_id", "config_id", "config_label", "method", "seed"]]
    if against == "share":
        found = found.assign(at=found["at"] / found["run_id"].map(_lengths(found, runs)))
        found = found[found["at"].notna()]
        if found.empty:
            raise Missing("It is not known yet how many epochs these runs have; draw them against epochs.")
    joined = found.merge(known.astype({"run_id": str}), on="run_id", how="left")
    return joined.drop_duplicates(["run_id", "at"], keep="last")


def _lengths(found: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """Return the epochs of each run over all stages; those of a run that has not ended are another seed's."""
    known = runs.drop_duplicates("run_id").assign(run_id=lambda rows: rows["run_id"].astype(str))
    known = known.set_index("run_id")
    longest = found.groupby("run_id")["at"].max().reindex(known.index)
    made = known["epochs_total"].astype("float64").fillna(longest).where(known["status"] == "done")
    return made.fillna(made.groupby(known["config_id"].astype(str)).transform("max"))


def _before(history: pd.DataFrame) -> pd.Series:
    """Return for each row the epochs of all earlier stages; rows are in the order of training."""
    longest = history.groupby(["run_id", "stage"], sort=False, observed=True)["epoch"].max().astype(float)
    before = longest.groupby("run_id", sort=False).cumsum() - longest
    keys = pd.MultiIndex.from_frame(history[["run_id", "stage"]])
    return pd.Series(before.reindex(keys).to_numpy(), index=history.index)


def _figure(values: pd.Series, what: str, look: Look, against: str) -> go.Figure:
    figure = look.figure(height=460)
    low, high = float(values.min()), float(values.max())
    if against == "share":
        figure.update_xaxes(title_text="share of training", range=[0, 1.02], tickformat=".0%")
    else:
        figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(title_text=_title(what))
    if low > 0 and high / low > _LOG_FROM:
        figure.update_yaxes(type="log", **log_ticks(low / 1.2, high * 1.2))
    return figure


def _add_band(figure: go.Figure, rows: pd.DataFrame, colour: str, owner: dict[str, Any]) -> None:
    x = rows["at"].tolist()
    low, high = rows["value_mean"] - rows["value_half_width"], rows["value_mean"] + rows["value_half_width"]
    if not x:
        return
    figure.add_trace(
        go.Scatter(
            x=[*x, *x[::-1]], y=[*low, *high[::-1]], mode="lines", fill="toself", meta=owner,
            legendgroup=owner["config_id"], fillcolor=translucent(colour), line={"width": 0},
            hoverinfo="skip", showlegend=False,
        )
    )  # fmt: skip


def _add_seeds(figure: go.Figure, rows: pd.DataFrame, colour: str) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    for _, mine in rows.groupby("run_id", sort=False):
        x += [*mine["at"], None]
        y += [*mine["value"], None]
    figure.add_trace(
        go.Scatter(
            x=x, y=y, mode="lines", line={"color": translucent(colour, 0.5), "width": 1},
            hoverinfo="skip", showlegend=False, name="single seeds", meta=whose(rows),
        )
    )  # fmt: skip


def _known(what: str) -> dict[str, str | None]:
    """Return the definition of a curve; one that a plug-in records has none here."""
    metric = what.partition(" ")[0]
    empty: dict[str, str | None] = {"unit": None, "definition": "Defined by the method.", "better": None}
    return definitions()["history.metric"].get(metric, empty)


def _name(what: str) -> str:
    metric, _, split = what.partition(" ")
    return f"{escaped(metric)} ({escaped(split)})"


def _title(what: str) -> str:
    known = _known(what)
    unit = f", {known['unit']}" if known["unit"] else ""
    arrow = {"higher": " ↑ better", "lower": " ↓ better"}.get(known["better"] or "", "")
    return f"{_name(what)}{unit}{arrow}"


def _defined(what: str) -> str:
    return f"\n\n**{_name(what)}**: {_known(what)['definition']}"


_PREFIX = "config."


def differing(runs: pd.DataFrame) -> pd.DataFrame:
    """List the settings in which runs differ.

    Parameters
    ----------
    runs
        Two or more rows of the table ``runs``.

    Returns
    -------
    pandas.DataFrame
        One row per setting, as text: ``setting``, then a column per run id; ``–`` if a run has no value.
    """
    texts = {
        name: [_text(value) for value in runs[name]] for name in map(str, runs) if name.startswith(_PREFIX)
    }
    names = [name for name, values in texts.items() if len(set(values)) > 1]
    found = {
        run_id: [texts[name][number] for name in names]
        for number, run_id in enumerate(runs["run_id"].astype(str))
    }
    return pd.DataFrame({"setting": [name.removeprefix(_PREFIX) for name in names], **found})


def settings(run: pd.Series) -> pd.DataFrame:
    """List all settings of a run as text, in the columns ``setting`` and ``value``."""
    known = {str(name): _text(value) for name, value in run.items() if str(name).startswith(_PREFIX)}
    rows = [(name.removeprefix(_PREFIX), text) for name, text in known.items() if text != "–"]
    return pd.DataFrame(rows, columns=["setting", "value"])


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # only NaN differs from itself
        return "–"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
