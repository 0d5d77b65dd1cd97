"""Draw how well probabilities are calibrated: reliability diagrams, and the effect of temperature scaling."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.figures.parts.axes import axes
from bench.figures.parts.chart import Chart, Look, Missing, interval
from bench.figures.parts.configurations import short_names
from bench.figures.parts.dots import MOST_ROWS, Marks, described, dot_plot, rest
from bench.figures.parts.last_stage import finished, last_rows, scored
from bench.figures.parts.panels import add_keys, add_panel, panels
from bench.results.words import counted
from bench.statistics.nonparametric import wilson
from bench.statistics.seeds import summarise

#: Numbers of bins to choose: that of stored tables, and those that join as many neighbours each.
BINS = (15, 5, 3)
#: A bin with fewer examples per run than this says almost nothing about accuracy.
FEW = 10
#: Greatest number of characters of a line above a panel.
_HEADING = 26
#: Suffix of a predictor's name for its temperature-scaled form.
SCALED = "+temperature"


def bins(
    runs: pd.DataFrame, calibration: pd.DataFrame, predictor: str, split: str, number: int = BINS[0]
) -> pd.DataFrame:
    """Pool the bins of confidence over the seeds of each configuration, for the last stage of finished runs.

    Parameters
    ----------
    runs, calibration
        The tables of these names.
    predictor, split
        The predictor and the part of the data.
    number
        Number of bins, one of ``BINS``.

    Returns
    -------
    pandas.DataFrame
        One row for each configuration and bin with examples: ``config_id``, ``config_label``, ``method``,
        ``bin``, ``lower``, ``upper``, ``count`` (examples of all seeds), ``seeds``, ``per_seed`` (examples
        per seed), ``confidence`` and ``accuracy`` of the pooled examples, ``gap`` (accuracy minus
        confidence), ``low`` and ``high`` (95 % Wilson interval of the accuracy for ``per_seed`` examples).
    """
    done = finished(runs)
    known = done.assign(run_id=done["run_id"].astype(str)).set_index("run_id")
    # filter by run first: the table has 120 rows per run, and only few runs are asked for
    mine = calibration[calibration["run_id"].isin(known.index)]
    rows = last_rows(mine, done, predictor, split).astype({"run_id": str, "count": "float64"})
    rows = rows.drop_duplicates(["run_id", "bin"])
    for column in ("config_id", "config_label", "method"):
        rows[column] = rows["run_id"].map(known[column].astype(str))
    rows["right"] = (rows["accuracy"] * rows["count"]).fillna(0.0).round()
    rows["said"] = (rows["confidence"] * rows["count"]).fillna(0.0)
    if number != BINS[0]:
        rows["bin"] = rows["bin"] * number // BINS[0]
        rows["lower"], rows["upper"] = rows["bin"] / number, (rows["bin"] + 1) / number
    keys = ["config_id", "config_label", "method", "bin", "lower", "upper"]
    found = rows.groupby(keys, as_index=False)[["count", "right", "said"]].sum()
    found = found[found["count"] > 0].reset_index(drop=True)
    seeds = rows.groupby("config_id")["run_id"].nunique()
    found["seeds"] = seeds.reindex(found["config_id"]).to_numpy(dtype=int)
    found["per_seed"] = found["count"] / found["seeds"]
    found["confidence"] = found["said"] / found["count"]
    found["accuracy"] = found["right"] / found["count"]
    found["gap"] = found["accuracy"] - found["confidence"]
    low, high = wilson(found["right"] / found["seeds"], found["per_seed"])
    found["low"], found["high"] = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    return found.drop(columns=["right", "said"])


def reliability(
    runs: pd.DataFrame,
    calibration: pd.DataFrame,
    metrics: pd.DataFrame,
    config_ids: Sequence[str],
    predictor: str,
    split: str,
    look: Look | None = None,
    number: int = BINS[0],
) -> Chart:
    """Draw a reliability diagram for each of ``config_ids``, that with the least ECE first.

    The number of examples of each bin stands below.

    Parameters
    ----------
    runs, calibration, metrics
        The tables of these names.
    config_ids
        The configurations, one panel each.
    predictor
        For example ``samples`` or ``samples+temperature``.
    split
        ``test`` or ``val``.
    look
        Colours and markers.
    number
        Number of bins, one of ``BINS``.

    Raises
    ------
    Missing
        No configuration has bins of ``predictor`` on ``split``.
    """
    look = look or Look.of(runs)
    chosen = runs[runs["config_id"].isin(list(config_ids))]
    found = bins(chosen, calibration, predictor, split, number)
    if found.empty:
        raise Missing(_nothing(chosen, predictor, split))
    scores = summarise(
        scored(chosen, metrics, ["ece", "ece_null"], predictor, split), metrics=["ece", "ece_null"]
    )
    names = short_names(chosen, look)
    known = scores.set_index("config_id")["ece_mean"].astype("float64").dropna()
    shown = [config_id for config_id in config_ids if config_id in set(found["config_id"])]
    shown.sort(key=lambda config_id: float(known.get(config_id, math.inf)))
    parts = {config_id: found[found["config_id"] == config_id] for config_id in shown}
    headings = [_heading(names[config_id], scores, parts[config_id]) for config_id in shown]
    figure = panels(headings, look)
    for place, config_id in enumerate(shown):
        add_panel(figure, place, parts[config_id], FEW, look)
    add_keys(figure, FEW, look)
    lowest, most = min(1.0, float(found["per_seed"].min())), float(found["per_seed"].max())
    figure.update_yaxes(
        selector={"type": "log"}, range=[np.log10(lowest) - 0.15, np.log10(most) + 0.25],
        dtick=2, tickformat="~s",
    )  # fmt: skip
    few = int((found["per_seed"] < FEW).sum())
    worst = known.reindex(shown)
    said = ""
    if worst.notna().any():
        label = names[str(worst.idxmax())]
        said = f" The largest mean ECE is {100 * worst.max():.2f} %, of {label}."
    when = " after temperature scaling" if predictor.endswith(SCALED) else ""
    return Chart(
        title=f"Do probabilities mean what they say{when}?",
        figure=figure,
        data=found,
        how=(
            f"Predictor `{predictor}`, split `{split}`, last stage of each run. Examples are sorted into "
            f"{number} bins of equal width by the probability of the predicted class. A mark stands at the "
            "mean confidence and accuracy of a bin, over all seeds together. The bar from the diagonal to "
            "the mark is the gap; above the diagonal the predictor is underconfident, below it "
            "overconfident. Whiskers are the 95 % Wilson interval of the accuracy for the number of examples "
            "that one run has in the bin. Seeds predict the same examples, or many of the same, so that the "
            "pooled examples are not independent, and an interval for all of them would be too narrow. "
            "Below: "
            f"examples per run in each bin, on a log scale; {few} of {len(found)} bins that are not empty "
            f"have fewer than {FEW} (hollow marks, under the dotted line), and say almost nothing.\n\nAbove "
            "each panel: ECE, mean "
            "over seeds ± half width of the 95 % t-interval (none for a single seed), and the ECE to expect "
            f"if the predictor were calibrated, both with {BINS[0]} bins; the least ECE comes first."
            f"\n\n**ECE**: {axes()['ece'].definition}"
        ),
        alt=(
            f"Accuracy against confidence in {number} bins, {len(shown)} panels, predictor {predictor}, "
            f"split {split}.{said} {few} of {len(found)} bins have fewer than {FEW} examples a run."
        ),
    )


def scaling(
    runs: pd.DataFrame,
    metrics: pd.DataFrame,
    score: str,
    predictor: str,
    split: str,
    look: Look | None = None,
    singles: bool = False,
) -> Chart:
    """Draw ``score`` before and after temperature scaling, one row per configuration, best after it first.

    Parameters
    ----------
    runs, metrics
        The tables of these names.
    score
        A metric that is also a column of ``runs``.
    predictor
        ``mean`` or ``samples``.
    split
        ``test`` or ``val``.
    look
        Colours and markers.
    singles
        Whether to draw a small dot for each run.

    Raises
    ------
    Missing
        No finished run was temperature-scaled.
    """
    look = look or Look.of(runs)
    axis = axes()[score]
    table = _before_after(runs, metrics, score, predictor, split)
    stems = ["before", "after", "change", "null_before", "null_after", "temperature"]
    found = summarise(table, metrics=stems)[described(stems)]
    if found.empty:
        raise Missing(_nothing(runs, predictor + SCALED, split))
    rising = axis.better == "lower"
    found = found.sort_values("after_mean", ascending=rising, kind="stable").reset_index(drop=True)
    shown = found.head(MOST_ROWS)
    marks = [
        Marks("before", "before", "open", 0.14),
        Marks("after", "after temperature scaling", "filled", -0.14),
    ]
    null = ""
    if score == "ece":
        marks += [
            Marks("null_before", "if it were calibrated", "tick", 0.14),
            Marks("null_after", "if it were calibrated", "tick", -0.14),
        ]
        null = (
            " A short line for each mark shows the ECE to expect of a calibrated predictor with the same "
            "confidences; an ECE near it is no evidence of miscalibration."
        )
    figure = dot_plot(shown, marks, axis, short_names(shown, look), look, table if singles else None)
    change = found["change_mean"] * axis.factor
    told = found["change_half_width"].notna() & (found["change_mean"].abs() > found["change_half_width"])
    less, more = int((told & (change < 0)).sum()), int((told & (change > 0)).sum())
    return Chart(
        title=f"What does one temperature do to {axis.name}?",
        figure=figure,
        data=found,
        how=(
            f"Predictor `{predictor}` before, `{predictor}{SCALED}` after; split `{split}`, last stage. "
            "Marks are means over seeds, whiskers 95 % t-intervals over seeds (none for a single seed), n "
            "in the tooltip. The data below also have the change, paired by seed, with its t-interval, which "
            f"is not corrected for the number of rows.{null}{rest(found)}\n\n**{axis.name}**: "
            f"{axis.definition}"
        ),
        alt=(
            f"{axis.name} before and after temperature scaling of {counted(len(found), 'configuration')}: "
            f"the 95 % interval of the change lies below 0 for {less} and above 0 for {more} of them."
        ),
    )


def _before_after(
    runs: pd.DataFrame, metrics: pd.DataFrame, score: str, predictor: str, split: str
) -> pd.DataFrame:
    """Return runs scored before and after scaling, with both scores, the change, ``ece_null`` and T."""
    names = [score, "ece_null"]
    before = scored(runs, metrics, names, predictor, split)
    after = scored(runs, metrics, [*names, "temperature"], predictor + SCALED, split)
    table = before.assign(
        before=before[score], after=after[score], change=after[score] - before[score],
        null_before=before["ece_null"], null_after=after["ece_null"], temperature=after["temperature"],
    )  # fmt: skip
    return table[table["change"].notna()]


def _heading(name: str, scores: pd.DataFrame, mine: pd.DataFrame) -> str:
    """Write the heading of a panel: name, ECE, ECE if calibrated, and number of nearly empty bins."""
    axis = axes()["ece"]
    row = scores[scores["config_id"] == mine["config_id"].iloc[0]].iloc[0]
    ece = interval(row["ece_mean"], row["ece_half_width"], axis.digits, axis.factor)
    null = interval(row["ece_null_mean"], float("nan"), axis.digits, axis.factor)
    few = int((mine["per_seed"] < FEW).sum())
    method, _, rest = name.partition(" · ")
    lines = [f"<b>{method}</b>", *textwrap.wrap(rest, _HEADING, break_long_words=False)]
    lines += [f"ECE {ece} %", f"{null} % if calibrated", f"{few} of {len(mine)} bins nearly empty"]
    return "<br>".join(lines)


def _nothing(runs: pd.DataFrame, predictor: str, split: str) -> str:
    """Explain why there is nothing of ``predictor`` on ``split``, and what would bring it."""
    if not (runs["status"] == "done").any():
        return "No run here is finished. Widen the filters, or see the page Runs."
    if predictor.endswith(SCALED):
        return (
            "No run here has temperature scaling. Runs of the protocol refit have no validation part to fit "
            "a temperature on; other runs were computed by a version without temperature scaling, and "
            "--force computes them anew."
        )
    return (
        f"No run here has bins of predictor {predictor} on split {split}. Choose another split or predictor."
    )
