"""Draw whether predictions are less certain if they are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.figures.parts.axes import Axis
from bench.figures.parts.bands import FEWEST
from bench.figures.parts.chart import Chart, Look, Missing
from bench.figures.parts.configurations import chosen_runs, dashes_of, ranked, short_names
from bench.figures.parts.curves import add_curves, add_seeds, along
from bench.figures.parts.dots import MOST_ROWS, Marks, described, dot_plot, rest
from bench.figures.parts.last_stage import last_rows, scored, where
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
_COVERAGE = Axis("coverage", "coverage", 100, 0, unit="% of examples predicted", table="selective")
_RISK = Axis("risk", "risk", 100, 2, unit="% of those wrong", table="selective")
#: Message for runs that an older version scored.
_OLDER = (
    "No run here has {what}: the runs were computed before this was measured, or made no error at all. "
    "--force computes them anew."
)
#: Message where a measure needs several draws.
NO_INFORMATION = (
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

    The one in which it rises most where predictions are wrong comes first. For runs that were not scored
    separately on these, only the mean over all predictions is drawn.

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
        raise Missing(NO_INFORMATION)
    stems = [measure, f"{measure}_right", f"{measure}_wrong"]
    table = scored(runs, metrics, stems, predictor, split)
    found = summarise(table, metrics=stems)
    found = found[found[[f"{stem}_mean" for stem in stems]].notna().any(axis=1)]
    if found.empty:
        raise Missing(
            f"No finished run here has {axis.name} of predictor {predictor} on split {split}. "
            "Choose another split or predictor, or widen the filters."
        )
    told = found[f"{measure}_wrong_mean"].notna()
    rise = found[f"{measure}_wrong_mean"] - found[f"{measure}_right_mean"]
    found = ranked(found, rise if told.any() else found[f"{measure}_mean"])
    shown = found.head(MOST_ROWS)
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
            f"Mean {axis.name} of {counted(len(found), 'configuration')}; "
            f"{look.configuration(most['config_label'])} has the largest, "
            f"{most[f'{measure}_mean']:.{axis.digits}f} {axis.unit}."
        )
    figure = dot_plot(shown, marks, axis, short_names(shown, look), look, table if singles else None)
    return Chart(
        title=title,
        figure=figure,
        data=found[described(stems)],
        how=(
            f"{where(predictor, split)} A mark is the mean over a run's examples, then over seeds; "
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
            f"{where(predictor, split)} Means over seeds with the 95 % t-interval over seeds (none for a "
            "single seed), n in the tooltip; whiskers beyond possible values leave the frame. "
            f"{limit}{rest(found)}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"{axis.name} of {counted(len(found), 'configuration')}; the best mean is "
            f"{best[f'{score}_mean'] * axis.factor:.{axis.digits}f} {axis.unit} by "
            f"{look.configuration(best['config_label'])}."
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
    chosen = chosen_runs(runs, config_ids)
    mine = selective[selective["run_id"].isin(chosen["run_id"])]
    rows = last_rows(mine, chosen, predictor, split)
    found = along(chosen, rows, "coverage", "risk")
    if found.empty:
        raise Missing(_OLDER.format(what="a risk-coverage curve"))
    figure = look.figure(height=460)
    if singles or found["n"].max() < FEWEST:
        add_seeds(figure, chosen, rows, _COVERAGE, _RISK, "risk", look)
    add_curves(figure, found, _COVERAGE, _RISK, short_names(found, look), dashes_of(found, look), look)
    figure.update_xaxes(title_text=f"{_COVERAGE.name} ({_COVERAGE.unit})", range=[0, 102], dtick=20)
    figure.update_yaxes(title_text=_RISK.title, rangemode="tozero")
    half = found[(found["x"] - 0.5).abs() < 1e-9]
    said = ""
    if len(half):
        best = half.iloc[int(half["mean"].argmin())]
        name = look.configuration(best["config_label"])
        said = f" At half of the examples {name} has the lowest, {100 * best['mean']:.2f} %."
    asked, counted_in = "How many errors remain when the least confident predictions are withheld?", ""
    if split not in ("val", "test"):
        asked = f"How many errors remain if {split} comes with the test inputs, and the least confident go?"
        counted_in = (
            f" Test inputs and those of `{split}` are ranked together; every prediction on the latter is an "
            "error."
        )
    return Chart(
        title=asked,
        figure=figure,
        data=found.rename(columns={"x": "coverage", "mean": "risk_mean", "half_width": "risk_half_width"}),
        how=(
            f"{where(predictor, split)}{counted_in} Examples are kept in the order of the "
            "probability of their predicted class; at coverage c the most confident share c of them is "
            "kept, and the line is the mean over seeds of the error rate among these. Bands are the 95 % "
            f"t-interval over seeds at each coverage (none below {FEWEST} seeds), cut to possible values, n "
            "in the tooltip. At full coverage the line ends at the error rate on all examples.\n\n"
            f"**{_RISK.name}**: {_RISK.definition}"
        ),
        alt=f"Error rate against coverage of {found['config_id'].nunique()} configurations.{said}",
    )
