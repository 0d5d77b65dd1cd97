"""Draw whether predictions are less certain if they are wrong, and on data unlike those of training."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.figures.parts.axes import Axis
from bench.figures.parts.bands import FEWEST
from bench.figures.parts.chart import Chart, Look, Missing, escaped
from bench.figures.parts.configurations import dashes, short_names
from bench.figures.parts.curves import add_curves, add_seeds, along
from bench.figures.parts.dots import MOST_ROWS, Marks, described, dot_plot, rest
from bench.figures.parts.last_stage import last_rows, scored
from bench.results.words import counted
from bench.statistics.seeds import summarise

_METRICS = "metrics.metric"
#: Measures of the uncertainty of a prediction.
UNCERTAINTIES = {
    "entropy": Axis("entropy", "predictive entropy", digits=3, unit="nats", table=_METRICS),
    "mutual_information": Axis(
        "mutual_information", "mutual information", digits=4, unit="nats", table=_METRICS
    ),
}
#: Measures of how well uncertainty separates errors from right predictions.
DETECTION = {
    "error_auroc": Axis("error_auroc", "AUROC of errors", 100, 2, unit="%", table=_METRICS),
    "aurc": Axis("aurc", "area under the risk-coverage curve", 100, 2, unit="%", table=_METRICS),
}
#: Measures that are drawn against the strength of a corruption.
SHIFTED = {
    "accuracy": Axis("accuracy", "accuracy", 100, 2, unit="%", table=_METRICS),
    "nll": Axis("nll", "NLL", digits=3, unit="nats", table=_METRICS),
    "ece": Axis("ece", "ECE", 100, 2, unit="%", table=_METRICS),
    **UNCERTAINTIES,
}
#: Parts of the run's own data set; all other splits are out of distribution.
_OWN_SPLITS = ("val", "test")
_COVERAGE = Axis("coverage", "coverage", 100, 0, unit="% of examples predicted", table="selective")
_RISK = Axis("risk", "risk", 100, 2, unit="% of those wrong", table="selective")
_SEVERITY = Axis("severity", "severity", 1, 0, table="metrics")
#: Message for runs that an older version scored.
_OLDER = (
    "No run here has {what}: the runs were computed before this was measured, or made no error at all. "
    "--force computes them anew."
)
_NO_INFORMATION = (
    "The mean network predicts once, so that there is no mutual information between a prediction and a "
    "sample. Choose posterior samples."
)


def tells_errors(metrics: pd.DataFrame) -> bool:
    """Tell whether any run of ``metrics`` was scored separately on right and on wrong predictions."""
    return bool((metrics["metric"] == "error_auroc").any())


def separation(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    measure: str,
    predictor: str,
    split: str,
    look: Look | None = None,
    singles: bool = False,
) -> Chart:
    """Draw the mean ``measure`` over right and over wrong predictions, one row per configuration.

    For runs that were not scored separately on these, only the mean over all predictions is drawn.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    measure
        A key of ``UNCERTAINTIES``.
    predictor, split
        The predictor and the part of the data.
    look
        Colours, markers and the order of methods.
    singles
        Whether to draw a small dot for each run.

    Raises
    ------
    Missing
        No finished run has this measure.
    """
    look = look or Look.of(runs)
    axis = UNCERTAINTIES[measure]
    if measure == "mutual_information" and predictor == "mean":
        raise Missing(_NO_INFORMATION)
    stems = [measure, f"{measure}_right", f"{measure}_wrong"]
    table = scored(runs, metrics, stems, predictor, split)
    found = summarise(table, metrics=stems)
    found = found[found[[f"{stem}_mean" for stem in stems]].notna().any(axis=1)]
    if found.empty:
        raise Missing(
            f"No finished run here has {axis.name} of predictor {predictor} on split {split}. "
            "Choose another split or predictor, or widen the filters."
        )
    found = _by_method(found, look)
    shown = found.head(MOST_ROWS)
    told = found[f"{measure}_wrong_mean"].notna()
    if told.any():
        marks = [
            Marks(f"{measure}_right", "right predictions", "filled", 0.14),
            Marks(f"{measure}_wrong", "wrong predictions", "open", -0.14),
            Marks(measure, "all", "tick"),
        ]
        title = f"Is {axis.name} higher where predictions are wrong?"
        higher = int((found[f"{measure}_wrong_mean"] > found[f"{measure}_right_mean"]).sum())
        alt = (
            f"Mean {axis.name} is higher over wrong than over right predictions in {higher} of {len(found)}."
        )
    else:
        marks = [Marks(measure, "all predictions")]
        title = f"How large is {axis.name}?"
        most = found.iloc[int(found[f"{measure}_mean"].argmax())]
        alt = (
            f"Mean {axis.name} of {counted(len(found), 'configuration')}; {most['config_label']} has the "
            f"largest, {most[f'{measure}_mean']:.{axis.digits}f} {axis.unit}."
        )
    figure = dot_plot(shown, marks, axis, short_names(shown, look), look, table if singles else None)
    return Chart(
        title=title,
        figure=figure,
        data=found[described(stems)],
        how=(
            f"{_where(predictor, split)} A mark is the mean over a run's examples, then over seeds; "
            "whiskers are the 95 % t-interval over seeds (none for a single seed), n in the tooltip; "
            "whiskers beyond possible values leave the frame. A gap between right and wrong predictions "
            "means that uncertainty warns of errors; its size depends on how confident the predictor is "
            f"overall.{rest(found)}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=alt,
    )


def detection(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    score: str,
    predictor: str,
    split: str,
    look: Look | None = None,
    singles: bool = False,
) -> Chart:
    """Draw how well uncertainty finds errors, one row per configuration, best first.

    ``score`` is a key of ``DETECTION``; the other arguments are those of ``separation``.

    Raises
    ------
    Missing
        No finished run has ``score``.
    """
    look = look or Look.of(runs)
    axis = DETECTION[score]
    table = scored(runs, metrics, [score], predictor, split)
    found = summarise(table, metrics=[score])
    found = found.dropna(subset=f"{score}_mean")
    if found.empty:
        raise Missing(_OLDER.format(what=axis.name))
    rising = axis.better == "lower"
    found = found.sort_values(f"{score}_mean", ascending=rising, kind="stable").reset_index(drop=True)
    shown = found.head(MOST_ROWS)
    marks = [Marks(score, axis.name)]
    figure = dot_plot(shown, marks, axis, short_names(shown, look), look, table if singles else None)
    best = found.iloc[0]
    limit = {
        "error_auroc": "50 % is chance. It does not depend on how many errors there are.",
        "aurc": "It also depends on the number of errors: with fewer it is smaller for the same ordering.",
    }[score]
    return Chart(
        title="How well does uncertainty find the errors?",
        figure=figure,
        data=found[described([score])],
        how=(
            f"{_where(predictor, split)} Means over seeds with the 95 % t-interval over seeds (none for a "
            "single seed), n in the tooltip; whiskers beyond possible values leave the frame. "
            f"{limit}{rest(found)}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"{axis.name} of {counted(len(found), 'configuration')}; the best mean is "
            f"{best[f'{score}_mean'] * axis.factor:.{axis.digits}f} {axis.unit} by {best['config_label']}."
        ),
    )


def risk_coverage(
    runs: pd.DataFrame,
    selective: pd.DataFrame,
    config_ids: Sequence[str],
    predictor: str,
    split: str,
    look: Look | None = None,
    singles: bool = False,
) -> Chart:
    """Draw the error rate among the most confident share of examples, a line for each of ``config_ids``.

    Parameters
    ----------
    runs, selective
        The tables of these names.
    config_ids
        The configurations.
    predictor, split
        The predictor and the part of the data.
    look
        Colours and dashes.
    singles
        Whether to draw a thin line for each run.

    Raises
    ------
    Missing
        No configuration has a risk-coverage curve.
    """
    look = look or Look.of(runs)
    chosen = _chosen(runs, config_ids)
    mine = selective[selective["run_id"].isin(chosen["run_id"])]
    rows = last_rows(mine, chosen, predictor, split)
    found = along(chosen, rows, "coverage", "risk")
    if found.empty:
        raise Missing(_OLDER.format(what="a risk-coverage curve"))
    figure = look.figure(height=460)
    if singles or found["n"].max() < FEWEST:
        add_seeds(figure, chosen, rows, _COVERAGE, _RISK, "risk", look)
    add_curves(figure, found, _COVERAGE, _RISK, short_names(found, look), _dashes(found, look), look)
    figure.update_xaxes(title_text=f"{_COVERAGE.name} ({_COVERAGE.unit})", range=[0, 102], dtick=20)
    figure.update_yaxes(title_text=_RISK.title, rangemode="tozero")
    half = found[(found["x"] - 0.5).abs() < 1e-9]
    said = ""
    if len(half):
        best = half.iloc[int(half["mean"].argmin())]
        said = f" At half of the examples {best['config_label']} has the lowest, {100 * best['mean']:.2f} %."
    return Chart(
        title="How many errors remain when the least confident predictions are withheld?",
        figure=figure,
        data=found.rename(columns={"x": "coverage", "mean": "risk_mean", "half_width": "risk_half_width"}),
        how=(
            f"{_where(predictor, split)} Examples are kept in the order of the probability of their "
            "predicted class; at coverage c the most confident share c of them is kept, and the line is "
            "the mean over seeds of the error rate among these. Bands are the 95 % t-interval over seeds "
            f"at each coverage (none below {FEWEST} seeds), cut to possible values, n in the tooltip. At "
            "full coverage the line ends at the error rate on all examples.\n\n"
            f"**{_RISK.name}**: {_RISK.definition}"
        ),
        alt=f"Error rate against coverage of {found['config_id'].nunique()} configurations.{said}",
    )


def foreign_splits(metrics: pd.DataFrame) -> list[str]:
    """Return the sorted names of the splits of ``metrics`` that are out of distribution."""
    return sorted({str(split) for split in metrics["split"].dropna().unique()} - set(_OWN_SPLITS))


def by_split(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    measure: str,
    split: str,
    predictor: str,
    look: Look | None = None,
) -> Chart:
    """Draw the mean ``measure`` on the test part and on an out-of-distribution ``split``.

    There is one row per configuration. The arguments are those of ``separation``, with a split from
    ``foreign_splits``.

    Raises
    ------
    Missing
        No finished run was evaluated on ``split``.
    """
    look = look or Look.of(runs)
    axis = UNCERTAINTIES[measure]
    if measure == "mutual_information" and predictor == "mean":
        raise Missing(_NO_INFORMATION)
    own = scored(runs, metrics, [measure], predictor, "test")
    other = scored(runs, metrics, [measure], predictor, split)
    found = summarise(own.assign(test=own[measure], other=other[measure]), metrics=["test", "other"])
    found = _by_method(found.dropna(subset="other_mean"), look)
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


def shifts(metrics: pd.DataFrame) -> list[str]:
    """Return the sorted names of the corruptions in ``metrics``."""
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
    """Draw a score on the test part against the severity of a corruption, one line per configuration.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    score
        A key of ``SHIFTED``.
    shift
        Name of a corruption; severity 0 is the uncorrupted test part.
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
    chosen = _chosen(runs, config_ids)
    mine = metrics[(metrics["metric"] == score) & metrics["run_id"].isin(chosen["run_id"])]
    rows = last_rows(mine, chosen, predictor, "test", shifted=True)
    rows = rows[rows["shift"].isna() | (rows["shift"] == shift)]
    if rows["shift"].isna().all():
        raise Missing(f"None of the chosen configurations was evaluated under {shift}.")
    level = rows["severity"].astype("Float64").where(rows["shift"].notna(), 0.0)
    found = along(chosen, rows.assign(severity=level.astype("float64")), "severity", "value")
    figure = look.figure(height=420)
    add_curves(figure, found, _SEVERITY, axis, short_names(found, look), _dashes(found, look), look)
    figure.update_xaxes(title_text=f"severity of {escaped(shift)} (0: none)", dtick=1)
    figure.update_yaxes(title_text=axis.title)
    return Chart(
        title=f"What happens to {axis.name} as the data shift?",
        figure=figure,
        data=found.rename(columns={"x": "severity"}),
        how=(
            f"{_where(predictor, 'test')} Mean over seeds at each severity, with bands of the 95 % "
            f"t-interval over seeds (none below {FEWEST} seeds), cut to possible values, n in the "
            f"tooltip.\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"{axis.name} against severity 0 to {found['x'].max():g} of {shift}, "
            f"{found['config_id'].nunique()} configurations."
        ),
    )


def _chosen(runs: pd.DataFrame, config_ids: Sequence[str]) -> pd.DataFrame:
    """Return the runs of ``config_ids``, in that order."""
    places = {config_id: place for place, config_id in enumerate(config_ids)}
    chosen = runs[runs["config_id"].isin(places)]
    return chosen.sort_values("config_id", key=lambda column: column.map(places), kind="stable")


def _by_method(table: pd.DataFrame, look: Look) -> pd.DataFrame:
    places = {method: place for place, method in enumerate(look.ordered(table["method"].astype(str)))}
    order = table.assign(_place=table["method"].astype(str).map(places))
    order = order.sort_values(["_place", "config_label"], kind="stable")
    return order.drop(columns="_place").reset_index(drop=True)


def _dashes(table: pd.DataFrame, look: Look) -> dict[str, str]:
    rows = table.drop_duplicates("config_id")
    return dashes(rows["config_id"].astype(str).tolist(), rows["method"].astype(str).tolist(), look)


def _where(predictor: str, split: str) -> str:
    return f"Predictor `{predictor}`, split `{split}`, last stage of each run."
