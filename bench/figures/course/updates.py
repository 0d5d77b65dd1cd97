"""Draw and tell how much updates of the subspace raise the free energy, the weights staying as they are."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from bench.figures.parts.chart import Chart, Look, Missing, escaped, interval, signed
from bench.figures.parts.configurations import MOST_CHOSEN, chosen_runs, dashes_of, short_names, whose
from bench.figures.parts.curves import along
from bench.results.words import counted
from bench.statistics.seeds import summarise

_BEFORE, _AFTER, _RISE = "free_energy_before", "free_energy_after", "rise"


def rises(history: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return by how much measured updates raised the free energy.

    Parameters
    ----------
    history, runs
        The tables of these names.

    Returns
    -------
    pandas.DataFrame
        One row for each finished run and measured update: ``run_id``, ``config_id``, ``step``, ``share`` (of
        the steps of training) and ``rise`` (after the update minus before, in nats per example).

    Raises
    ------
    Missing
        No finished run measured it.
    """
    done = runs[runs["status"] == "done"].drop_duplicates("run_id")
    rows = history[history["run_id"].isin(done["run_id"])].astype({"run_id": str, "metric": str})
    steps = rows.groupby("run_id")["step"].max()
    wide = rows[rows["metric"].isin([_BEFORE, _AFTER])]
    if wide.empty:
        raise Missing(
            "No finished run here measured the free energy at its updates; runs of this version do: "
            "python -m bench.grid --suite hyperparameters"
        )
    wide = wide.pivot_table(index=["run_id", "step"], columns="metric", values="value").reset_index()
    ids = dict(zip(done["run_id"].astype(str), done["config_id"].astype(str), strict=True))
    return pd.DataFrame(
        {
            "run_id": wide["run_id"],
            "config_id": wide["run_id"].map(ids),
            "step": wide["step"].astype("int64"),
            "share": wide["step"] / wide["run_id"].map(steps.to_dict()).astype("float64"),
            _RISE: wide[_AFTER] - wide[_BEFORE],
        }
    )


def updates(
    history: pd.DataFrame, runs: pd.DataFrame, config_ids: list[str] | None = None, look: Look | None = None
) -> Chart:
    """Draw how much updates raise the free energy over training, a line per configuration.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.
    config_ids
        Configurations to draw, at most ``MOST_CHOSEN``; the first ones by default.
    look
        Colours and markers.

    Raises
    ------
    Missing
        No finished run measured it.
    """
    look, table = look or Look.of(runs), rises(history, runs)
    known = set(table["config_id"])
    order = list(dict.fromkeys(runs["config_id"].astype(str))) if config_ids is None else config_ids
    shown = [config_id for config_id in order if config_id in known][:MOST_CHOSEN]
    if not shown:
        raise Missing("None of these configurations measured the free energy at its updates.")
    mine = chosen_runs(runs[runs["status"] == "done"], shown)
    found = along(mine, table.assign(share=table["share"].round(3)), "share", _RISE)
    names, lines = short_names(found, look), dashes_of(found, look)
    figure = look.figure()
    for config_id in found["config_id"].drop_duplicates():
        part = found[found["config_id"] == config_id]
        method = str(part["method"].iloc[0])
        told = escaped(look.configuration(part["config_label"].iloc[0]))
        figure.add_trace(
            go.Scatter(
                x=part["x"].tolist(), y=part["mean"].round(6).tolist(), mode="lines+markers",
                meta=whose(part),
                name=names[str(config_id)],
                line={"color": look.colour(method), "dash": lines[str(config_id)]},
                marker={"symbol": look.marker(method), "size": 8, "color": look.colour(method)},
                error_y={"type": "data", "array": part["half_width"].fillna(0).round(6).tolist()},
                customdata=[
                    [interval(mean, half, 4), int(n)]
                    for mean, half, n in zip(part["mean"], part["half_width"], part["n"], strict=True)
                ],
                hovertemplate=(
                    f"<b>{told}</b><br>%{{x:.0%}} of the steps<br>%{{customdata[0]}} nats, "
                    "n = %{customdata[1]}<extra></extra>"
                ),
            )
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": look.soft, "dash": "dot"})
    figure.update_xaxes(title_text="share of the steps of training", tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(title_text="rise of the free energy at an update (nats)")
    return Chart(
        title="What does an update do to the free energy?",
        figure=figure,
        data=found,
        how=(
            "The loss of the update's minibatch with its KL term, per example, after the update minus before "
            "it. Weights that stay have the same values and the noise is the same, so that nothing but the "
            "exchange of slots differs. Mean and 95 % t-interval over seeds, at a few updates of each run. "
            "An update costs at first, since added weights start at 0; what it gains comes with the training "
            "after it."
        ),
        alt=" ".join(_told(table, mine, shown, look)),
    )


def cost_of_updates(
    history: pd.DataFrame, runs: pd.DataFrame, config_ids: list[str], look: Look
) -> list[str]:
    """Tell by how much the first and the last measured update raise the free energy; nothing if not known.

    Parameters
    ----------
    history, runs
        The tables of these names, of one data set and network.
    config_ids
        Configurations to tell of, at most ``MOST_CHOSEN``.
    look
        Names of methods.

    Raises
    ------
    Missing
        No finished run measured it.
    """
    return _told(rises(history, runs), runs, config_ids, look)


def _told(table: pd.DataFrame, runs: pd.DataFrame, config_ids: list[str], look: Look) -> list[str]:
    table = table.sort_values(["run_id", "step"], kind="stable")
    ends = {
        "first": table.drop_duplicates("run_id").set_index("run_id")[_RISE].to_dict(),
        "last": table.drop_duplicates("run_id", keep="last").set_index("run_id")[_RISE].to_dict(),
    }
    ids = runs["run_id"].astype(str)
    values = runs.assign(**{name: ids.map(of).astype("float64") for name, of in ends.items()})
    found = summarise(values, metrics=list(ends)).dropna(subset=["first_mean"])
    rows = {str(row["config_id"]): row for row in found.to_dict("records")}
    shown = [config_id for config_id in config_ids if config_id in rows][:MOST_CHOSEN]
    if not shown:
        return []
    names = short_names(pd.DataFrame([rows[config_id] for config_id in shown]), look)
    told = []
    for config_id in shown:
        row = rows[config_id]
        at = [f"{signed(row[f'{end}_mean'], row[f'{end}_half_width'], 4)} at the {end}" for end in ends]
        told.append((f"{names[config_id]} " if len(shown) > 1 else "") + ", ".join(at))
    n = min(int(rows[config_id]["first_n"]) for config_id in shown)
    return [
        f"An update raises the free energy of its minibatch by (nats, {counted(n, 'seed')} or more): "
        f"{'; '.join(told)} measured update. Training after it has to earn that."
    ]
