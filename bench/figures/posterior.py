"""Draw what the posterior is worth: what averaging over weight samples gains over the mean network."""

from __future__ import annotations

import pandas as pd

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Chart, Look, Missing
from bench.figures.parts.configurations import short_names
from bench.figures.parts.dots import MOST_ROWS, Marks, described, dot_plot, rest
from bench.figures.parts.last_stage import scored
from bench.results.tables import metrics_reader
from bench.results.tables.columns import SCORES
from bench.results.words import counted
from bench.statistics.seeds import margin_of, summarise
from bench.statistics.splits import scope

#: Gains that can be drawn: columns of ``runs``.
GAINS = tuple(metrics_reader.GAINS)


def scored_by(runs: pd.DataFrame, metrics: pd.DataFrame, predictor: str) -> pd.DataFrame:
    """Return ``runs`` with the scores of another predictor on the test set.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    predictor
        A key of ``bench.results.tables.columns.PREDICTORS``; ``runs`` has the scores of ``samples``.

    Returns
    -------
    pandas.DataFrame
        The same rows and columns; scores are null where a method has no such predictor.
    """
    if predictor == "samples":
        return runs
    found = scored(runs, metrics, SCORES, predictor, "test").set_index("run_id")
    mine = runs.copy()
    for name in SCORES:
        mine[name] = mine["run_id"].map(found[name]).astype("float64")
    return mine


def posterior_gain(
    runs: pd.DataFrame, gain: str = GAINS[0], look: Look | None = None, singles: bool = False
) -> Chart:
    """Draw the gain of each configuration with its 95 % t-interval, largest first.

    Parameters
    ----------
    runs
        The table ``runs`` of one suite, scale, data set and network.
    gain
        One of ``GAINS``.
    look
        Colours and markers.
    singles
        Whether to draw a small dot for each run.

    Raises
    ------
    Missing
        No finished run has both predictors.

    Examples
    --------
    >>> import bench
    >>> runs = bench.tables("criteria_ablation", "results/reference", scale="demo")["runs"]
    >>> bench.figures.posterior_gain(runs).data["posterior_gain_nll_mean"].abs().max() < 0.02
    True
    """
    look = look or Look.of(runs)
    axis, score = axes()[gain], axes()[metrics_reader.GAINS[gain]].name
    found = summarise(runs, metrics=[gain]).dropna(subset=[f"{gain}_mean"])
    if found.empty:
        raise Missing("No finished run here has both a mean network and averaged samples.")
    found = found.sort_values(f"{gain}_mean", ascending=False, kind="stable").reset_index(drop=True)
    shown = found.head(MOST_ROWS)
    done = runs[runs["status"] == "done"]
    names = short_names(shown, look)
    figure = dot_plot(shown, [Marks(gain, axis.name)], axis, names, look, done if singles else None)
    figure.add_vline(x=0, line={"color": look.ink, "width": 1})
    mean, half, margin = found[f"{gain}_mean"], found[f"{gain}_half_width"], margin_of(gain)
    helps, harms = int((mean - half > 0).sum()), int((mean + half < 0).sum())
    inert = int(((mean - half > -margin) & (mean + half < margin)).sum())
    return Chart(
        title="What is the posterior worth?",
        figure=figure,
        data=found[described([gain])],
        how=(
            f"A mark is the mean over seeds of the {score} of the mean network minus that of "
            "averaged samples, on the test set, without temperature: right of 0, averaging helps. A method "
            "without a posterior has 0. Whiskers are the 95 % t-interval over seeds (none for a single "
            "seed), not corrected for the number of configurations. "
            f"{scope(runs)}{rest(found)}\n\n**{axis.name}**: {axis.definition}"
        ),
        alt=(
            f"Of {counted(len(found), 'configuration')}, averaging helps in {helps} and harms in {harms}, by "
            f"their own intervals; in {inert} the gain is within ± {margin * axis.factor:g} {axis.step}: "
            "there, the posterior does nothing that matters."
        ),
    )
