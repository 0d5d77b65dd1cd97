"""Draw what becomes of scores as test inputs are shifted more and more."""

from __future__ import annotations

from collections.abc import Container, Sequence

import pandas as pd

from bench.figures.parts.axes import Axis
from bench.figures.parts.bands import FEWEST
from bench.figures.parts.chart import Chart, Look, Missing, escaped
from bench.figures.parts.configurations import chosen_runs, dashes_of, ranked, short_names
from bench.figures.parts.curves import add_curves, along
from bench.figures.parts.dots import MOST_ROWS, Marks, described, dot_plot, rest
from bench.figures.parts.last_stage import finished, last_rows, scored, where
from bench.figures.uncertainty import UNCERTAINTIES
from bench.results.words import counted
from bench.statistics.corruption import corruption_errors
from bench.statistics.seeds import summarise

_METRICS = "metrics.metric"
#: Measures that are drawn against the strength of a shift.
SHIFTED = {
    "accuracy": Axis("accuracy", "accuracy", 100, 2, unit="%", table=_METRICS),
    "nll": Axis("nll", "NLL", digits=3, unit="nats", table=_METRICS),
    "ece": Axis("ece", "ECE", 100, 2, unit="%", table=_METRICS),
    "brier": Axis("brier", "Brier score", digits=3, table=_METRICS),
    **UNCERTAINTIES,
}
#: In place of the name of a shift: the mean over all of them.
EVERY_SHIFT = "all shifts"
#: The method whose errors others are measured by.
DETERMINISTIC = "deterministic"
_SEVERITY = Axis("severity", "severity", 1, 0, table="metrics")
_ERROR = Axis("accuracy", "mean corruption error", digits=2, unit="of the deterministic network")


def shifts(metrics: pd.DataFrame) -> list[str]:
    """Return the sorted names of the shifts in ``metrics``."""
    return sorted(str(shift) for shift in metrics["shift"].dropna().unique())


def severity(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    score: str,
    shift: str,
    config_ids: Sequence[str],
    predictor: str,
    look: Look | None = None,
) -> Chart:
    """Draw a score on the test part against the severity of a shift, one line per configuration.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    score
        A key of ``SHIFTED``.
    shift
        Name of a shift, or ``EVERY_SHIFT``; severity 0 is the test part itself.
    config_ids
        The configurations.
    predictor
        The predictor.
    look
        Colours and dashes.

    Raises
    ------
    Missing
        No configuration was evaluated under ``shift``.
    """
    look = look or Look.of(runs)
    axis = SHIFTED[score]
    chosen = chosen_runs(runs, config_ids)
    rows = _shifted(chosen, metrics, score, predictor)
    rows = rows if shift == EVERY_SHIFT else rows[rows["shift"] == shift]
    if rows.empty:
        raise Missing(f"None of the chosen configurations was evaluated under {shift}.")
    rows, number = _under_all(rows)
    means = rows.groupby(["run_id", "severity"])["value"].mean().reset_index()
    clean = scored(chosen, metrics[metrics["metric"] == score], [score], predictor, "test")
    clean = clean[["run_id", score]].rename(columns={score: "value"}).assign(severity=0.0)
    found = along(chosen, pd.concat([clean.dropna(), means]), "severity", "value")
    figure = look.figure(height=420)
    add_curves(figure, found, _SEVERITY, axis, short_names(found, look), dashes_of(found, look), look)
    figure.update_xaxes(title_text=f"severity of {escaped(shift)} (0: none)", dtick=1)
    figure.update_yaxes(title_text=axis.title)
    averaged = f" Averaged over {counted(number, 'shift')} first." if shift == EVERY_SHIFT else ""
    return Chart(
        title=f"What happens to {axis.name} as the data shift?",
        figure=figure,
        data=found.rename(columns={"x": "severity"}),
        how=(
            f"{where(predictor, 'test')}{averaged} Mean over seeds at each severity, with bands of the 95 % "
            f"t-interval over seeds (none below {FEWEST} seeds), cut to possible values, n in the "
            f"tooltip.\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"{axis.name} against severity 0 to {found['x'].max():g} of {shift}, "
            f"{found['config_id'].nunique()} configurations."
        ),
    )


def corruption_error(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    predictor: str,
    look: Look | None = None,
    singles: bool = False,
    only: Container[str] | None = None,
) -> Chart:
    """Draw the mean corruption error relative to the deterministic network, best configuration first.

    Parameters
    ----------
    runs, metrics
        The tables of these names. The deterministic network of the same data set and network is among the
        runs; if there are several, it is the one with the most seeds.
    predictor
        The predictor.
    look
        Colours and markers.
    singles
        Whether to draw a small dot for each run.
    only
        ``config_id`` of the configurations to draw; None for all.

    Raises
    ------
    Missing
        No run was evaluated on shifted inputs, or no deterministic network.
    """
    look = look or Look.of(runs)
    table = relative_errors(runs, metrics, predictor)
    if only is not None:
        table = table[[config_id in only for config_id in table["config_id"]]]
    found = summarise(table, metrics=["error"]).dropna(subset="error_mean")
    if found.empty:
        raise Missing(
            f"No run here has a mean corruption error of predictor {predictor}: it is relative to the "
            f"method {DETERMINISTIC} on the same data, under the same shifts."
        )
    found = found.sort_values("error_mean", kind="stable").reset_index(drop=True)
    shown, best = found.head(MOST_ROWS), found.iloc[0]
    marks, names = [Marks("error", _ERROR.name)], short_names(shown, look)
    figure = dot_plot(shown, marks, _ERROR, names, look, table if singles else None)
    figure.update_xaxes(title_text=f"{_ERROR.name} ({_ERROR.unit}) ← better")
    return Chart(
        title="Who makes fewer errors on shifted inputs?",
        figure=figure,
        data=found[described(["error"])],
        how=(
            f"{where(predictor, 'test')} The errors of all severities under a shift are divided by "
            "those of the deterministic network (mean over its seeds), and averaged over shifts (Hendrycks "
            "and Dietterich 2019, who divide by AlexNet): 1 is as many errors as the deterministic "
            f"network makes. Means over seeds with the 95 % t-interval over seeds, n in the tooltip."
            f"{rest(found)}"
        ),
        alt=(
            f"Mean corruption error of {counted(len(found), 'configuration')}; the lowest mean is "
            f"{best['error_mean']:.2f} by {look.configuration(best['config_label'])}."
        ),
    )


def relative_errors(runs: pd.DataFrame, metrics: pd.DataFrame, predictor: str) -> pd.DataFrame:
    """Return the finished runs with the column ``error``, their mean corruption error; NaN where unknown."""
    done = finished(runs)
    rows = _shifted(done, metrics, "accuracy", predictor)
    setting = done["dataset"].astype(str) + " " + done["network"].astype(str)
    of_run = dict(zip(done["run_id"].astype(str), setting, strict=True))
    errors: dict[str, float] = {}
    for _, mine in rows.groupby(rows["run_id"].map(of_run)):
        wide = _under_all(mine)[0].assign(value=lambda table: 1 - table["value"])
        wide = wide.pivot(index="run_id", columns=["shift", "severity"], values="value").sort_index(axis=1)
        base = _deterministic(done[done["run_id"].astype(str).isin(wide.index)])
        if base and not wide.empty:
            severities = wide.columns.get_level_values("severity").nunique()
            reference = wide.loc[base].mean().to_numpy().reshape(-1, severities)
            for run_id, row in wide.iterrows():
                mine_too = row.to_numpy().reshape(-1, severities)
                errors[str(run_id)] = float(corruption_errors(mine_too, reference).mean())
    return done.assign(error=done["run_id"].astype(str).map(errors).astype("float64"))


def _deterministic(runs: pd.DataFrame) -> list[str]:
    """Return the run ids of the deterministic configuration with the most seeds, then the first by label."""
    mine = runs[runs["method"] == DETERMINISTIC].astype(
        {"config_id": str, "config_label": str, "run_id": str}
    )
    if mine.empty:
        return []
    groups = mine.groupby("config_id")
    order = pd.DataFrame({"seeds": groups.size(), "label": groups["config_label"].first()})
    order = order.sort_values(["seeds", "label"], ascending=[False, True])
    return mine.loc[mine["config_id"] == order.index[0], "run_id"].tolist()


def scaled_under_shift(
    runs: pd.DataFrame, metrics: pd.DataFrame, predictor: str, look: Look | None = None, singles: bool = False
) -> Chart:
    """Draw ECE under shift with and without the temperature of clean validation data, the least with first.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    predictor
        The predictor without temperature scaling.
    look
        Colours, markers and the order of methods.
    singles
        Whether to draw a small dot for each run.

    Raises
    ------
    Missing
        No run was evaluated on shifted inputs.
    """
    look = look or Look.of(runs)
    axis, scaled = SHIFTED["ece"], f"{predictor}+temperature"
    done = finished(runs)
    columns = {"raw": _over_shifts(done, metrics, "ece", predictor)}
    columns["scaled"] = _over_shifts(done, metrics, "ece", scaled)
    columns["clean"] = scored(done, metrics, ["ece"], scaled, "test")["ece"]
    stems = list(columns)
    table = pd.concat([done, pd.DataFrame(columns)], axis=1)
    found = summarise(table, metrics=stems).dropna(subset=["raw_mean", "scaled_mean"])
    found = ranked(found, -found["scaled_mean"])
    if found.empty:
        raise Missing(f"No finished run here has an ECE of predictor {predictor} on shifted inputs.")
    shown = found.head(MOST_ROWS)
    marks = [
        Marks("raw", "shifted", "filled", 0.14),
        Marks("scaled", "shifted, with temperature", "open", -0.14),
        Marks("clean", "not shifted, with temperature", "tick"),
    ]
    worse = int((found["scaled_mean"] > found["clean_mean"]).sum())
    return Chart(
        title="Does a temperature fitted on clean data still calibrate shifted data?",
        figure=dot_plot(shown, marks, axis, short_names(shown, look), look, table if singles else None),
        data=found[described(stems)],
        how=(
            f"{where(predictor, 'test')} ECE averaged over all shifts and severities, then over seeds, "
            "with the 95 % t-interval over seeds, n in the tooltip. The temperature is fitted on unshifted "
            "validation data, as for the test part itself (the rule). What is left between the rule "
            f"and the hollow mark is what a temperature cannot do.{rest(found)}\n\n"
            f"**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"With temperature scaling, ECE is higher on shifted than on unshifted test inputs in {worse} of "
            f"{len(found)} configurations."
        ),
    )


def _over_shifts(runs: pd.DataFrame, metrics: pd.DataFrame, score: str, predictor: str) -> pd.Series:
    """Return the mean of a score over shifts and severities, with the index of ``runs``."""
    means = _under_all(_shifted(runs, metrics, score, predictor))[0].groupby("run_id")["value"].mean()
    return runs["run_id"].astype(str).map(means).astype("float64")


def over_shifts(runs: pd.DataFrame, metrics: pd.DataFrame, score: str, predictor: str) -> pd.DataFrame:
    """Return the finished runs with the mean of ``score`` over shifts and severities in its column."""
    done = finished(runs)
    return done.assign(**{score: _over_shifts(done, metrics, score, predictor)})


def _shifted(runs: pd.DataFrame, metrics: pd.DataFrame, score: str, predictor: str) -> pd.DataFrame:
    """Return the rows of ``score`` on shifted inputs: ``run_id``, ``shift``, ``severity`` and ``value``."""
    mine = metrics[(metrics["metric"] == score) & metrics["shift"].notna()]
    rows = last_rows(mine[mine["run_id"].isin(runs["run_id"])], runs, predictor, "test", shifted=True)
    rows = rows[["run_id", "shift", "severity", "value"]]
    rows = rows.astype({"run_id": str, "shift": str, "severity": float})
    return rows.drop_duplicates(["run_id", "shift", "severity"])


def _under_all(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Keep the shifts under which all runs of ``rows`` were evaluated; returns also their number."""
    seen = rows.drop_duplicates(["run_id", "shift"])["shift"].value_counts()
    shared = seen.index[seen == rows["run_id"].nunique()]
    return rows[rows["shift"].isin(shared)], len(shared)
